# Synchronous streaming replication, and failover. Each test begins with what the one before it has left: a primary and
# its standby.

setup_file() {
    load faults
    start_instance replicated RECEIPTD_DEADLINE_MS="$(lasts 1000 10000)" >/dev/null
    use_faulty_instance replicated
    allow_replication
    set_postgresql synchronous_standby_names '*'
    make_standby second
    workers_with "PGHOST=$PGHOST,$state/run-second,$state/run-third"
}

setup() {
    load faults
    use_faulty_instance replicated
    workers_with "PGHOST=$PGHOST,$state/run-second,$state/run-third"
}

teardown() {
    local pid
    for pid in "${background[@]}" ${load-}; do
        kill "$pid" 2>/dev/null || :
    done
}

teardown_file() {
    load faults
    use_faulty_instance replicated
    local name
    for name in second third; do
        pgdata=$state/$name stop_postgresql immediate || :
    done
}

@test "the standby gone: commits wait, which is a 503 and never a success; service when it is back" {
    eventually in_sync
    begin_load --slowest-busy-ms "$(lasts 3000 12000)"
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
    sleep 1
    kill -9 "$(head -n 1 "$pgdata/postmaster.pid")"
    sleep 0.5
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$state/second" -s -w promote
    PGHOST=$state/run-second
    eventually serves
    sleep 0.5
    end_load
}

@test "switched over while the old primary still runs, read-only: the workers find the new one" {
    PGHOST=$state/run-second
    make_standby third
    set_postgresql synchronous_standby_names '*'
    eventually in_sync
    # Connections that are idle then, and that nothing but the refused write makes the workers drop.
    worker_serves 1
    worker_serves 2
    set_postgresql default_transaction_read_only on
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$state/third" -s -w promote
    PGHOST=$state/run-third
    eventually worker_serves 1
    eventually worker_serves 2
    begin_load --flawless
    sleep 0.5
    end_load
}

# worker_serves N: that one, asked without nginx.
worker_serves() {
    new_unit
    [[ $(python3 "$faults/sockets.py" "$state/run/worker-$1.sock" post "$(receipt "$unit")") == 201 ]]
}
