//! Scenarios: the real dispatch in the model emulator, between real clusters and real Kratos servers.

mod bad_input;
mod closing;
mod faults;
mod hold;
mod kills;
mod leadership;
mod lost_journal;
mod matrix;
mod models;
mod native;
mod newcomer;
mod options;
mod orders;
mod parameters;
mod refusals;
mod relations;
mod repeats;
mod retire;
mod rig;
mod secrets;
mod shapes;
mod story;
mod unreachable;
mod way_back;
