# What a worker's socket can meet with.

setup() {
    load faults
    use_faulty_instance shared
    set_worker_env
    measure_slowness
    export slow
    # As few threads as there can be, so that each of them counts.
    start_worker "$BATS_TEST_TMPDIR/log" RECEIPTD_THREADS=1 RECEIPTD_PG_CONNECTIONS=1 -- --listen "$BATS_TEST_TMPDIR/socket"
    background+=("$worker")
    eventually grep -q 'msg="connected to PostgreSQL' "$BATS_TEST_TMPDIR/log"
    threads=$(lasting_threads)
}

# The worker has the threads that it had, closes the connections, and drains in time.
teardown() {
    eventually has_its_threads && end_worker
}

# The ids of the worker's threads. Each attempt to connect and each request to cancel has a thread of its own while it lasts.
lasting_threads() {
    grep -sLxE 'connect|cancel' "/proc/$worker/task/"*/comm || :
}

has_its_threads() {
    [[ $(lasting_threads) == "$threads" ]]
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

@test "records that are no request, in the place of one: the client is cut off, others do not wait" {
    check no_request
}

@test "clients that never finish a request: others are served" {
    check unfinished 2
}

@test "two clients that send byte by byte: others are served, and they are cut off in the end" {
    check slow 2
    eventually grep -q 'level=warning .*took longer than 7000 ms to arrive: [12]"' "$BATS_TEST_TMPDIR/log"
}

@test "hundreds of them" {
    check slow 400
}

@test "clients that send most of a large request, to fill the memory: it is bounded, others are served" {
    check hoarders 300
    grep -q 'level=warning .*no memory for what arrives in parts' "$BATS_TEST_TMPDIR/log"
}

# Also where memory runs out before the request is read.
@test "no memory for a request: whatever is answered has a request id, and a time" {
    ! grep -qaE '__[at]san_init' "$WORKER" || skip 'the sanitizers have an address space of their own'
    check without_memory "$worker"
    grep -Eq ' status=503 ms=.* failure="out of memory"' "$worker_log"
    run ! grep -Ev ' (msg="|request_id=[0-9a-f-]{36} .* ms=[0-9]{1,5}\.[0-9]{3}( |$))' "$worker_log"
}

@test "clients that do not read their answers: they are cut off, others are served" {
    check unread 2
}

@test "clients that say nothing, read nothing or hang up: others are served" {
    check silent 100
}

@test "descriptors used up: who is connected is served, and all are once there are some again" {
    check descriptors "$worker"
}
