# The state folder of the local instance; sourced by deploy/local.
# shellcheck shell=bash disable=SC2154 # what deploy/local sets

# Finds out where things are and who runs them, as far as the folder is there.
find_state() {
    var=$(realpath -m -- "$link")
    run=$(realpath -m -- "$var/run")
    if [[ -d $var && $EUID -ne 0 && ! -O $var ]]; then
        die "$link belongs to $(stat -c %U "$var"): be that user, or set LOCAL_VAR to another folder"
    fi
    if ((EUID != 0)); then
        run_user=$(id -un)
    elif [[ -d $var/pgdata ]]; then
        run_user=$(stat -c %U "$var/pgdata")
    else
        run_user=postgres
    fi
    # Without the caller's environment, which can hold the API key; and not deaf to SIGHUP, as what nohup starts is.
    as_run_user=(env --default-signal=HUP -i PATH="$PATH" LC_ALL=C.UTF-8 HOME="$var")
    if ((EUID == 0)) && id "$run_user" >/dev/null 2>&1; then
        set_as_user "$run_user"
        as_run_user=("${as_user[@]}" "${as_run_user[@]}")
    fi
}

# Two of these at a time would disturb each other.
lock() {
    exec 9<"$var"
    flock -n 9 && return
    echo "Waiting for another deploy/local in $link"
    flock -w 180 9 || die "another deploy/local is busy in $link"
}

make_state() {
    # Each of half a dozen configuration files would want them written differently.
    [[ $link != *[\"\'\\\$\`,$'\n']* ]] ||
        die "$link has a quotation mark, dollar, backslash or comma in it: set LOCAL_VAR to another folder"
    id "$run_user" >/dev/null 2>&1 || die "there is no user $run_user; deploy/install-packages makes it"

    if [[ -L $link ]]; then mkdir -p "$var"; else mkdir -p "$link"; fi
    if ((EUID == 0)); then
        chmod go+x "$var"
        "${as_run_user[@]}" test -x "$var" || make_state_elsewhere
    fi
    find_state
    lock
    local owner
    owner=$(stat -c %U "$var")
    make_folder log 0700 "$run_user"
    make_folder tmp 0700 "$run_user"
    make_folder tls 0755 "$run_user"
    make_folder bin 0755 "$owner"
    make_folder nginx 0755 "$owner"
    make_run_folder
    rm -f "$var/log/start.log"
    cd "$var" || exit
}

make_folder() {
    [[ ! -d $var/$1 ]] || return 0
    mkdir -m "$2" "$var/$1"
    ((EUID != 0)) || chown "$3:" "$var/$1"
}

# For a checkout below /root, say.
make_state_elsewhere() {
    local elsewhere
    elsewhere=/var/lib/receiptd-local-$(sha256sum <<<"$link" | cut -c1-12)
    [[ ! -L $link ]] || die "the user $run_user, who is to run things, cannot reach $var"
    rmdir "$link" 2>/dev/null ||
        die "the user $run_user, who is to run things, cannot reach $link: move that folder away for a new one"
    mkdir -p "$elsewhere"
    ln -s "$elsewhere" "$link"
    echo "$link is now a link to $elsewhere, since the user $run_user cannot reach this checkout."
}

# The path of a socket has at most 107 bytes. Below a longer one, run is a link to a short folder.
make_run_folder() {
    local longest short
    longest=$(printf %s "$var/run/.s.PGSQL.5432" | wc -c)
    if [[ -L $var/run && (! -d $run || $(stat -c %U "$run") != "$run_user") ]]; then
        rm "$var/run"
    fi
    if [[ ! -e $var/run && $longest -gt 107 ]]; then
        short=$(mktemp -d /tmp/receiptd-XXXXXX)
        ((EUID != 0)) || chown "$run_user:" "$short"
        ln -s "$short" "$var/run"
    fi
    make_folder run 0700 "$run_user"
    run=$(realpath "$var/run")
}

write_env() {
    local owner
    owner=$(stat -c %U "$var")
    put "$var/env" 0600 "$owner" <<END
CLIENT_API_KEY=$key
RECEIPTD_URL=https://127.0.0.1:$port/inventory_receipt
RECEIPTD_CACERT=$(quote "$var/tls/server.crt")
RECEIPTD_KEYS_FILE=$(quote "$var/keys")
PGHOST=$(quote "$run")
PGPORT=5432
PGDATABASE=inventory
PGUSER=postgres
# The former name of the key, for scripts; not exported, since no program of receiptd knows it.
case \$- in
*a*) set +a; unset RECEIPTD_API_KEY; RECEIPTD_API_KEY=\$CLIENT_API_KEY; set -a ;;
*) unset RECEIPTD_API_KEY; RECEIPTD_API_KEY=\$CLIENT_API_KEY ;;
esac
END
    put "$var/auth-header" 0600 "$owner" <<<"X-Api-Key: $key"
}
