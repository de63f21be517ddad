//! Scenarios: the real dispatch in the model emulator, between real clusters and real Kratos servers.

mod kills;
mod leadership;
mod orders;
mod refusals;
mod relations;
mod repeats;
mod rig;
mod story;
