# Which PostgreSQL is here, for all scripts that run one; sourced.
# shellcheck shell=bash

readonly oldest_postgresql=13

# newest_postgresql VERSION: prints that version, or with '' the newest one, if the server's programs are here, in
# /usr/lib/postgresql/VERSION/bin, and it is new enough; else nothing.
newest_postgresql() {
    local folder version newest=
    for folder in /usr/lib/postgresql/*/bin; do
        version=${folder#/usr/lib/postgresql/} version=${version%/bin}
        [[ -x $folder/initdb && $version =~ ^[0-9]+$ && $version == "${1:-$version}" ]] || continue
        if ((version >= oldest_postgresql && version > ${newest:-0})); then
            newest=$version
        fi
    done
    printf '%s' "$newest"
}
