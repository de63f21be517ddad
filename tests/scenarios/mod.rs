//! Scenarios: the real dispatch in the model emulator, between real clusters and real Kratos servers.

mod story;
