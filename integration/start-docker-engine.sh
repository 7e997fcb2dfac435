#!/bin/sh
# Sees to it that a container engine answers, and prints what to set for it:
#
#   eval "$(integration/start-docker-engine.sh)"     # DOCKER_HOST, where it is not the usual one
#   integration/start-docker-engine.sh --stop        # ends what this script started
#
# One that answers already is used as it is. Otherwise Debian's docker.io, docker-compose and debootstrap are installed
# and dockerd is started by hand: as root on Debian or Ubuntu, with cgroups and overlayfs. Everything of it is in
# MLGATE_ENGINE (default /var/tmp/mlgate-engine). Where no engine can run it says why in one line and ends with 75.
set -eu

home=${MLGATE_ENGINE:-/var/tmp/mlgate-engine}
host=unix://$home/docker.sock

cannot() {
    echo "start-docker-engine: no container engine here: $1" >&2
    exit 75
}

if [ "${1:-}" = --stop ]; then
    [ -e "$home/dockerd.pid" ] || exit 0
    pid=$(cat "$home/dockerd.pid")
    kill "$pid" 2>/dev/null || exit 0
    for _ in $(seq 1 60); do
        kill -0 "$pid" 2>/dev/null || exit 0
        sleep 0.5
    done
    echo "start-docker-engine: dockerd $pid does not end" >&2
    exit 1
fi

if command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1; then
    exit 0
fi
if command -v docker >/dev/null && DOCKER_HOST=$host timeout 20 docker info >/dev/null 2>&1; then
    echo "export DOCKER_HOST=$host"
    exit 0
fi
[ "$(id -u)" = 0 ] || cannot "this is not root"
if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null ||
    ! command -v docker-compose >/dev/null || ! command -v debootstrap >/dev/null; then
    command -v apt-get >/dev/null || cannot "neither dockerd nor apt-get"
    echo "start-docker-engine: installing Debian's docker.io, docker-compose and debootstrap" >&2
    # RUNLEVEL: the packages would start an engine of their own.
    install() {
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            docker.io docker-compose debootstrap ca-certificates iptables >/dev/null 2>&1
    }
    install || { apt-get update -qq >/dev/null 2>&1 && install; } || cannot "docker.io cannot be installed"
fi
mkdir -p "$home"
echo "start-docker-engine: starting dockerd in $home" >&2
setsid dockerd --data-root "$home/data" --exec-root "$home/exec" --pidfile "$home/dockerd.pid" --host "$host" \
    >"$home/dockerd.log" 2>&1 </dev/null &
started=$!
for _ in $(seq 1 120); do
    if DOCKER_HOST=$host timeout 20 docker info >/dev/null 2>&1; then
        echo "export DOCKER_HOST=$host"
        exit 0
    fi
    kill -0 "$started" 2>/dev/null || break
    sleep 0.5
done
kill "$started" 2>/dev/null || true
cannot "dockerd does not start: $(grep -v 'level=info' "$home/dockerd.log" | tail -n 1)"
