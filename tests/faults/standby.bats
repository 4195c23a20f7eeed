# Synchronous streaming replication, and failover. Each test has a primary and a standby of its own.

setup() {
    load faults
    # As long a deadline as a delivery to the shared one would need.
    use_instance shared
    measure_slowness
    deadline=RECEIPTD_DEADLINE_MS=$(lasts "$(scaled_ms 1000)" 10000)
    [[ -e $E2E_SCRATCH/instances/replicated ]] || start_instance replicated
    use_faulty_instance replicated
    replicates || make_primary
    workers_with "PGHOST=$PGHOST,$state/run-second" "$deadline"
}

teardown() {
    local pid
    for pid in "${background[@]}" ${load-}; do
        kill "$pid" 2>/dev/null || :
    done
    # Where the primary is not what it was, the next test begins with other ones.
    in_sync || discard_instance
}

teardown_file() {
    load faults
    state=$E2E_SCRATCH/instances/replicated
    discard_instance
}

# The server at PGHOST gets a standby, for which its commits wait.
make_primary() {
    allow_replication
    set_postgresql synchronous_standby_names '*'
    make_standby second
}

@test "the standby gone: commits wait, which is a 503 and never a success; service when it is back" {
    eventually in_sync
    begin_load --slowest-busy-ms "$(lasts $(($(scaled_ms 1000) + 2000 * slow)) 12000)"
    pgdata=$state/second stop_postgresql immediate
    refuses
    # Its repetition is no success either.
    post "$(receipt "$unit")"
    expect 503
    post '{'
    expect 503
    pgdata=$state/second start_postgresql
    eventually serves
    end_load
}

@test "the wait for the standby cancelled: a warning of PostgreSQL's, which is a 503 and never a success" {
    local body
    eventually in_sync
    # So that both workers expect repetitions, which they could answer by reading only.
    for body in {1..8}; do
        post "$(receipt known)"
    done
    expect 200 unchanged
    pgdata=$state/second stop_postgresql immediate
    new_unit
    for body in "$(receipt "$unit")" "$(receipt "$unit")" "$(receipt "$unit" '.sku = "x"')" '{'; do
        in_background sql "do \$\$
            begin
                for i in 1 .. 1000 loop
                    perform pg_cancel_backend(pid) $of_workers and wait_event = 'SyncRep';
                    perform pg_sleep(0.01), pg_stat_clear_snapshot();
                end loop;
            end \$\$"
        post "$body"
        expect 503
        end_sessions
    done
    logged 'committed, but not on the standby'
    pgdata=$state/second start_postgresql
    eventually serves
}

@test "the primary killed with -9 and the standby promoted: nothing acknowledged is missing, service within seconds" {
    eventually in_sync
    begin_load
    load_goes_on 100
    kill -9 "$(head -n 1 "$pgdata/postmaster.pid")"
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$state/second" -s -w promote
    PGHOST=$state/run-second
    eventually serves
    load_goes_on 20
    end_load
}

@test "switched over while the old primary still runs, read-only: the workers find the new one" {
    eventually in_sync
    # Connections that are idle then, and that nothing but the refused write makes the workers drop.
    worker_serves 1
    worker_serves 2
    set_postgresql default_transaction_read_only on
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$state/second" -s -w promote
    PGHOST=$state/run-second
    eventually worker_serves 1
    eventually worker_serves 2
    begin_load --flawless
    load_goes_on 100
    end_load
}

# worker_serves N: that one, asked without nginx.
worker_serves() {
    new_unit
    [[ $(python3 "$faults/sockets.py" "$state/run/worker-$1.sock" post "$(receipt "$unit")") == 201 ]]
}
