# What people and CI run. `make` alone lists it.
.DEFAULT_GOAL := help
.SHELLFLAGS := -eu -c

WASM_TARGET := wasm32-wasip1
STEP := ./integration/step.sh

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: toolchain ## dist/mlgate.wasm and dist/mlgate, with the filter's size and number of crates
	@$(STEP) "the filter" cargo rustc --locked --quiet --lib --crate-type cdylib --profile wasm --target $(WASM_TARGET) --no-default-features -p mlgate
	@$(STEP) "the command" cargo build --locked --quiet --release --features cli --bin mlgate
	@mkdir -p dist
	@cp target/$(WASM_TARGET)/wasm/mlgate.wasm target/release/mlgate dist/
	@printf 'dist/mlgate.wasm: %s bytes, %s crates beside mlgate\n' "$$(wc -c < dist/mlgate.wasm)" \
		"$$(cargo tree --locked -p mlgate --no-default-features --target $(WASM_TARGET) -e normal --prefix none --format '{p}' | sed 's/ (\*)//' | sort -u | grep -vc '^mlgate ')"

check: toolchain ## formatting, lints on native and Wasm, documentation
	@$(STEP) "formatting" cargo fmt --all --check
	@$(STEP) "lints, native" cargo clippy --locked --quiet --all-features --all-targets -p mlgate -p mlgate-integration -- -D warnings
	@$(STEP) "lints, Wasm" cargo clippy --locked --quiet --no-default-features --target $(WASM_TARGET) -p mlgate -- -D warnings
	@$(STEP) "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --no-deps --all-features --document-private-items -p mlgate

unit: toolchain ## unit tests, properties, the golden table on the core, the command, the walls
	@$(STEP) "the core and the command" cargo test --locked --quiet --all-features -p mlgate

e2e: toolchain ## the built filter in the real Envoy
	@$(STEP) "the real Envoy" ./integration/install-envoy.sh 1.40.0
	@$(STEP) "end to end" cargo test --locked --quiet -p mlgate-integration

test: check build unit e2e demo ## everything that CI runs but compose

demo: toolchain ## the article's story against the real Envoy, as a table; then the audit log is verified
	@cargo run --locked --quiet -p mlgate-integration --bin mlgate-demo

run: toolchain ## the same stack, left running, with the lines to type
	@cargo run --locked --quiet -p mlgate-integration --bin mlgate-demo -- --keep

toolchain:
	@rustup target list --installed | grep -q '^$(WASM_TARGET)$$' || rustup target add $(WASM_TARGET)

.PHONY: help build check unit e2e test demo run toolchain
