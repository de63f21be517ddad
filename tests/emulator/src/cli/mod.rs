//! The operator's command line.

mod status;
