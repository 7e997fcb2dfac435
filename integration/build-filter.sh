#!/bin/sh
# Builds the filter so that the same source gives the same bytes, wherever it lies and whoever builds it: places of this
# machine that would get into messages of panics (the registry's copies, this folder, the toolchain) get fixed names.
# Cargo.lock and rust-toolchain.toml fix the rest. Prints nothing; `make build` copies what it makes.
set -eu

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
toolchain=$(rustc --print sysroot)
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
between=$(printf '\037')
CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
CARGO_ENCODED_RUSTFLAGS="$CARGO_ENCODED_RUSTFLAGS$between--remap-path-prefix=$root=/mlgate"
CARGO_ENCODED_RUSTFLAGS="$CARGO_ENCODED_RUSTFLAGS$between--remap-path-prefix=$toolchain/lib/rustlib/src/rust=/rustc/$commit"
export CARGO_ENCODED_RUSTFLAGS
exec cargo rustc --locked --quiet --lib --crate-type cdylib --profile wasm --target wasm32-wasip1 \
    --no-default-features -p mlgate
