# What happens to a worker.

setup() {
    load faults
    use_faulty_instance shared
    workers_with
}

teardown() {
    heal
}

@test "workers killed with -9 in turn: no request fails, and each is back within seconds" {
    local n
    begin_load --flawless
    for n in 1 2 1 2; do
        replace_worker "$n" KILL
    done
    end_load
}

@test "workers drained and replaced in turn: no request fails" {
    local n
    begin_load --flawless
    for n in 1 2 1 2; do
        replace_worker "$n" TERM
    done
    end_load
    logged 'msg=drained'
}

@test "a worker killed with -9 while its batch waits in PostgreSQL: the other stores it, once" {
    begin_load --flawless
    lock_table 2
    eventually_blocked
    replace_worker 1 KILL
    end_load
}

@test "SIGTERM: what has reached the worker is stored and answered, and then it ends" {
    set_worker_env
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    lock_table 2
    in_background python3 "$faults/sockets.py" "$BATS_TEST_TMPDIR/socket" deliver 20
    eventually_blocked
    kill "$worker"
    wait "$worker"
    wait "$pid"
}
