# More than PostgreSQL can store.

setup() {
    load faults
    use_faulty_instance shared
    socket=$BATS_TEST_TMPDIR/socket
}

teardown() {
    end_sessions
    [[ -z ${worker-} ]] || end_worker
    heal
    sql "set client_min_messages = warning; drop schema if exists test cascade"
}

# resident N: kilobytes of worker N.
resident() {
    kilobytes_of VmRSS "$(worker_pid "$1")"
}

# kilobytes_of NAME PID: VmRSS, or VmHWM, the most that it ever was.
kilobytes_of() {
    sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$2/status"
}

@test "overload: the excess is told 503 at once, memory stays flat, and it recovers by itself" {
    local n before=()
    measure_slowness
    workers_with RECEIPTD_QUEUE_MAX=8 RECEIPTD_BATCH_MAX=4
    sql "create schema test; grant usage on schema test to receiptd_writer;
        create function test.wait() returns trigger language plpgsql as \$\$
            begin perform pg_sleep(0.05); return null; end \$\$;
        create trigger test before insert on inventory.receipts for each statement execute function test.wait()"
    begin_load --connections 64 --every-ms 0 --slowest-busy-ms $((2000 * slow))
    # By then every thread has had a large body, too.
    load_goes_on 400
    for n in 1 2; do
        before[n]=$(resident "$n")
    done
    load_goes_on "$(lasts 250 6000)"
    for n in 1 2; do
        echo "worker $n: ${before[n]} kB, then $(resident "$n") kB"
        (($(resident "$n") <= before[n] + before[n] / 10))
    done
    sql "set client_min_messages = warning; drop schema test cascade"
    eventually serves
    end_load
    (($(told busy) > 100))
    logged 'the queue is full'
}

@test "large refused deliveries that cannot be stored: the queue is bounded in bytes, the excess is told 503 at once" {
    set_worker_env
    measure_slowness
    start_worker "$BATS_TEST_TMPDIR/log" "RECEIPTD_DEADLINE_MS=$(scaled_ms 3000)" RECEIPTD_QUEUE_MAX_BYTES=4194304 -- --listen "$socket"
    as_dba 'lock table inventory.rejected_receipts in access exclusive mode'
    # Four wait, and as many more are in a batch, until their time is over; some come late, where the machine is busy. By
    # number alone, all of them would wait.
    python3 "$faults/crowd.py" "$socket" large 200 40 "$(($(scaled_ms 3000) / 1000))"
    echo "at the most $(kilobytes_of VmHWM "$worker") kB"
    # While they arrive in parts they have 64 MiB of their own (connection.h).
    (($(kilobytes_of VmHWM "$worker") < 140000))
    end_sessions
    # What it held is not held for ever.
    [[ $(python3 "$faults/crowd.py" "$socket" each <<<'{') == 400 ]]
}

@test "PostgreSQL stands still for a second while 4,000 deliver at once: none is refused" {
    local frozen
    set_worker_env
    (ulimit -n 4200) || skip 'no more descriptors are allowed'
    measure_slowness
    # What has come has to be stored in the usual time by a usual machine.
    start_worker "$BATS_TEST_TMPDIR/log" "RECEIPTD_DEADLINE_MS=$((10000 * slow))" -- --listen "$socket"
    [[ $(python3 "$faults/crowd.py" "$socket" each <<<"$(receipt hiccup)") == 20[01] ]]
    mapfile -t frozen < <(head -n 1 "$pgdata/postmaster.pid" && sql "select pid $of_workers")
    ulimit -n 4200
    python3 "$faults/crowd.py" "$socket" hiccup 4000 1 "${frozen[@]}"
}
