# Many deliveries at once, through both workers.

teardown_file() {
    load common
    use_instance shared
    spare_worker
}

setup() {
    load common
    use_instance shared
    local n
    share_requests
    for n in 1 2; do
        log_start[n]=$(stat -c %s "$state/log/worker-$n.log")
    done
}

# No batch met a deadlock, or had one key twice: what is tried again inside is hidden from a sender, and slow.
teardown() {
    local n
    for n in 1 2; do
        run ! grep -a ' level=error ' <(tail -c "+$((log_start[n] + 1))" "$state/log/worker-$n.log")
    done
}

@test "two hundred deliveries of one key at once: one 201, and both workers had some" {
    local one two
    one=$(deliveries_of 1) two=$(deliveries_of 2)
    deliver --connections 200 --deliveries 200 --keys 1 --again 1 --new 1 --flawless
    [[ $(told created) == 1 && $(told unchanged) == 199 ]]
    (($(deliveries_of 1) > one && $(deliveries_of 2) > two))
}

@test "revisions of one key at once: they count without a gap, and the history is complete" {
    deliver --connections 32 --deliveries 400 --keys 1 --revise 1 --flawless
    [[ $(told created) == 1 ]]
    (($(told revised) > 300))
}

@test "new, known, revised and refused deliveries of a few keys at once" {
    deliver --connections 32 --deliveries 1500 --keys 40 --new 1 --again 2 --revise 2 --invalid 1 --malformed 1 \
        --flawless
    local result
    for result in created unchanged revised; do
        (($(told "$result") > 0))
    done
}

@test "64 kept connections and two event threads: nobody starves" {
    measure_slowness
    deliver --connections 64 --deliveries 6400 --flawless --slowest-ms $((5000 * slow))
    [[ $(told created) == 6400 ]]
}

@test "connections that say nothing do not keep others waiting" {
    measure_slowness
    python3 "$e2e/peers.py" idle 100 "$state/run/worker-1.sock" "$state/run/worker-2.sock" >/dev/null 3>&- &
    local idle=$!
    deliver --connections 16 --deliveries 400 --flawless --slowest-ms $((3000 * slow)) || { kill "$idle"; return 1; }
    kill "$idle"
}

# send UNIT HOW: a delivery of that unit, slowly, without its last byte ("cut"), or without waiting for its answer ("away").
send() {
    receipt "$1" | python3 "$e2e/client.py" "$2"
}

@test "a sender that takes its time does not keep others waiting" {
    measure_slowness
    send "slow-$BATS_TEST_NUMBER" slowly >"$BATS_TEST_TMPDIR/slow" 3>&- &
    local slow=$!
    deliver --connections 16 --deliveries 400 --flawless --slowest-ms $((3000 * slow))
    wait "$slow"
    [[ $(<"$BATS_TEST_TMPDIR/slow") == 201 ]]
}

@test "a body in chunks is as good as one with its length" {
    post "$(receipt "chunked-$BATS_TEST_NUMBER")" -H 'Transfer-Encoding: chunked'
    expect 201 created
}

@test "a sender that hangs up in the middle of its body leaves nothing behind" {
    local unit=cut-$BATS_TEST_NUMBER
    send "$unit" cut
    post "$(receipt "$unit")"
    expect 201 created
}

@test "a sender that hangs up before the answer has its receipt stored" {
    local unit=impatient-$BATS_TEST_NUMBER
    send "$unit" away
    eventually stored "$unit"
    post "$(receipt "$unit")"
    expect 200 unchanged
}

stored() {
    [[ $(count "$1") == 1 ]]
}
