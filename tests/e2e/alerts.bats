# The alert rules (deploy/alerts), given the figures of real workers: well, killed, hung, without a database.

setup_file() {
    load common
    start_instance alerts
}

setup() {
    load common
    use_instance alerts
    command -v promtool >/dev/null || skip 'promtool is not here (Debian: prometheus)'
    unit=alerts-$BATS_TEST_NUMBER
}

# figures WHEN: of both workers, as Prometheus gets them, in files of that name.
figures() {
    local n
    for n in 1 2; do
        curl -q -sS -f --noproxy '*' --max-time "$patience_s" --cacert "$RECEIPTD_CACERT" -o "$BATS_TEST_TMPDIR/$1-$n" \
            "${RECEIPTD_URL%/*}/receiptd/$n/metrics" 2>/dev/null 3>&- || : >"$BATS_TEST_TMPDIR/$1-$n"
    done
}

# fires ALERT,...: these and no others, given the figures before and after.
fires() {
    python3 "$e2e/alerts.py" "$root/deploy/alerts/receiptd.rules.yml" "$1" "$BATS_TEST_TMPDIR"/{before,after}-{1,2} \
        >"$BATS_TEST_TMPDIR/test.yml"
    promtool test rules "$BATS_TEST_TMPDIR/test.yml"
}

deliver_some() {
    local n
    for n in {1..10}; do
        post "$(receipt "$unit-$1-$n")"
    done
}

both_ready() {
    figures ready
    [[ $(cat "$BATS_TEST_TMPDIR"/ready-{1,2} | grep -c '^receiptd_ready 1$') == 2 ]]
}

neither_ready() {
    figures ready
    [[ $(cat "$BATS_TEST_TMPDIR"/ready-{1,2} | grep -c '^receiptd_ready 0$') == 2 ]]
}

@test "all is well: none; a rejected delivery: that one" {
    eventually both_ready
    figures before
    deliver_some well
    figures after
    fires ''
    sed -i 's/^receiptd_unresolved_rejections 0$/receiptd_unresolved_rejections 1/' "$BATS_TEST_TMPDIR/after-1"
    fires ReceiptdRejectionsUnresolved
}

@test "a worker that is killed, or hangs, and does not come back: the other one does the work" {
    local pid
    eventually both_ready
    # Who would start it again.
    kill -STOP "$(<"$state/run/worker-1.supervisor.pid")"
    figures before
    pid=$(worker_pid 1)
    kill -STOP "$pid"
    figures after
    [[ ! -s $BATS_TEST_TMPDIR/after-1 && -s $BATS_TEST_TMPDIR/after-2 ]]
    fires ReceiptdWorkerAway
    kill -KILL "$pid"
    deliver_some killed
    [[ $code == 201 ]]
    figures after
    fires ReceiptdWorkerAway
    kill -CONT "$(<"$state/run/worker-1.supervisor.pid")"
    eventually new_worker 1 "$pid"
}

@test "the database is stopped: no worker is ready, and the sender is told 503" {
    # Soon over for each that is told 503.
    start_instance alerts RECEIPTD_DEADLINE_MS=500
    eventually both_ready
    deliver_some before
    figures before
    kill -INT "$(head -n 1 "$state/pgdata/postmaster.pid")"
    eventually neither_ready
    deliver_some stopped
    [[ $code == 503 ]]
    figures after
    fires ReceiptdNotReady,ReceiptdUnavailable
}
