# What run and scale share: instances of deploy/local in a scratch folder, which is removed in the end.
# shellcheck shell=bash

umask 022
unset "${!RECEIPTD_@}" "${!PG@}" PORT
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
root=$(realpath "$here/../..")
# shellcheck source=../../deploy/shared.bash
source "$root/deploy/shared.bash"
for program in wrk python3; do
    command -v "$program" >/dev/null || { echo "$program is missing; it is Debian's package $program" >&2 && exit 1; }
done

# Not /tmp, which is memory on some systems: writing to disk is part of what is measured.
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/receiptd-bench.XXXXXX")
# For the user who runs the instances when root is the caller.
chmod 755 "$scratch"
measuring=

clean_up() {
    local status=$? state
    trap '' EXIT HUP INT TERM
    if [[ $measuring ]]; then
        kill -- "-$measuring" 2>/dev/null || :
        wait "$measuring" 2>/dev/null || :
    fi
    for state in "$scratch"/*/; do
        [[ ! -d $state/run ]] || local_instance "$(basename "$state")" stop >/dev/null || :
    done
    rm -rf "$scratch"
    exit "$status"
}
at_end clean_up

# local_instance NAME COMMAND [NAME=VALUE...]: deploy/local with the state folder of that name.
local_instance() {
    instance_in "$scratch/$1" "${@:2}"
}

# start_instance NAME [NAME=VALUE...]: quietly, unless it fails.
start_instance() {
    echo "Starting the instance \"$1\""
    local_instance "$1" start "${@:2}" >"$scratch/start.log" || { cat "$scratch/start.log" && return 1; }
}

# measure SCRIPT ARGUMENT...: a group of processes of its own, so that all of it can be ended.
measure() {
    set -m
    python3 "$here/$1" "${@:2}" </dev/null &
    measuring=$!
    set +m
    wait "$measuring"
}
