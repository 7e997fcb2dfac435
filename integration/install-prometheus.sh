#!/bin/sh
# Sees to it that `prometheus` and `promtool` are there for the test of the metrics, and prints the folder that holds them: the
# machine's own, or Debian's package unpacked into build/prometheus (no root, nothing installed, no service started).
# Without them that test says that it was left out, so this never fails.
set -eu

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
home=$root/build/prometheus

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    dirname "$(command -v prometheus)"
    exit 0
fi
if [ ! -x "$home/usr/bin/promtool" ]; then
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "install-prometheus: no prometheus here, and no Debian: its test will be left out" >&2
        exit 0
    fi
    echo "install-prometheus: unpacking Debian's prometheus into $home" >&2
    draft=$home.draft-$$
    mkdir -p "$draft"
    fetch() {
        (cd "$draft" && apt-get download -qq prometheus >/dev/null 2>&1 && dpkg-deb -x prometheus_*.deb .)
    }
    fetch || { apt-get update -qq >/dev/null 2>&1 && fetch; } || {
        echo "install-prometheus: it cannot be fetched: its test will be left out" >&2
        rm -rf "$draft"
        exit 0
    }
    rm -rf "$home" "$draft"/prometheus_*.deb
    mv "$draft" "$home"
fi
echo "$home/usr/bin"
