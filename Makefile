# Everything sets itself up; a Rust toolchain and the package registries are enough.
.PHONY: setup test test-all demo shell pack docs

# Real PostgreSQL and real Kratos for the tests.
setup:
	tests/peers/setup

test: setup
	cargo build --workspace --bins
	cargo test --workspace

# With the slow ones.
test-all: setup
	cargo build --workspace --bins
	cargo test --workspace -- --include-ignored

# The whole story on two clusters with live writers; ORDER=documented plays the other order.
# The figures are left in target/demo/summary.json.
demo: setup
	cargo build --workspace --bins
	ORDER="$(ORDER)" target/debug/demo

# A shell in which `juju` acts on an emulated model with real servers inside.
shell: setup
	cargo build --workspace --bins
	target/debug/model

# The charm, with charmcraft, left in target/pack/; then its unpacked dispatch plays the story in the emulator.
pack: setup
	tests/pack
	cargo build --workspace --bins
	DISPATCH=target/pack/unpacked/dispatch cargo test --test main scenarios::story

# docs/messages.md, read out of the source.
docs:
	WRITE_DOCS=1 cargo test --test main messages
