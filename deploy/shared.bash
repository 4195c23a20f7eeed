# What the scripts of deploy/ and tests/ share; sourced.
# shellcheck shell=bash disable=SC2034 # who sources this uses what is set here

oldest_postgresql=15

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

# put_programs_first VERSION: PostgreSQL's own programs (find_postgresql) and the system's python3 come first in PATH, not
# Debian's psql, which is a script in Perl, or a python3 that a version manager picks at each start.
put_programs_first() {
    find_postgresql "$1" || :
    export PATH=${pg_bin:+$pg_bin:}/usr/sbin:/usr/bin:/sbin:/bin:$PATH
}

# await SECONDS COMMAND...: tries until it succeeds; fails when it does not within the time. Each pause is a tenth of the
# time that has passed: short where that matters, and few tries, which are processes mostly, where it takes long.
await() {
    local now begun=${EPOCHREALTIME/[.,]/} deadline_us=$(($1 * 1000000)) passed_us pause_us pause
    shift
    until "$@"; do
        now=${EPOCHREALTIME/[.,]/} passed_us=$((now - begun))
        ((passed_us <= deadline_us)) || return 1
        pause_us=$((passed_us < 200000 ? 20000 : passed_us < 5000000 ? passed_us / 10 : 500000))
        printf -v pause 0.%06d "$pause_us"
        sleep "$pause"
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
    env LOCAL_VAR="$1" PORT=0 "${@:3}" "$(dirname "${BASH_SOURCE[0]}")/local" "$2" </dev/null 3>&-
}
