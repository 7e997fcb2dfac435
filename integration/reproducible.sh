#!/bin/sh
# Builds the filter once more, clean, from a copy in another folder and with CARGO_HOME under another name, and fails unless
# it is dist/mlgate.wasm byte for byte.
set -eu

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
cd "$root"
mkdir "$elsewhere/another folder"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from - -c | tar -x -C "$elsewhere/another folder"
# The registry's files are the same ones: only where they seem to lie is another place.
ln -s "${CARGO_HOME:-$HOME/.cargo}" "$elsewhere/cargo"
CARGO_HOME=$elsewhere/cargo CARGO_TARGET_DIR=$elsewhere/target "$elsewhere/another folder/integration/build-filter.sh"
here=$(sha256sum dist/mlgate.wasm | cut -d ' ' -f 1)
there=$(sha256sum "$elsewhere/target/wasm32-wasip1/wasm/mlgate.wasm" | cut -d ' ' -f 1)
echo "dist/mlgate.wasm:            sha256 $here"
echo "the same source, elsewhere:  sha256 $there"
[ "$here" = "$there" ]
