#!/bin/sh
# Builds the test runner of wasm-bindgen VERSION into build/wasm-bindgen-VERSION and prints its path. It must have the
# version of the crate in Cargo.lock. Does nothing when it is already there.
set -eu

version=${1:?usage: integration/install-wasm-bindgen.sh VERSION}
case $version in *[!0-9.]*) echo "install-wasm-bindgen: \`$version\` is not a version like 0.2.130" >&2; exit 3 ;; esac

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
home=$root/build/wasm-bindgen-$version
runner=$home/bin/wasm-bindgen-test-runner

if [ ! -x "$runner" ]; then
    mkdir -p "$root/build"
    echo "install-wasm-bindgen: building wasm-bindgen $version into $home, once: some minutes" >&2
    # Without its default features it cannot download a browser, and needs no TLS.
    cargo install --quiet --root "$home" --no-default-features --bin wasm-bindgen-test-runner \
        wasm-bindgen-cli --version "=$version" >&2
fi
"$runner" --version >/dev/null
echo "$runner"
