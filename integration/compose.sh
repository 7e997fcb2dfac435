#!/bin/sh
# Brings integration/compose.yaml up around each play, plays the story, the scenarios and the golden table against it,
# and brings everything down, whatever happens. What it made has the project's name; nothing else is touched.
# `make compose` has built what it needs.
set -eu

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
if ! timeout 20 docker info >/dev/null 2>&1; then
    echo "compose: no container engine answers (integration/start-docker-engine.sh starts one as root on Debian)" >&2
    exit 1
fi
if [ -z "${MLGATE_COMPOSE:-}" ]; then
    if docker compose version >/dev/null 2>&1; then MLGATE_COMPOSE="docker compose"; else MLGATE_COMPOSE=docker-compose; fi
fi
set -a
. ./build/images.env
MLGATE_PROJECT=mlgate-$$
MLGATE_WASM=$root/dist/mlgate.wasm
MLGATE_COMMAND=$root/dist/mlgate
MLGATE_ENVOY=$root/integration/compose-envoy.sh
set +a
export MLGATE_COMPOSE

# Each play takes down what it has brought up. This is for one that was killed.
down() {
    ids=$(docker ps --all --quiet --filter "name=^$MLGATE_PROJECT")
    # shellcheck disable=SC2086 # words
    [ -z "$ids" ] || docker rm --force --volumes $ids >/dev/null
    networks=$(docker network ls --quiet --filter "name=^$MLGATE_PROJECT")
    # shellcheck disable=SC2086 # words
    [ -z "$networks" ] || docker network rm $networks >/dev/null
}
trap down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

demo=${CARGO_TARGET_DIR:-target}/debug/mlgate-demo
echo "$MLGATE_COMPOSE, $($MLGATE_COMPOSE version | head -n 1), Docker $(docker version --format '{{.Server.Version}}')"
failed=
./integration/step.sh "the story in containers" "$demo" || failed="$failed story"
./integration/step.sh "the scenarios in containers" "$demo" --scenarios || failed="$failed scenarios"
./integration/step.sh "the golden table in the container's Envoy" \
    cargo test --locked --quiet -p mlgate-integration --test golden -- --nocapture || failed="$failed table"
if [ -n "$failed" ]; then
    echo "compose: failed:$failed" >&2
    exit 1
fi
