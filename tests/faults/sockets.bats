# What a worker's socket can meet with.

setup() {
    load faults
    use_faulty_instance shared
    set_worker_env
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    background+=("$worker")
    threads=$(ls "/proc/$worker/task")
}

# The worker has the threads that it had, lets go of the connections, and drains in time.
teardown() {
    [[ $(ls "/proc/$worker/task") == "$threads" ]]
    end_worker
}

# check NAME [ARGUMENT...]
check() {
    python3 "$faults/sockets.py" "$BATS_TEST_TMPDIR/socket" "$@"
}

@test "bytes that are no FastCGI: the client is cut off, others are served" {
    check garbage 1
}

@test "requests cut short at any byte: nothing of them is stored, others are served" {
    check cut_short
}

@test "clients that never finish a request: others are served" {
    check unfinished 2
}

@test "clients that say nothing, read nothing or hang up: others are served" {
    check silent 100
}

@test "descriptors used up: who is connected is served, and all are once there are some again" {
    check descriptors "$worker"
}
