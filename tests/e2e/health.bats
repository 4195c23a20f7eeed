# What an operator asks for: live, ready, metrics.

setup() {
    load common
    use_instance shared
    base=${RECEIPTD_URL%/inventory_receipt}/receiptd
}

teardown() {
    [[ -z ${worker-} ]] || ended "$worker" || end_worker
}

# get PATH [CURL ARGUMENT...]: sets code and body.
get() {
    request "$base/$1" "${@:2}"
}

# figure NAME: prints what that metric of worker 1 is now, with all labels of NAME; 0 when it is not there.
figure() {
    get 1/metrics
    name=$1 awk 'index($0, ENVIRON["name"] " ") == 1 { print $NF; found = 1 } END { if (!found) print 0 }' "$body"
}

@test "each worker is alive and ready, and so is the one that serves" {
    local who
    for who in '' 1/ 2/; do
        get "${who}live"
        [[ $code == 200 && $(<"$body") == '{"live":true}' ]]
        eventually is_ready "$who"
    done
    get 3/live
    [[ $code == 503 ]]
    get 1/other
    [[ $code == 404 ]]
}

is_ready() {
    get "${1}ready" && [[ $code == 200 && $(<"$body") == '{"ready":true,"reasons":"","host":'* ]]
}

@test "the operator's list decides who sees them, and nobody does without it" {
    local list=$state/nginx/health-allow.conf kept=$BATS_TEST_TMPDIR/kept
    mv "$list" "$kept"
    echo 'allow 192.0.2.0/24;' >"$list"
    reload_nginx
    get live
    [[ $code == 403 ]]
    rm "$list"
    reload_nginx
    get 1/metrics
    [[ $code == 403 ]]
    mv "$kept" "$list"
    reload_nginx
    get 1/metrics
    [[ $code == 200 ]]
}

@test "a page is no delivery: it is not logged, and stores nothing" {
    local before
    before=$(deliveries_of 1)
    get 1/metrics
    [[ $code == 200 ]]
    post_to_page
    [[ $code == 200 ]]
    [[ $(deliveries_of 1) == "$before" && $(count "$unit") == 0 ]]
}

post_to_page() {
    unit=page-$BATS_TEST_NUMBER
    get 1/live -H "X-Api-Key: $CLIENT_API_KEY" -H 'Content-Type: application/json' --data-binary "$(receipt "$unit")"
}

@test "a sender cannot reach a page" {
    local header
    for header in 'RECEIPTD_PAGE: metrics' 'Receiptd-Page: metrics' 'HTTP_RECEIPTD_PAGE: metrics'; do
        request "$RECEIPTD_URL" -H "$header"
        expect 405
    done
    request "$RECEIPTD_URL?RECEIPTD_PAGE=metrics"
    expect 405
    request "$RECEIPTD_URL/metrics"
    expect 404
}

@test "the metrics have Prometheus' format, and every one has its HELP and TYPE" {
    post "$(receipt "format-$BATS_TEST_NUMBER")"
    post "$(receipt "format-$BATS_TEST_NUMBER" '.program_identifier = "\u000b\u2028a\"b\\c\nd"')"
    get 1/metrics -D "$BATS_TEST_TMPDIR/head"
    [[ $code == 200 ]]
    grep -qi '^content-type: text/plain; version=0.0.4' "$BATS_TEST_TMPDIR/head"
    python3 "$e2e/metrics.py" "$body"
    # shellcheck disable=SC2016 # these are Markdown's
    # Every one that the table in deploy/METRICS.md has, and no other.
    diff <(sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' "$body" | sort) \
        <(sed -n 's/^| `\([a-z_]*\)`.*/\1/p' "$root/deploy/METRICS.md" | sort)
    ! command -v promtool >/dev/null || promtool check metrics <"$body"
}

@test "a warehouse from which nothing comes though it usually does" {
    local begun=$EPOCHSECONDS pid silent='receiptd_silence_usual_units{program="quiet \"s\"",warehouse="77"}'
    unit=quiet-$BATS_TEST_NUMBER
    post "$(receipt "$unit" '.program_identifier = "quiet \"s\"" | .to.identifier = 77')"
    expect 201 created
    # The last one an hour ago; around that hour of each of the four weeks before, 50 came in an hour.
    sql "update receipts set received_at = now() - interval '1 hour' where unit_identifier = :'unit';
        insert into receipts select (jsonb_populate_record(r, jsonb_build_object('unit_identifier', :'unit' || '-' || n,
            'request_id', gen_random_uuid(), 'received_at', now() - n / 4 * interval '72 seconds' + interval '2 hours'
            - (1 + n % 4) * interval '168 hours'))).*
        from receipts as r, generate_series(1, 1000) as n where unit_identifier = :'unit'" unit="$unit"
    sql 'call refresh_totals()'
    # A new worker asks at once.
    pid=$(worker_pid 1)
    kill "$pid"
    eventually new_worker 1 "$pid"
    eventually is_silent "$silent"
    python3 "$e2e/metrics.py" "$body"
    (($(figure receiptd_totals_counted_timestamp_seconds | cut -d. -f1) >= begun))
    sql 'delete from receipts where to_identifier = 77'
    sql 'call refresh_totals()'
}

# 50, and what some seconds more than the hour add.
is_silent() {
    [[ $(figure "$1") == 5[0-2]?(.*) ]]
}

@test "deliveries are counted by answer and key, batches by rows, and every stage has its time" {
    local begun=$EPOCHSECONDS name before=() after=() names=(
        'receiptd_deliveries_total{answer="created",key="local"}' 'receiptd_deliveries_total{answer="unchanged",key="local"}'
        'receiptd_deliveries_total{answer="revised",key="local"}' 'receiptd_deliveries_total{answer="invalid",key="local"}'
        'receiptd_deliveries_total{answer="malformed",key="local"}' 'receiptd_deliveries_total{answer="unauthorized",key=""}'
        'receiptd_deliveries_total{answer="method_not_allowed",key=""}' 'receiptd_delivery_seconds_count'
        'receiptd_stage_seconds_count{stage="store"}'
    )
    unit=counted-$BATS_TEST_NUMBER
    for name in "${names[@]}"; do before+=("$(figure "$name")"); done
    post "$(receipt "$unit")"
    post "$(receipt "$unit")"
    post "$(receipt "$unit" '.sku = "other"')"
    post "$(receipt "$unit" 'del(.sku)')"
    post '{'
    request "$RECEIPTD_URL" -X POST -H 'Content-Type: application/json' -d '{}'
    request "$RECEIPTD_URL"
    for name in "${names[@]}"; do after+=("$(figure "$name")"); done
    for n in 0 1 2 3 4 5 6; do
        echo "${names[n]}: ${before[n]}, ${after[n]}"
        ((after[n] == before[n] + 1))
    done
    ((after[7] == before[7] + 7 && after[8] == before[8] + 5))
    (($(figure 'receiptd_batch_rows_count') > 0))
    # The program of the example, which everything here has.
    local created
    created=$(figure "receiptd_last_created_timestamp_seconds{program=\"$(jq -r .program_identifier "$root/deploy/sample.json")\"}")
    ((created >= begun && created <= EPOCHSECONDS))
}

@test "ready is false without a database, and while the schema is older than the one that is needed" {
    set_worker_env
    start_worker "$BATS_TEST_TMPDIR/log" PGHOST=/nonexistent -- --listen "$BATS_TEST_TMPDIR/socket"
    run -0 page ready
    [[ $output == *'Status: 503 '*'"reasons":"the database does not answer'* ]]
    end_worker
    sql 'begin; drop function inventory.schema_version(); select pg_sleep(0.1); commit'
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    eventually page_says 'the schema is version 0, and has to be 1'
    # It serves all the same.
    [[ $(python3 "$root/tests/faults/sockets.py" "$BATS_TEST_TMPDIR/socket" post "$(receipt "old-$EPOCHREALTIME")") == 201 ]]
    sql "begin; $(sed -n '/^create function/,/^comment/p' "$root/sql/deploy/schema_version.sql" | sed '$d')
        comment on function inventory.schema_version() is 'x';
        alter function inventory.schema_version() owner to receiptd_owner; commit"
    eventually page_says '"ready":true'
}

page() {
    python3 "$root/tests/faults/sockets.py" "$BATS_TEST_TMPDIR/socket" page "$1"
}

page_says() {
    [[ $(page ready) == *"$1"* ]]
}

@test "systemd's status says it too" {
    set_worker_env
    python3 "$e2e/peers.py" notices "$BATS_TEST_TMPDIR/notify" >"$BATS_TEST_TMPDIR/notices" 3>&- &
    local notices=$!
    eventually test -S "$BATS_TEST_TMPDIR/notify"
    start_worker "$BATS_TEST_TMPDIR/log" NOTIFY_SOCKET="$BATS_TEST_TMPDIR/notify" WATCHDOG_USEC=400000 -- \
        --listen "$BATS_TEST_TMPDIR/socket"
    eventually grep -qx 'STATUS=ready; 0 deliveries wait' "$BATS_TEST_TMPDIR/notices"
    eventually grep -qx 'WATCHDOG=1' "$BATS_TEST_TMPDIR/notices"
    kill -HUP "$worker"
    eventually grep -qx 'RELOADING=1' "$BATS_TEST_TMPDIR/notices"
    end_worker
    eventually grep -qx 'STOPPING=1' "$BATS_TEST_TMPDIR/notices"
    kill "$notices"
}
