# Everything sets itself up; a Rust toolchain and the package registries are enough.
.PHONY: setup test test-all ory-matrix chaos demo shell pack docs

# Real PostgreSQL, Patroni, Kratos and Hydra for the tests.
setup:
	tests/peers/setup

test: setup
	cargo build --workspace --bins
	cargo test --workspace

NEEDS_ORY_BIN := runbook::cut_off scenarios::hydra::with_credentials \
	scenarios::in_place_hydra::with_credentials scenarios::in_place_hydra::typed

# With the slow ones. Pairs of releases whose servers no folder holds are said to be not run, by name.
test-all: setup
	cargo build --workspace --bins
	cargo test --workspace -- --include-ignored $(if $(ORY_BIN),,$(addprefix --skip ,$(NEEDS_ORY_BIN)))
	$(if $(ORY_BIN),,@echo "not run, for want of ORY_BIN: $(NEEDS_ORY_BIN)")

# Every pair of releases that src/apps/pairs.rs claims, there and back in both orders, with real servers: those that setup
# builds and those in the folder that ORY_BIN names (kratos-v1.1.0, kratos-v25.4.0, kratos-v26.2.0, hydra-v2.2.0,
# hydra-v2.3.0-canonical, which answers v2.3.0, hydra-v25.4.0 and hydra-v26.2.0). PAIR=kratos-1.3.1 plays those whose name
# contains that. What each pair showed is kept in target/ory-matrix; summary.json there has a line for each, and
# WRITE_DOCS=1 makes the table of docs/ory-matrix.md of it. Fails when a pair failed, or one that needs no ORY_BIN was not run.
ory-matrix: setup
	cargo build --workspace --bins
	PAIR="$(PAIR)" cargo test --test main runbook::ory_matrix::every_pair -- --exact --ignored --nocapture

# N rounds of a migration under live writers with faults at random places, drawn from SEED; LANES stages side by side.
# Goes on where it ended, also after the rounds that docs/chaos keeps; ROUND=… plays one again. The figures are left in
# target/chaos/summary.json; rounds.jsonl and summary.json there, copied to docs/chaos, keep them.
chaos: setup
	cargo build --workspace --bins
	mkdir -p target/chaos
	[ -e target/chaos/rounds.jsonl ] || cp docs/chaos/rounds.jsonl target/chaos/ 2>/dev/null || true
	N="$(or $(N),1000)" SEED="$(SEED)" ROUND="$(ROUND)" LANES="$(LANES)" \
		cargo test --test main chaos::rounds -- --exact --ignored --nocapture

# The whole story on two clusters with live writers; ORDER=documented plays the other order, ORDER=both both of them
# one after the other, and tells how long nobody could write in each. With CONTROLLER=1 the coordinator has credentials
# for the controller's API, and the operator types only `migrate` and `finalize`.
# The figures are left in target/demo/summary.json.
demo: setup
	cargo build --workspace --bins
	ORDER="$(ORDER)" CONTROLLER="$(CONTROLLER)" target/debug/demo

# A shell in which `juju` acts on an emulated model with real servers inside, and serves its API to charms.
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
