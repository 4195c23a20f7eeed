# The workers of the local instance, and the API key; sourced by deploy/local.
# shellcheck shell=bash disable=SC2154 # what deploy/local sets

# Sets key. It is in the file env and nowhere else; the workers have its hash.
make_key() {
    local text did=kept
    if [[ -f $var/env ]]; then
        key=$(sed -nE 's/^(CLIENT|RECEIPTD)_API_KEY=//p' "$var/env")
    fi
    if [[ -z $key ]] || ! grep -qs " $(printf %s "$key" | sha256sum | cut -d ' ' -f 1)\$" "$var/keys"; then
        did=made
        text=$("${as_run_user[@]}" RECEIPTD_KEYS_FILE=/dev/null "$var/bin/receiptd" key local) || die "receiptd cannot make an API key"
        key=$(grep -o 'rk_[A-Za-z0-9_-]*' <<<"$text")
        {
            grep -sv '^local ' "$var/keys" || :
            grep -o 'local [0-9a-f]\{64\}$' <<<"$text"
        } | put "$var/keys" 0600 "$run_user"
        local n
        for n in "${workers[@]}"; do
            ! pid_of "worker-$n" >/dev/null || kill -HUP "$(pid_of "worker-$n")"
        done
    fi
    report 'API key' "$did" "in $link/env"
}

# The programs that run are copies, which building does not disturb and the run user can reach.
install_programs() {
    local owner setting
    owner=$(stat -c %U "$var")
    put "$var/bin/receiptd" 0755 "$owner" workers <"$worker"
    put "$var/bin/keep-running" 0755 "$owner" workers <"$root/deploy/keep-running"
    {
        printf '#!/bin/bash\n# The worker with its environment. Written by deploy/local at every start.\n'
        printf 'exec env -i'
        printf ' %q' PATH=/usr/bin:/bin LC_ALL=C.UTF-8 PGHOST="$run" PGPORT=5432 PGDATABASE=inventory \
            PGUSER=receiptd_writer RECEIPTD_KEYS_FILE="$var/keys"
        for setting in "${worker_settings[@]}"; do
            [[ ! -v $setting ]] || printf ' %q' "$setting=${!setting}"
        done
        # What keep-running wants to be told, and what the doctor is to try.
        # shellcheck disable=SC2016 # for the script that this writes
        printf ' ${NOTIFY_SOCKET:+"NOTIFY_SOCKET=$NOTIFY_SOCKET" "WATCHDOG_USEC=$WATCHDOG_USEC"}%s' \
            ' ${RECEIPTD_URL:+"RECEIPTD_URL=$RECEIPTD_URL" "RECEIPTD_CACERT=$RECEIPTD_CACERT"}'
        printf ' %q "$@"\n' "$var/bin/receiptd"
    } | put "$var/bin/worker" 0755 "$owner" workers
}

start_workers() {
    local n did
    # One after the other: meanwhile nginx gives all requests to the other one.
    for n in "${workers[@]}"; do
        did=runs
        if [[ -e $run/workers.changed ]] || ! pid_of "worker-$n.supervisor" >/dev/null; then
            did=started
            ! pid_of "worker-$n" >/dev/null || did=restarted
            end_worker "$n"
            rm -f "$run/worker-$n.pid" "$run/worker-$n.supervisor.pid"
            detached "$var/log/worker-$n.log" \
                "$var/bin/keep-running" "$run/worker-$n" "$var/bin/worker" --listen "$run/worker-$n.sock" &
        fi
        await 120 serves "$n" || {
            end_worker "$n"
            die_with_log "worker $n does not start" "$var/log/worker-$n.log"
        }
        report "worker $n" "$did" "process $(pid_of "worker-$n"), $run/worker-$n.sock"
    done
    rm -f "$run/workers.changed"
}

# What is wrong between a client and the disk, in words.
examine() {
    local status=0 log=$var/log/doctor.log sockets=("${workers[@]/#/$run/worker-}")
    "${as_run_user[@]}" "RECEIPTD_URL=https://127.0.0.1:$port/inventory_receipt" "RECEIPTD_CACERT=$var/tls/server.crt" \
        "$var/bin/worker" doctor "${sockets[@]/%/.sock}" >"$log" 2>&1 || status=$?
    ((status < 2)) || die_with_log 'it does not work like this' "$log"
    report doctor "$(grep -c '^ok' "$log") ok" "$(grep -c '^warn' "$log" || :) warnings, in $link/log/doctor.log"
}

serves() {
    perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new(Peer => $ARGV[0])' "$run/worker-$1.sock" &&
        pid_of "worker-$1" >/dev/null
}

# A worker answers what it has, which takes up to 10 s. If its supervisor was killed, it runs without.
end_worker() {
    end "worker-$1.supervisor" TERM 60 KILL 30
    end "worker-$1" TERM 60 KILL 30
}
