# What happens to a worker.

setup() {
    load faults
    use_faulty_instance shared
    workers_with
}

teardown() {
    heal
}

# Waits until every delivery that was begun by now has its answer.
answered_by_now() {
    local begun
    begun=$(grep -c '^{"begin": ' "$record")
    eventually answered_first "$begun"
}

# answered_first N: whether the first N deliveries of the load have.
answered_first() {
    (($(awk -F '[ ,]' -v n="$1" '$1 == "{\"end\":" && $2 < n' "$record" | wc -l) == $1))
}

@test "workers killed with -9 in turn: no request fails, and each is back within seconds" {
    local n
    begin_load --flawless
    for n in 1 2 1 2; do
        replace_worker "$n" KILL
        # What the other one has taken over is to be served before that is killed too; see the next test.
        answered_by_now
    done
    end_load
}

# nginx gives a request to each worker once, and no more: it might be what kills them.
@test "both workers killed with -9 under the same requests: 503 for these, and their repeats are stored, once" {
    begin_load
    lock_table 1000
    eventually_blocked
    replace_worker 1 KILL
    replace_worker 2 KILL
    end_sessions
    end_load
    grep -q '"status": 503' "$record"
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

@test "a worker that hangs is killed and replaced by its watchdog: no request fails, and none waits for nginx's 15 s" {
    local old
    begin_load --flawless --slowest-ms 14000
    signal_worker 1 STOP
    eventually new_worker 1 "$old"
    end_load
    logged "worker hangs, killing it. pid=$old"
}

@test "a worker killed with -9 while its batch waits in PostgreSQL: the other stores it, once" {
    local old
    begin_load --flawless
    lock_table 1000
    eventually_blocked
    signal_worker 1 KILL
    end_sessions
    eventually new_worker 1 "$old"
    load_goes_on 20
    end_load
}

@test "SIGTERM: what has reached the worker is stored and answered, and then it ends" {
    set_worker_env
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    lock_table 1000
    in_background python3 "$faults/sockets.py" "$BATS_TEST_TMPDIR/socket" deliver 20
    eventually grep -qs '^sent' "$BATS_TEST_TMPDIR/background.log"
    eventually_blocked
    eventually grep -q sent "$BATS_TEST_TMPDIR/background.log"
    kill "$worker"
    eventually grep -q 'msg=draining' "$BATS_TEST_TMPDIR/log"
    end_sessions
    wait "$worker"
    wait "$pid"
}

@test "SIGTERM under socket activation while a row is locked: others are stored meanwhile, and by the next worker" {
    local socket=$BATS_TEST_TMPDIR/socket log=$BATS_TEST_TMPDIR/log times=$BATS_TEST_TMPDIR/times old count slowest
    set_worker_env
    measure_slowness
    in_background "${worker_env[@]}" python3 "$root/tests/e2e/peers.py" replace "$socket" "$WORKER" "$log"
    eventually grep -q ' serves on ' "$log"
    program=locked-$EPOCHREALTIME
    [[ $(python3 "$faults/sockets.py" "$socket" post "$(receipt a ".program_identifier = \"$program\"")") == 201 ]]
    lock_rows "$program"
    in_background python3 "$faults/sockets.py" "$socket" post "$(receipt a ".program_identifier = \"$program\" | .sku = \"b\"")"
    in_background python3 "$faults/sockets.py" "$socket" one_by_one "$times"
    eventually test -s "$times"
    eventually_blocked
    old=$(pgrep -P "${background[0]}")
    kill -TERM "$old"
    eventually grep -q 'msg=draining' "$log"
    # Longer than a pause: it was accepted again, and the row is still locked.
    count=$(wc -l <"$times")
    eventually has_more_lines "$times" $((count + 50))
    kill -0 "$old"
    end_sessions
    eventually ended "$old"
    grep -q 'msg=drained' "$log"
    count=$(wc -l <"$times")
    eventually has_more_lines "$times" $((count + 50))
    runs_here "$pid"
    slowest=$(sort -n "$times" | tail -n 1)
    echo "the slowest took $slowest ms"
    ((slowest < 3000 * slow))
}

# has_more_lines FILE COUNT
has_more_lines() {
    (($(wc -l <"$1") > $2))
}
