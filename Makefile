# What people and CI run. `make` alone lists it.
.DEFAULT_GOAL := help
.SHELLFLAGS := -eu -c

WASM_TARGET := wasm32-wasip1
WASM_CORE := wasm32-unknown-unknown
WASM_BINDGEN := $(shell awk '/^name = "wasm-bindgen"$$/ { getline; gsub(/[^0-9.]/, ""); print }' Cargo.lock)
STEP := ./integration/step.sh

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: toolchain ## dist/mlgate.wasm and dist/mlgate, with the filter's size and number of crates
	@$(STEP) "the filter" ./integration/build-filter.sh
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
	@$(STEP) "a browser, where it can be had" ./integration/install-chromium.sh
	@$(STEP) "the core and the command" cargo test --locked --quiet --all-features -p mlgate

e2e: toolchain ## the built filter in the real Envoy
	@$(STEP) "the real Envoy" ./integration/install-envoy.sh 1.40.0
	@$(STEP) "a Redis, where it can be had" ./integration/install-redis.sh
	@$(STEP) "a Prometheus, where it can be had" sh -c './integration/install-prometheus.sh >/dev/null'
	@$(STEP) "an OpenID provider, where it can be had" sh -c './integration/install-openid-provider.sh >/dev/null || echo "its tests will be left out"'
	@$(STEP) "end to end" cargo test --locked --quiet -p mlgate-integration

test: check build unit test-wasm e2e demo ## everything that CI runs but reproducible, sbom and compose

versions: toolchain ## the golden table on five versions of Envoy, written into the README
	@$(STEP) "five versions of Envoy" ./integration/versions.sh

test-wasm: toolchain ## the core on Wasm under Node: every answer the same as natively
	@if ! command -v node >/dev/null; then \
		echo "test-wasm: left out, there is no Node.js here (Debian, Ubuntu: apt-get install nodejs)"; exit 0; fi; \
	rm -rf target/tmp/native; \
	$(STEP) "the runner" ./integration/install-wasm-bindgen.sh $(WASM_BINDGEN); \
	$(STEP) "the core, native" cargo test --locked --quiet --all-features -p mlgate --test golden --test portable; \
	$(STEP) "the core, Wasm" env CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER="$$PWD/build/wasm-bindgen-$(WASM_BINDGEN)/bin/wasm-bindgen-test-runner" \
		cargo test --locked --no-default-features --features cases,fallback --target $(WASM_CORE) -p mlgate --test golden --test portable; \
	printf '%s answers are the same natively and on Wasm\n' "$$(cat target/tmp/native/* | wc -l)"

demo: toolchain ## the README's story against the real Envoy, as a table; then the audit log is verified and analysed
	@cargo run --locked --quiet -p mlgate-integration --bin mlgate-demo

bench: toolchain ## what the gate costs in CPU time, beside Envoy without it and its own JWT filter; one key among many
	@cargo bench --locked --quiet -p mlgate-integration --bench gate
	@cargo bench --locked --quiet -p mlgate-integration --bench key_lookup

bench-core: toolchain ## what one decision costs beside Cedar, Rego and Casbin, natively and on Wasm, and its instructions
	@cargo run --locked --quiet --release -p mlgate-peers --bin bench-core
	@cargo build --locked --quiet --release --target $(WASM_TARGET) -p mlgate-peers --bin bench-core
	@python=$$(./integration/install-wasmtime.sh 50.0.1) && echo && \
	"$$python" peers/instructions.py target/$(WASM_TARGET)/release/bench-core.wasm
	@if ! command -v node >/dev/null; then echo "bench-core: time on Wasm left out, there is no Node.js here"; exit 0; fi; \
	printf '\non Wasm, without casbin, whose runtime WASI has not:\n'; \
	node --no-warnings peers/wasi.mjs target/$(WASM_TARGET)/release/bench-core.wasm

peers: toolchain ## 20,000 random pairs of policies and requests, the same answer here and in Cedar
	@$(STEP) "the other engines" cargo test --locked --release -p mlgate-peers -- --nocapture

run: toolchain ## the same stack, left running, with the lines to type
	@cargo run --locked --quiet -p mlgate-integration --bin mlgate-demo -- --keep

scenarios: toolchain ## stolen key, insider, retry loop: the damage without the gate and with it (e2e plays them too)
	@cargo run --locked --quiet -p mlgate-integration --bin mlgate-demo -- --scenarios

images: build ## every image of integration/compose.yaml; where no registry can be reached, from Debian's and PyPI's packages
	@$(STEP) "images" ./integration/images.sh

compose: images ## story, scenarios and golden table against docker compose (integration/start-docker-engine.sh starts an engine)
	@$(STEP) "the harness" cargo build --locked --quiet -p mlgate-integration --bins
	@./integration/compose.sh

reproducible: build ## the filter again, clean, in another folder and for another user: the same SHA-256
	@$(STEP) "the filter once more" ./integration/reproducible.sh

sbom: build ## dist/*.cdx.json (CycloneDX) and dist/SHA256SUMS
	@python3 integration/sbom.py
	@cd dist && sha256sum mlgate.wasm mlgate *.cdx.json > SHA256SUMS && cat SHA256SUMS

deny: ## licences, sources and banned crates of every dependency (cargo-deny)
	@command -v cargo-deny >/dev/null || test -x build/cargo-deny/bin/cargo-deny || \
		$(STEP) "cargo-deny" cargo install --quiet --locked --root build/cargo-deny cargo-deny --version 0.20.2
	@PATH="$$PATH:$$PWD/build/cargo-deny/bin" cargo deny --workspace --all-features --config .deny.toml check bans licenses sources

toolchain:
	@for target in $(WASM_TARGET) $(WASM_CORE); do \
		rustup target list --installed | grep -q "^$$target\$$" || rustup target add $$target; done

.PHONY: bench bench-core build check compose demo deny e2e help images peers reproducible run sbom scenarios test test-wasm toolchain unit versions
