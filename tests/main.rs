//! The real binary on real clusters, driven by a model emulator.
