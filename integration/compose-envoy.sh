#!/bin/sh
# Envoy as its container runs it, under the name of a program: MLGATE_ENVOY for the golden table. Its service is `alone` of
# integration/compose.yaml; only the folder of the run and the filter are mounted. Ends with the container, and the other
# way round, also when it is killed.
set -eu

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
name=${MLGATE_PROJECT:-mlgate}-alone-$$
export MLGATE_STACKS="$root/build/stacks"
mkdir -p "$MLGATE_STACKS"

last=
for argument in "$@"; do
    # The container's user writes this file, and is not who made the folder.
    [ "$last" != --admin-address-path ] || chmod o+w "$(dirname "$argument")"
    last=$argument
done

# shellcheck disable=SC2086 # words
compose() { $MLGATE_COMPOSE --project-name "${MLGATE_PROJECT:-mlgate}-alone" --file "$root/integration/compose.yaml" "$@"; }

end() {
    docker rm --force "$name" >/dev/null 2>&1 || true
}
(
    trap '' TERM INT
    while kill -0 $$ 2>/dev/null; do sleep 0.2; done
    end
) >/dev/null 2>&1 &
trap 'docker stop --time 10 "$name" >/dev/null 2>&1' TERM INT

# The secrets that the gate reads come from here, by name: no command line shows them.
secrets=$(env | sed -n 's/^\(MLGATE_[A-Z0-9_]*\)=.*/-e \1/p')
# shellcheck disable=SC2086 # words
compose run -T --rm --no-deps $secrets --name "$name" alone "$@" &
wait $! || status=$?
end
exit "${status:-0}"
