# What is in the logs, and what must never be.

setup() {
    load common
    use_instance shared
    unit=logs-$BATS_TEST_NUMBER
}

# line_of: the worker's log line of the last answer.
line_of() {
    cat "$state"/log/worker-?.log | grep "request_id=$(header X-Request-Id)"
}

# logs PATTERN...: the last answer has exactly one line, which matches all of them (extended expressions).
logs() {
    local pattern line
    eventually line_of >/dev/null
    line=$(line_of)
    [[ $(wc -l <<<"$line") == 1 ]]
    for pattern in '^time=20[0-9-]+T[0-9:.]+Z level=' "$@" ' ms=[0-9]+\.[0-9]{3}( |$)'; do
        grep -Eq -- "$pattern" <<<"$line" || { echo "does not match $pattern: $line"; return 1; }
    done
}

@test "one line a delivery, with its id, status, result, key fields and key name" {
    local keys=" program_identifier=returns asn_number=SO00001234 unit_identifier=$unit key=local "
    post "$(receipt "$unit")"
    logs level=info msg=delivery 'status=201 result=created' "$keys"
    post "$(receipt "$unit")"
    logs 'status=200 result=unchanged' "$keys"
    post "$(receipt "$unit" '.sku = "other"')"
    logs 'status=200 result=revised' "$keys"
}

@test "of a refused delivery: the parser's position, or the fields and codes" {
    post '{"sku": tru'
    logs status=400 'key=local' 'line=1 column=[1-9]'
    post "$(receipt "$unit" '.sku = "" | .to.identifier = "x"')"
    logs status=422 "unit_identifier=$unit" 'errors=to.identifier:invalid_type,sku:missing_field'
    request -H 'Content-Type: application/json' --data-binary "$(receipt "$unit")" "$RECEIPTD_URL"
    logs status=401
    [[ ! $(line_of) =~ (key=|unit_identifier) ]]
    request "$RECEIPTD_URL"
    logs status=405
}

@test "a failure has its SQLSTATE" {
    sql "alter table inventory.receipts add constraint refused check (unit_identifier <> '$unit')"
    post "$(receipt "$unit")"
    sql "alter table inventory.receipts drop constraint refused"
    expect 503
    logs level=warning status=503 "unit_identifier=$unit" sqlstate=23514 failure=
}

@test "text of the sender cannot forge a line or a field" {
    post "$(receipt "$unit" '.asn_number = "x status=500\ntime=now \"\\"')"
    expect 201 created
    logs 'status=201' 'asn_number="x status=500\\u000atime=now \\"\\\\" unit_identifier='
}

# The logs of all of this suite so far, of the worker, nginx and PostgreSQL.
@test "no key, no body and no ot_user_login is in any log, whatever became of the delivery" {
    local secret=4f1c9d7e word="body-$RANDOM$RANDOM" login="somebody-$RANDOM@example.com" filter
    filter=".return_reason = \"$word\" | .ot_user_login = \"$login\""
    post "$(receipt "$unit" "$filter")"
    expect 201 created
    post "$(receipt "$unit" "$filter | .sku = 1.5")"
    expect 422
    post "$(receipt "$unit" "$filter")}"
    expect 400
    post "{\"$word\": \"$login\", \"$word\": 1}"
    expect 400
    post "$(receipt "$unit" "$filter")" -H 'Content-Type: text/plain' -H 'Content-Type:'
    sql "alter table inventory.receipts add constraint refused check (return_reason <> '$word') not valid"
    post "$(receipt "$unit" "$filter | .sku = \"other\"")"
    sql "alter table inventory.receipts drop constraint refused"
    expect 503
    request -H "X-Api-Key: $secret" -H "Authorization: Bearer $secret" "$RECEIPTD_URL?api_key=$secret"
    request -H "api_key: $secret" --data-binary "$(receipt "$unit" "$filter")" "$RECEIPTD_URL?api_key=$secret"
    expect 401
    # nginx writes its log every second.
    eventually grep -q "request_id=$(header X-Request-Id)" "$state/log/nginx-receiptd.log"
    run ! grep -rF -e "$secret" -e "$word" -e "$login" -e "$CLIENT_API_KEY" "$state/log"
}

@test "log levels: warning leaves out what went well" {
    set_worker_env
    start_worker_quietly
    python3 "$root/tests/faults/sockets.py" "$BATS_TEST_TMPDIR/socket" deliver 1 3>&-
    end_worker
    run ! grep -q msg=delivery "$BATS_TEST_TMPDIR/log"
}

start_worker_quietly() {
    "${worker_env[@]}" RECEIPTD_LOG_LEVEL=warning "$WORKER" --listen "$BATS_TEST_TMPDIR/socket" </dev/null \
        >/dev/null 2>"$BATS_TEST_TMPDIR/log" 3>&- &
    worker=$!
    eventually connects "$BATS_TEST_TMPDIR/socket"
}

@test "no body is written to a file of nginx's, whatever its size" {
    receipt "$unit" '.padding = "x" * 1000000' >"$BATS_TEST_TMPDIR/data"
    post "@$BATS_TEST_TMPDIR/data"
    expect 201 created
    post "@$BATS_TEST_TMPDIR/data" -H 'Transfer-Encoding: chunked'
    expect 200 unchanged
    # It warns of every one.
    run -1 grep 'temporary file' "$state/log/nginx-error.log"
}

# deliver_four SETTING: a worker with that setting has stored two, found one of them unchanged, and rejected one; sets
# logged_lines, those of deliveries.
deliver_four() {
    local log=$BATS_TEST_TMPDIR/log delivery
    set_worker_env
    start_worker "$log" "RECEIPTD_LOG_DELIVERIES=$1" -- --listen "$BATS_TEST_TMPDIR/socket"
    for delivery in "$(receipt "one-$1-$BATS_TEST_NUMBER")" "$(receipt "two-$1-$BATS_TEST_NUMBER")" \
        "$(receipt "two-$1-$BATS_TEST_NUMBER")" '{'; do
        python3 "$root/tests/faults/sockets.py" "$BATS_TEST_TMPDIR/socket" post "$delivery"
    done
    end_worker
    logged_lines=$(grep -c ' msg=delivery ' "$log" || :)
}

@test "which deliveries have a line can be chosen; those that fail, or leave no trace in the database, always have" {
    deliver_four all
    [[ $logged_lines == 4 ]]
    deliver_four failures
    [[ $logged_lines == 2 ]]
    deliver_four 1/2
    [[ $logged_lines == 3 ]]
    run -1 "${worker_env[@]}" RECEIPTD_LOG_DELIVERIES=1/0 "$WORKER" --listen "$BATS_TEST_TMPDIR/socket"
    [[ $output == 'RECEIPTD_LOG_DELIVERIES=1/0: expected all, failures, or 1/N' ]]
}

@test "in the journal, each line begins with its priority" {
    set_worker_env
    : >"$BATS_TEST_TMPDIR/log"
    start_worker "$BATS_TEST_TMPDIR/log" "JOURNAL_STREAM=$(stat -c %d:%i "$BATS_TEST_TMPDIR/log")" PGHOST=/nonexistent \
        RECEIPTD_DEADLINE_MS=100 -- --listen "$BATS_TEST_TMPDIR/socket"
    [[ $(python3 "$root/tests/faults/sockets.py" "$BATS_TEST_TMPDIR/socket" post "$(receipt journal)") == 503 ]]
    end_worker
    run -1 grep -v '^<[346]>time=' "$BATS_TEST_TMPDIR/log"
    grep -q '^<3>time=.* level=error' "$BATS_TEST_TMPDIR/log"
    grep -q '^<4>time=.* level=warning msg=delivery' "$BATS_TEST_TMPDIR/log"
    grep -q '^<6>time=.* level=info' "$BATS_TEST_TMPDIR/log"
}
