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

# fires ALERT,... [JOB FILE]...: these and no others, given the figures before and after, and what the blackbox exporter
# says of a job.
fires() {
    python3 "$e2e/alerts.py" "$root/deploy/alerts/receiptd.rules.yml" "$1" "$BATS_TEST_TMPDIR"/{before,after}-{1,2} "${@:2}" \
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

# block N: the Nth block of YAML in deploy/README.md.
block() {
    awk -v n="$1" '/^```$/ { on = 0 } on { print } /^```yaml$/ { on = ++count == n }' "$root/deploy/README.md"
}

# start_exporter EDIT: the blackbox exporter, with the modules of deploy/README.md, edited; sets exporter, its port.
start_exporter() {
    block 2 | sed "$1" >"$BATS_TEST_TMPDIR/blackbox.yml"
    prometheus-blackbox-exporter --config.file="$BATS_TEST_TMPDIR/blackbox.yml" --web.listen-address=127.0.0.1:0 \
        >"$BATS_TEST_TMPDIR/blackbox.log" 2>&1 3>&- &
    exporter_process=$!
    eventually listens "$exporter_process"
    exporter=$(listens "$exporter_process")
}

end_exporter() {
    kill "$exporter_process"
    wait "$exporter_process" || :
}

# probe JOB MODULE TARGET: what the exporter finds, in the file JOB.
probe() {
    curl -q -sS -f --noproxy '*' -o "$BATS_TEST_TMPDIR/$1" --data-urlencode "module=$2" --data-urlencode "target=$3" -G \
        "http://127.0.0.1:$exporter/probe" 3>&-
}

# fire_with_probes ALERT,...: as fires, with both jobs of deploy/README.md.
fire_with_probes() {
    local host=${RECEIPTD_URL#https://}
    probe receiptd-https receiptd_https "${RECEIPTD_URL%/*}/receiptd/live"
    probe receiptd-certificate receiptd_certificate "${host%%/*}"
    fires "$1" receiptd-https "$BATS_TEST_TMPDIR/receiptd-https" receiptd-certificate "$BATS_TEST_TMPDIR/receiptd-certificate"
}

@test "a certificate that has expired, one that nobody trusts, and no nginx: each has its own alert" {
    local trusted="s,# \\(tls_config: {ca_file: \\).*},\\1$state/tls/server.crt},"
    command -v prometheus-blackbox-exporter >/dev/null || skip 'the blackbox exporter is not here'
    eventually both_ready
    figures before
    figures after
    start_exporter "$trusted"
    fire_with_probes ''
    end_exporter
    # A self-signed one, with the page's modules as they stand.
    start_exporter ''
    fire_with_probes ReceiptdUnreachable
    end_exporter
    start_exporter "$trusted"
    certificate "$BATS_TEST_TMPDIR/expired" -9 -2
    cp "$BATS_TEST_TMPDIR/expired.crt" "$state/tls/server.crt"
    cp "$BATS_TEST_TMPDIR/expired.key" "$state/tls/server.key"
    reload_nginx
    figures after
    [[ ! -s $BATS_TEST_TMPDIR/after-1 && ! -s $BATS_TEST_TMPDIR/after-2 ]]
    fire_with_probes ReceiptdNotScraped,ReceiptdUnreachable,ReceiptdCertificateExpired
    kill -QUIT "$(<"$state/run/nginx.pid")"
    eventually ended_nginx
    fire_with_probes ReceiptdNotScraped,ReceiptdUnreachable
    end_exporter
}

ended_nginx() {
    [[ ! -e $state/run/nginx.pid ]]
}
