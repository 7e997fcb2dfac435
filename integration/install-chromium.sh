#!/bin/sh
# Sees to it that a headless Chromium is there for the test of `mlgate audit serve`: Debian's package, where this is root.
# Without it that test says that it was skipped, so this never fails.
set -eu

if command -v chromium >/dev/null || command -v chromium-browser >/dev/null; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "install-chromium: no chromium here, and not root on Debian: its test will be skipped" >&2
    exit 0
fi
echo "install-chromium: installing Debian's chromium" >&2
apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null 2>&1 || {
    apt-get update -qq >/dev/null 2>&1 &&
        apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null 2>&1
} || echo "install-chromium: it cannot be installed: its test will be skipped" >&2
