//! Chooses a face: hook or action, or worker.

fn main() {}
