#!/bin/sh
# Installs PyPI's wasmtime VERSION into build/wasmtime-VERSION (a Python venv) and prints the path of its Python.
# Does nothing when it is already there. Needs python3 with venv; no root.
set -eu

version=${1:?usage: integration/install-wasmtime.sh VERSION}
case $version in *[!0-9.]*) echo "install-wasmtime: \`$version\` is not a version like 50.0.1" >&2; exit 3 ;; esac

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
home=$root/build/wasmtime-$version
python=$home/bin/python

if ! "$python" -c 'import wasmtime' 2>/dev/null; then
    mkdir -p "$root/build"
    echo "install-wasmtime: installing wasmtime $version into $home" >&2
    python3 -m venv "$home" >&2
    "$home/bin/pip" install --quiet --disable-pip-version-check "wasmtime==$version" >&2
fi
echo "$python"
