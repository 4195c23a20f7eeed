# Memory and descriptors of one worker over many deliveries: DELIVERIES (1000000), in SECS (1800) seconds at the most.

setup() {
    load ../faults
    use_faulty_instance shared
    workers_with RECEIPTD_LOG_LEVEL=warning
    # All to one worker.
    cp -p "$state/nginx/receiptd-http.conf" "$BATS_TEST_TMPDIR/conf"
    sed -i '/worker-2\.sock/s/;$/ down;/' "$state/nginx/receiptd-http.conf"
    reload_nginx
}

# Returns when only the new processes are left: the former ones close kept connections, also of a client just come.
reload_nginx() {
    kill -HUP "$(<"$state/run/nginx.pid")"
    sleep 0.5
    eventually one_generation
}

one_generation() {
    [[ $(ps --ppid "$(<"$state/run/nginx.pid")" -o args=) != *'shutting down'* ]]
}

say() {
    echo "# $*" >&3
}

descriptors() {
    find "/proc/$worker/fd" -type l | wc -l
}

# idle: whether the worker has no more descriptors than before it was used, but for the one to PostgreSQL.
idle() {
    (($(descriptors) <= unused + 1))
}

# measure: sets resident, in kB; waits until nginx has let go of its connections, to count the descriptors.
measure() {
    resident=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$worker/status")
    reload_nginx
    eventually idle || :
    say "$(printf '%9d deliveries, %4d s: %d kB resident, %d descriptors' "$done" "$((SECONDS - began))" \
        "$resident" "$(descriptors)")"
}

@test "memory at the end within 5 % of that after a tenth, and no descriptor more" {
    local deliveries=${DELIVERIES:-1000000} seconds=${SECS:-1800}
    local worker began=$SECONDS part=0 done=0 base='' output unused
    worker=$(worker_pid 1)
    unused=$(descriptors)
    while ((done < deliveries)); do
        ((SECONDS - began < seconds))
        output=$(wrk -t 2 -c 32 -d 5 -s "$faults/long/soak.lua" "$RECEIPTD_URL" -- "$CLIENT_API_KEY" \
            "$EPOCHREALTIME" 3>&-)
        [[ $output != *'status '* && $output != *'Socket errors'* ]] || { echo "$output" && return 1; }
        done=$((done + $(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' <<<"$output")))
        ((done * 10 / deliveries > part)) || continue
        part=$((done * 10 / deliveries))
        measure
        base=${base:-$resident}
    done
    (($(sql "select count(*) from inventory.receipts where program_identifier = 'soak'") > done * 8 / 10))
    [[ $(worker_pid 1) == "$worker" ]]
    ((resident <= base + base / 20))
    idle
}
