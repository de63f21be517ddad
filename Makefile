# Everything sets itself up; a Rust toolchain and the package registries are enough.
.PHONY: setup test pack

# Real PostgreSQL and real Kratos for the tests.
setup:
	tests/peers/setup

test: setup
	cargo build --workspace --bins
	cargo test --workspace

# The charm, with charmcraft; left in target/pack/.
pack:
	tests/pack
