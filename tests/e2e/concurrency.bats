# Many deliveries at once, through both workers.

setup_file() {
    load common
    use_instance shared
    share_requests
}

teardown_file() {
    load common
    use_instance shared
    spare_worker
}

setup() {
    load common
    use_instance shared
    local n
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
    deliver --connections 64 --deliveries 6400 --flawless --slowest-ms 5000
    [[ $(told created) == 6400 ]]
}

@test "connections that say nothing do not keep others waiting" {
    python3 - "$state/run/worker-1.sock" "$state/run/worker-2.sock" <<'END' 3>&- &
import socket, sys, time
idle = []
for path in sys.argv[1:]:
    for _ in range(100):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        idle.append(connection)
print("connected", flush=True)
time.sleep(60)
END
    local idle=$!
    deliver --connections 16 --deliveries 400 --flawless --slowest-ms 3000 || { kill "$idle"; return 1; }
    kill "$idle"
}

# send UNIT CODE: a delivery of that unit by python, which finds its bytes in data and an open connection.
send() {
    receipt "$1" | PYTHONPATH=$e2e python3 -c '
import sys, time, client
connection = client.Connection()
connection.open()
data = connection.delivery(sys.stdin.buffer.read())
'"$2"
}

@test "a sender that takes its time does not keep others waiting" {
    send "slow-$BATS_TEST_NUMBER" '
for at in range(0, len(data), 40):
    connection.socket.sendall(data[at : at + 40])
    time.sleep(0.05)
print(connection.receive().status)' >"$BATS_TEST_TMPDIR/slow" 3>&- &
    local slow=$!
    deliver --connections 16 --deliveries 400 --flawless --slowest-ms 3000
    wait "$slow"
    [[ $(<"$BATS_TEST_TMPDIR/slow") == 201 ]]
}

@test "a body in chunks is as good as one with its length" {
    post "$(receipt "chunked-$BATS_TEST_NUMBER")" -H 'Transfer-Encoding: chunked'
    expect 201 created
}

@test "a sender that hangs up in the middle of its body leaves nothing behind" {
    local unit=cut-$BATS_TEST_NUMBER
    send "$unit" 'connection.socket.sendall(data[:-1]); connection.close()'
    post "$(receipt "$unit")"
    expect 201 created
}

@test "a sender that hangs up before the answer has its receipt stored" {
    local unit=impatient-$BATS_TEST_NUMBER
    send "$unit" 'connection.socket.sendall(data); connection.close()'
    eventually 5 stored "$unit"
    post "$(receipt "$unit")"
    expect 200 unchanged
}

stored() {
    [[ $(count "$1") == 1 ]]
}
