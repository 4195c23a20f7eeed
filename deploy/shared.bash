# What the scripts of deploy/ and tests/ share; sourced.
# shellcheck shell=bash disable=SC2034 # who sources this uses what is set here

oldest_postgresql=13

# find_postgresql VERSION: sets pg_version to that version, or with '' to the newest one, and pg_bin to the folder with its
# programs. Fails when they are not here, or too old.
find_postgresql() {
    local folder version
    pg_version='' pg_bin=''
    for folder in /usr/lib/postgresql/*/bin; do
        version=${folder#/usr/lib/postgresql/} version=${version%/bin}
        [[ -x $folder/initdb && $version =~ ^[0-9]+$ && $version == "${1:-$version}" ]] || continue
        if ((version >= oldest_postgresql && version > ${pg_version:-0})); then
            pg_version=$version pg_bin=$folder
        fi
    done
    [[ $pg_bin ]]
}

# set_as_user USER: sets as_user, which put before a command makes root run it as that user. Others are that user.
set_as_user() {
    as_user=()
    ((EUID != 0)) || as_user=(setpriv --reuid="$1" --regid="$(id -g "$1")" --init-groups)
}

# await SECONDS COMMAND...: tries until it succeeds; fails when it does not within the time.
await() {
    local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME/[.,]/} <= deadline)) || return 1
        sleep 0.02
    done
}

# at_end COMMAND: when the script ends, by a signal too.
at_end() {
    # shellcheck disable=SC2064 # the command of now
    trap "$1" EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# instance_in STATE COMMAND [NAME=VALUE...]: deploy/local with that state folder, settings and a free port.
instance_in() {
    mkdir -p "$1"
    # Nor bats' own descriptor.
    env RECEIPTD_VAR="$1" PORT=0 "${@:3}" "$(dirname "${BASH_SOURCE[0]}")/local" "$2" </dev/null 3>&-
}
