#!/bin/sh
# Runs a command and says how long it took: step.sh NAME COMMAND…
set -u
name=$1
shift
start=$(date +%s)
printf '== %s\n' "$name"
"$@"
status=$?
printf '== %s: %s s%s\n' "$name" "$(($(date +%s) - start))" "$([ $status -eq 0 ] || echo ", FAILED with $status")"
exit $status
