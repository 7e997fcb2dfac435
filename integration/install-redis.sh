#!/bin/sh
# Sees to it that `redis-server` is there for the tests of the rate limit service: Debian's package, where this is root.
# Without it these tests say that they were left out, so this never fails.
set -eu

if command -v redis-server >/dev/null; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "install-redis: no redis-server here, and not root on Debian: its tests will be left out" >&2
    exit 0
fi
echo "install-redis: installing Debian's redis-server" >&2
# RUNLEVEL: the package would start a server of its own on the machine's port 6379.
install() {
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server \
        >/dev/null 2>&1
}
install || { apt-get update -qq >/dev/null 2>&1 && install; } ||
    echo "install-redis: it cannot be installed: its tests will be left out" >&2
