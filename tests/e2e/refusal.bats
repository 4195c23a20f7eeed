# A worker that cannot start, on a socket that was handed over: it shows why, and holds up nobody.

setup() {
    load common
    use_instance shared
    set_worker_env
    socket=$BATS_TEST_TMPDIR/socket log=$BATS_TEST_TMPDIR/log
    python3 "$e2e/peers.py" notices "$BATS_TEST_TMPDIR/notify" >"$BATS_TEST_TMPDIR/notices" 3>&- &
    notices=$!
    eventually test -S "$BATS_TEST_TMPDIR/notify"
}

teardown() {
    kill "$notices"
    wait "$notices" || :
    [[ -z ${worker-} ]] || ended "$worker" || kill -KILL "$worker"
}

# refusing NAME=VALUE...: starts a worker with these settings.
refusing() {
    rm -f "$socket"
    "${worker_env[@]}" "NOTIFY_SOCKET=$BATS_TEST_TMPDIR/notify" "$@" python3 "$e2e/peers.py" hand_over systemd "$socket" "$WORKER" \
        >"$log" 2>&1 3>&- &
    worker=$!
    eventually connects "$socket"
}

# kept_refusing NAME=VALUE...: the same, and starts another one whenever it has ended.
kept_refusing() {
    rm -f "$socket" "$log"
    "${worker_env[@]}" "NOTIFY_SOCKET=$BATS_TEST_TMPDIR/notify" "$@" python3 "$e2e/peers.py" replace "$socket" "$WORKER" "$log" 3>&- &
    worker=$!
    eventually connects "$socket"
}

# passes_on: a delivery gets no answer, so the web server tries the other worker.
passes_on() {
    local said
    said=$(python3 "$root/tests/faults/sockets.py" "$socket" deliver 1 2>&1 3>&-) && return 1
    [[ $said == *'closed by the worker'* || $said == *'reset by peer'* ]]
}

is_not_ready() {
    [[ $(page metrics) == *$'\nreceiptd_ready 0\n'* ]]
}

# page NAME: of the worker.
page() {
    python3 "$root/tests/faults/sockets.py" "$socket" page "$1" 3>&-
}

# shows REASON: in ready and, for systemctl status, in a notice.
shows() {
    local page
    page=$(page ready)
    [[ $page == *'Status: 503 '*'{"ready":false,"reasons":"the worker cannot start: '*"$1"* ]] || { echo "$page" && return 1; }
    grep -qF "STATUS=not ready: the worker cannot start: " "$BATS_TEST_TMPDIR/notices" &&
        grep -qF "$1" "$BATS_TEST_TMPDIR/notices"
}

@test "whatever is wrong with configuration or keys: the reason is shown, and deliveries are passed on" {
    local keys=$BATS_TEST_TMPDIR/keys empty=$BATS_TEST_TMPDIR/empty pipe=$BATS_TEST_TMPDIR/pipe setting reason
    echo 'optoro 1234' >"$keys"
    : >"$empty"
    mkfifo "$pipe"
    while IFS='|' read -r setting reason; do
        kept_refusing "$setting"
        eventually shows "$reason"
        grep -qF "$reason" "$log"
        eventually passes_on
        eventually is_not_ready
        kill "$worker"
        wait "$worker"
    done <<END
RECEIPTD_THREADS=0|RECEIPTD_THREADS=0: expected a whole number from 1 to 64
RECEIPTD_THREAD=2|RECEIPTD_THREAD: there is no such variable
RECEIPTD_KEYS_FILE=/nonexistent|cannot open the key file /nonexistent: No such file or directory
RECEIPTD_KEYS_FILE=$keys|$keys, line 1: expected NAME and a SHA-256 digest
RECEIPTD_KEYS_FILE=$empty|the key file $empty holds no key
RECEIPTD_KEYS_FILE=$pipe|cannot open the key file $pipe: Invalid argument
RECEIPTD_KEYS_FILE=/etc|cannot open the key file /etc: Invalid argument
END
    # systemd must not take it for one that serves.
    [[ $(grep -c '^READY=1' "$BATS_TEST_TMPDIR/notices") == 0 ]]
}

@test "it ends with status 1 after some seconds, so that a supervisor starts it again; at SIGTERM at once, with 0" {
    local status=0
    refusing RECEIPTD_THREADS=0
    wait "$worker" || status=$?
    ((status == 1))
    refusing RECEIPTD_THREADS=0 RECEIPTD_LOG_LEVEL=none
    eventually shows "RECEIPTD_THREADS=0: expected a whole number from 1 to 64; RECEIPTD_LOG_LEVEL=none: expected"
    kill "$worker"
    wait "$worker"
}
