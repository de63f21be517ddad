//! The hands: one file per step, with do and undo together. Every step observes before it acts, so
//! it may be begun again at any point.

pub mod preflight;
