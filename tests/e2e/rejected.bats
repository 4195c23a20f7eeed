# Refused deliveries: what is answered 400 or 422 is in rejected_receipts first, exactly as it came.

setup_file() {
    load common
    start_instance rejected
    use_instance rejected
    measure_slowness
    export slow
    settings
}

setup() {
    load common
    use_instance rejected
    # Granted again, where a test that took it away has failed.
    sql 'truncate inventory.rejected_receipts; grant insert on inventory.rejected_receipts to receiptd_writer;
        grant execute on function inventory.mark_superseded() to receiptd_writer'
    kept=0
    unit=rejected-$BATS_TEST_NUMBER
    example="{program_identifier: \"returns\", asn_number: \"SO00001234\", unit_identifier: \"$unit\"}"
    sent=$BATS_TEST_TMPDIR/sent
    key=(-H "X-Api-Key: $CLIENT_API_KEY")
    json=(-H 'Content-Type: application/json')
}

# settings [NAME=VALUE...]: the instance of these tests, with a deadline that a test can wait for.
settings() {
    start_instance rejected "RECEIPTD_DEADLINE_MS=$(scaled_ms 1000)" "$@"
}

rejections() {
    sql 'select count(*) from inventory.rejected_receipts'
}

# expect_kept STATUS [FILTER]: the last answer's delivery is kept in one new row that says the same: in its own words,
# with the bytes of the file $sent. The key is null but for what the jq filter gives.
expect_kept() {
    local id
    id=$(header X-Request-Id)
    kept=$((kept + 1))
    jq -S --arg id "$id" --argjson status "$1" --argjson rows "$kept" --arg md5 "$(md5sum <"$sent" | cut -d ' ' -f 1)" \
        '{rows: $rows, status: $status, message, errors, request_id: $id, api_key_name: "local", md5: $md5,
        resolved: false, recent: true, program_identifier: null, asn_number: null, unit_identifier: null}
        + ('"${2:-{\}}"')' \
        "$body" >"$BATS_TEST_TMPDIR/expected"
    sql "select json_build_object('rows', (select count(*) from inventory.rejected_receipts), 'status', status,
            'message', message, 'errors', errors,
            'request_id', request_id, 'api_key_name', api_key_name, 'md5', md5(body),
            'resolved', resolved_at is not null or resolution is not null,
            'recent', received_at between now() - interval '1 minute' and now(),
            'program_identifier', program_identifier, 'asn_number', asn_number, 'unit_identifier', unit_identifier)
        from inventory.rejected_receipts where request_id = :'id'" id="$id" | jq -S . >"$BATS_TEST_TMPDIR/row"
    diff "$BATS_TEST_TMPDIR/expected" "$BATS_TEST_TMPDIR/row"
}

# malformed [CURL ARGUMENT...]: the file $sent is answered 400 and kept.
malformed() {
    post "@$sent" "$@"
    expect 400
    expect_kept 400
}

# invalid FILTER [KEY FILTER]: the vendor's example, changed by the filter, is answered 422 and kept, as malformed.
invalid() {
    receipt "$unit" "$1" >"$sent"
    post "@$sent"
    expect 422
    expect_kept 422 "${2:-$example}"
}

@test "what is malformed is kept as it came" {
    local data
    for data in '[]' '{' '{"sku": }' 'text' '{"a":1,"a":2}' "$(receipt "$unit" '.sku = "a\u0000b"')" \
        "$(printf '{"x":%.0s' {1..5000})" $'{\n "sku": "x",\n "upc": oops\n}' ' '; do
        printf '%s' "$data" >"$sent"
        malformed
    done
}

@test "what is no UTF-8, or has NUL bytes, is kept byte for byte" {
    receipt "$unit" '.sku = "@@"' | LC_ALL=C sed 's/@@/a\xff\xc0\x80\xed\xa0\x80/' >"$sent"
    malformed
    receipt "$unit" | tr r '\0' >"$sent"
    malformed
    printf '\0' >"$sent"
    malformed
    LC_ALL=C printf '%b' "$(printf '\\x%02x' {0..255})" >"$sent"
    [[ $(wc -c <"$sent") == 256 ]]
    malformed
    receipt "$unit" | iconv -f UTF-8 -t UTF-16 >"$sent"
    malformed
}

@test "an empty body is kept as an empty one" {
    : >"$sent"
    malformed
    post "@$sent" -H 'Transfer-Encoding: chunked'
    expect 400
    [[ $(sql 'select array[deliveries, length(body)] from inventory.rejected_receipts') == '{2,0}' ]]
}

@test "a valid body of another content type is kept" {
    receipt "$unit" >"$sent"
    request "${key[@]}" -H 'Content-Type: text/plain' --data-binary "@$sent" "$RECEIPTD_URL"
    expect 400
    expect_kept 400 "$example"
    [[ $(count "$unit") == 0 ]]
}

@test "a compressed body that is refused is kept decompressed; one that is damaged, as it came" {
    receipt "$unit" '.initial_condition = "Z9"' >"$sent"
    gzip -k "$sent"
    post "@$sent.gz" -H 'Content-Encoding: gzip'
    expect 422
    expect_kept 422 "$example"
    head -c 100 "$sent.gz" >"$sent"
    malformed -H 'Content-Encoding: gzip'
    [[ $(jq -r .message "$body") == 'The compressed body is damaged or cut short.' ]]
    malformed_encoding br
    set_worker_env
    "${worker_env[@]}" RECEIPTD_EXTRA_CONDITIONS=Z9 "$WORKER" reprocess
    [[ $(sql "select initial_condition from inventory.receipts where unit_identifier = '$unit'") == Z9 ]]
}

# malformed_encoding NAME: bytes that are no JSON, said to be encoded like that, are answered 400, which names it, and kept.
malformed_encoding() {
    printf '\x8b\x02\x80' >"$sent"
    malformed -H "Content-Encoding: $1"
    [[ $(jq -r .message "$body") == *"(Content-Encoding: $1)." ]]
}

@test "1 MiB is kept, malformed or invalid" {
    head -c 1048576 /dev/urandom >"$sent"
    malformed
    padded 1048576 '.sku = null' >"$sent"
    [[ $(wc -c <"$sent") == 1048576 ]]
    post "@$sent"
    expect 422
    expect_kept 422 "$example"
    [[ $(count "$unit") == 0 ]]
}

@test "what is invalid is kept with its errors and its key" {
    invalid 'del(.sku)'
    invalid '.upc = 1.5'
    invalid '.initial_condition = "Z"'
    invalid '.reference.type = "ReturnsPortalOrder"'
    invalid '.asn_number = "x" * 2675' '{program_identifier: "returns", unit_identifier: "'"$unit"'"}'
    invalid '.to.identifier = 9223372036854775808'
    invalid '.from = [] | .to = null | .sku = {} | .asin = [1] | .initial_condition = 7 | .ot_user_login = " "'
    jq -e '.errors | length > 8' "$body"
    [[ $(count "$unit") == 0 ]]
}

@test "of the key, what could be read is kept" {
    invalid 'del(.sku) | .unit_identifier = 12345 | .asn_number = 7' \
        '{program_identifier: "returns", asn_number: "7", unit_identifier: "12345"}'
    invalid 'del(.unit_identifier)' '{program_identifier: "returns", asn_number: "SO00001234"}'
    invalid '.unit_identifier = null | .asn_number = " "' '{program_identifier: "returns"}'
    invalid '.unit_identifier = {"a": 1} | .asn_number = true | .program_identifier = 1.5' '{}'
    invalid 'del(.sku) | .unit_identifier = "u" * 255' \
        '{program_identifier: "returns", asn_number: "SO00001234", unit_identifier: ("u" * 255)}'
    invalid 'del(.sku) | .unit_identifier = "📦" * 255' \
        '{program_identifier: "returns", asn_number: "SO00001234", unit_identifier: ("📦" * 255)}'
    invalid '.unit_identifier = "u" * 2674' \
        '{program_identifier: "returns", asn_number: "SO00001234", unit_identifier: ("u" * 2674)}'
    invalid '.program_identifier = "📦" * 255 | .asn_number = .program_identifier | .unit_identifier = .asn_number' \
        '"📦" * 255 | {program_identifier: ., asn_number: ., unit_identifier: .}'
    invalid '.unit_identifier = "u" * 2675' '{program_identifier: "returns", asn_number: "SO00001234"}'
    invalid 'del(.sku) | .asn_number = "NULL" | .program_identifier = "{\"a\\\\\u0027; --📦\n"' \
        '{program_identifier: "{\"a\\\\\u0027; --📦\n", asn_number: "NULL", unit_identifier: "'"$unit"'"}'
    receipt "$unit" >"$sent"
    sed -i 's/}$/,}/' "$sent"
    malformed
}

# problems: of each problem the number of deliveries, with "+" if it is open; and what readers count as open.
problems() {
    sql "select string_agg(concat(r.deliveries, case when o.rejection_id is not null then '+' end), ' ' order by r.received_at),
            count(o.rejection_id)
        from inventory.rejected_receipts as r
        left join inventory.open_rejections as o using (rejection_id)"
}

# expect_open COUNT: so many are open, for each that counts them.
expect_open() {
    [[ $(sql 'select count(*) from inventory.open_rejections') == "$1" ]]
    [[ $(sql 'select coalesce(max(unresolved), 0) from reporting.rejections') == "$1" ]]
    set_worker_env
    run "${worker_env[@]}" "$WORKER" doctor --json
    if (($1 == 0)); then
        jq -e '.findings[] | select(.subject == "rejections") | .status == "ok"' <<<"$output"
    else
        jq -e --arg count "$1" '.findings[] | select(.subject == "rejections") | .finding | startswith($count + " ")' <<<"$output"
    fi
}

# counts_unresolved COUNT: the metric of the worker that the test has started.
counts_unresolved() {
    python3 "$root/tests/faults/sockets.py" "$BATS_TEST_TMPDIR/socket" page metrics 3>&- | grep -qx "receiptd_unresolved_rejections $1"
}

@test "if looking up each open rejection fails, the metric counts all that are unresolved" {
    # From the workers of the instance too, which would mark it.
    sql 'revoke execute on function inventory.mark_superseded() from receiptd_writer'
    receipt "$unit" 'del(.sku)' >"$sent"
    post "@$sent"
    expect 422
    post "$(receipt "$unit")"
    expect 201 created
    set_worker_env
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    eventually counts_unresolved 1
    sql 'grant execute on function inventory.mark_superseded() to receiptd_writer'
    end_worker
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    eventually counts_unresolved 0
    end_worker
}

@test "repeats of a rejection are one problem, which a correction resolves" {
    local n ids=()
    receipt "$unit" 'del(.sku)' >"$sent"
    for n in {1..6}; do
        post "@$sent"
        expect 422
        ids+=("$(header X-Request-Id)")
    done
    [[ $(problems) == '6+|1' ]]
    [[ $(sql "select array_to_string(request_id || repeat_request_ids, ' ') from inventory.rejected_receipts") == "${ids[*]}" ]]
    [[ $(sql 'select received_at < last_received_at from inventory.rejected_receipts') == t ]]
    eventually grep -q "request_id=${ids[5]} status=422 .* repeat_of=${ids[0]} " "$state"/log/worker-?.log
    [[ $(sql 'select array[rejections, unresolved, deliveries] from reporting.rejections') == '{1,1,6}' ]]
    expect_open 1

    post "$(receipt "$unit")"
    expect 201 created
    [[ $(problems) == '6|0' ]]
    expect_open 0

    # A late repeat says nothing new. The first other delivery that is rejected is a new problem.
    post "@$sent"
    expect 422
    [[ $(problems) == '7|0' ]]
    receipt "$unit" 'del(.upc, .sku)' >"$sent"
    post "@$sent"
    expect 422
    [[ $(problems) == '7 1+|1' ]]
}

@test "a repeat of what a person has resolved is a new problem" {
    receipt "$unit" 'del(.sku)' >"$sent"
    post "@$sent"
    sql "update inventory.rejected_receipts set resolved_at = now(), resolution = 'a test of the sender'"
    [[ $(problems) == '1|0' ]]
    post "@$sent"
    post "@$sent"
    [[ $(problems) == '1 2+|1' ]]
}

@test "identical is the same body with the same key name, whatever the settings and headers" {
    receipt "$unit" '.initial_condition = "Q" | .sku = null' >"$sent"
    post "@$sent" -H 'X-Optiturn-Id: first'
    settings RECEIPTD_EXTRA_CONDITIONS=Q
    post "@$sent" -H 'X-Optiturn-Id: second'
    settings
    [[ $(problems) == '2+|1' ]]
    # The reasons are those of the latest, what was sent is what came first.
    [[ $(sql "select concat_ws(' ', errors, sender_headers ->> 'x-optiturn-id') from inventory.rejected_receipts") == \
        '[{"code": "missing_field", "field": "sku"}] first' ]]
    # As another content type.
    request "${key[@]}" -H 'Content-Type: text/plain' --data-binary "@$sent" "$RECEIPTD_URL"
    expect 400
    [[ $(problems) == '3+|1' ]]
    echo >>"$sent"
    post "@$sent"
    [[ $(problems) == '3+ 1+|2' ]]
}

@test "identical deliveries at once are all counted in one row" {
    local n pids=()
    receipt "$unit" 'del(.sku)' >"$sent"
    for n in {1..8}; do
        curl -sS --parallel --parallel-max 25 --cacert "$RECEIPTD_CACERT" --noproxy '*' "${key[@]}" "${json[@]}" \
            --data-binary "@$sent" -o /dev/null -w '%{http_code}\n' "$RECEIPTD_URL?[1-50]" >"$BATS_TEST_TMPDIR/told-$n" 3>&- &
        pids+=($!)
    done
    wait "${pids[@]}"
    [[ $(sort -u "$BATS_TEST_TMPDIR"/told-*) == 422 && $(cat "$BATS_TEST_TMPDIR"/told-* | wc -l) == 400 ]]
    [[ $(problems) == '400+|1' ]]
    [[ $(sql "select count(distinct id) from inventory.rejected_receipts, unnest(repeat_request_ids) as id") == 100 ]]
}

@test "identical deliveries to both workers at once are one row" {
    PYTHONPATH=$root/tests/faults python3 "$e2e/fastcgi.py" "$state/run/worker-1.sock" rejected_by_both "$state/run/worker-2.sock" 50 3>&-
    [[ $(sql 'select count(*), min(deliveries), max(deliveries) from inventory.rejected_receipts') == '50|2|2' ]]
}

@test "nothing is kept of what is not authenticated, no POST, or too large" {
    printf '{' >"$sent"
    request "${json[@]}" --data-binary "@$sent" "$RECEIPTD_URL"
    expect 401
    request -H 'X-Api-Key: wrong' "${json[@]}" --data-binary "@$sent" "$RECEIPTD_URL"
    expect 401
    request "${key[@]}" -H 'api_key: wrong' "${json[@]}" --data-binary "@$sent" "$RECEIPTD_URL"
    expect 401
    request -X PUT "${key[@]}" "${json[@]}" --data-binary "@$sent" "$RECEIPTD_URL"
    expect 405
    request "${key[@]}" "$RECEIPTD_URL"
    expect 405
    head -c 1048577 /dev/zero >"$sent"
    post "@$sent"
    expect 413
    head -c 2097153 /dev/zero >"$sent"
    post "@$sent"
    expect 413
    [[ $(rejections) == 0 ]]
}

@test "what cannot be kept, for want of a privilege, is a 503, and a 400 or 422 when it can" {
    local data
    sql 'revoke insert on inventory.rejected_receipts from receiptd_writer'
    printf '{' >"$sent"
    post "@$sent"
    expect 503
    post "$(receipt "$unit" 'del(.sku)')"
    expect 503
    [[ $(rejections) == 0 ]]
    eventually grep -q "request_id=$(header X-Request-Id) status=503 .* failure=" "$state"/log/worker-?.log
    grep -q 'level=error msg="PostgreSQL: 42501 .*denied for table rejected_receipts' "$state"/log/worker-?.log
    sql 'grant insert on inventory.rejected_receipts to receiptd_writer'
    malformed
    invalid 'del(.sku)'
}

@test "what cannot be kept, for a lock, is a 503, and a 422 when it can" {
    psql -XAtq -c begin -c 'lock table inventory.rejected_receipts' -c "select 'locked'" -c 'select pg_sleep(60)' \
        >"$BATS_TEST_TMPDIR/locker" 2>&1 3>&- &
    local locker=$!
    eventually is_locked
    post "$(receipt "$unit" 'del(.sku)')"
    expect 503
    sql "select pg_terminate_backend(pid) from pg_locks
        where relation = 'inventory.rejected_receipts'::regclass and mode = 'AccessExclusiveLock' and granted"
    wait "$locker" || :
    # The first try may be kept after all, as soon as it gets the lock; its answer has been given, and does not deny it.
    sql 'truncate inventory.rejected_receipts'
    invalid 'del(.sku)'
}

is_locked() {
    [[ $(sql "select count(*) from pg_locks where relation = 'inventory.rejected_receipts'::regclass
        and mode = 'AccessExclusiveLock' and granted") == 1 ]]
}

@test "a table that is not there, or has other columns, is a 503" {
    sql 'alter table inventory.rejected_receipts rename to elsewhere'
    post '{'
    sql 'alter table inventory.elsewhere rename to rejected_receipts'
    expect 503
    sql 'alter table inventory.rejected_receipts rename column body to bytes'
    post '{'
    sql 'alter table inventory.rejected_receipts rename column bytes to body'
    expect 503
    printf '{' >"$sent"
    malformed
}

@test "refused and valid deliveries at once are each answered right" {
    deliver --connections 32 --deliveries 1200 --new 2 --again 1 --revise 1 --invalid 2 --malformed 2 --flawless
    (($(told 400) > 100 && $(told 422) > 100 && $(told created) > 100))
    [[ $(sql 'select sum(deliveries) from inventory.rejected_receipts') == $(($(told 400) + $(told 422))) ]]
}

@test "the log has a line of it, with the reason and nothing of the body" {
    local id secret="secret-$unit"
    # logged REGEX: the line of the last answer.
    logged() {
        id=$(header X-Request-Id)
        eventually grep -qE "msg=delivery request_id=$id $1" "$state"/log/worker-?.log
        [[ $(cat "$state"/log/worker-?.log | grep -c "$id") == 1 ]]
    }
    post "$(receipt "$unit" '.sku = null | .upc = [] | .ot_user_login = "'"$secret"'" | .asin = "'"$secret"'"')"
    expect 422
    logged "status=422 .*unit_identifier=$unit key=local ms=[0-9.]+ errors=sku:missing_field,upc:invalid_type\$"
    post $'{"sku": "'"$secret"$'",\n"'"$secret"'" oops'
    expect 400
    logged 'status=400 key=local ms=[0-9.]+ line=2 column=[0-9]+$'
    run -1 grep -r "$secret" "$state/log"
}

@test "a bad value of the rules ends the start, and names the variable" {
    local setting
    set_worker_env
    for setting in 'EXTRA_CONDITIONS=A B' 'EXTRA_CONDITIONS=,A' 'EXTRA_CONDITIONS=A,' 'EXTRA_CONDITIONS=A,,B' \
        'EXTRA_CONDITIONS= ' 'EXTRA_REFERENCE_TYPES=,' $'EXTRA_REFERENCE_TYPES=A\tB' 'REJECTION_POLICY=maybe' \
        'REJECTION_POLICY=' 'REJECTION_POLICY=ACCEPT' 'REJECTION_POLICY=reject accept'; do
        run -1 "${worker_env[@]}" "RECEIPTD_$setting" "$WORKER" --listen "$BATS_TEST_TMPDIR/socket"
        [[ $output == "RECEIPTD_${setting%%=*}=${setting#*=}: expected "* ]]
        run -1 "${worker_env[@]}" "RECEIPTD_$setting" "$WORKER" reprocess
        [[ $output == "RECEIPTD_${setting%%=*}=${setting#*=}: expected "* ]]
    done
}

@test "more values are taken, and only these; what is refused all the same is told 200 with the policy accept" {
    local value data
    settings RECEIPTD_REJECTION_POLICY=accept RECEIPTD_EXTRA_CONDITIONS=Q,ZZ \
        RECEIPTD_EXTRA_REFERENCE_TYPES=ReturnsPortalOrder,N
    for value in Q ZZ N TT; do
        post "$(receipt "$unit-$value" '.initial_condition = "'$value'"')"
        expect 201 created
    done
    for value in ReturnsPortalOrder N RMA; do
        post "$(receipt "$unit-$value-2" '.reference.type = "'$value'"')"
        expect 201 created
    done
    [[ $(sql "select string_agg(initial_condition || reference_type, ',' order by unit_identifier)
        from receipts where unit_identifier in (:'unit' || '-Q', :'unit' || '-ReturnsPortalOrder-2')" unit="$unit") == \
        QRMA,NReturnsPortalOrder ]]

    # The row says what would have been answered.
    quarantined() {
        post "@$sent"
        expect 200 quarantined
        [[ $(jq -c keys_unsorted "$body") == '["message","result","request_id"]' ]]
        jq "$2" "$body" >"$body.told"
        mv "$body.told" "$body"
        expect_kept "$1" "${3:-}"
    }
    for value in q Z Q,ZZ ,Q 'Q ' ReturnsPortalOrder; do
        receipt "$unit" '.initial_condition = "'"$value"'"' >"$sent"
        quarantined 422 '.message = "Validation Failed"
            | .errors = [{field: "initial_condition", code: "invalid_value"}]' \
            "$example"
    done
    receipt "$unit" '.reference.type = "Q"' >"$sent"
    quarantined 422 '.message = "Validation Failed" | .errors = [{field: "reference.type", code: "invalid_value"}]' \
        "$example"
    : >"$sent"
    quarantined 400 '.message = "The body is empty."'
    eventually grep -q "request_id=$(header X-Request-Id) status=200 result=quarantined" "$state"/log/worker-?.log
    [[ $(count "$unit") == 0 ]]

    # The policy is for what is refused for good, and for nothing else.
    request "${json[@]}" --data-binary '{' "$RECEIPTD_URL"
    expect 401
    request -X PUT "${key[@]}" "$RECEIPTD_URL"
    expect 405
    sql 'revoke insert on inventory.rejected_receipts from receiptd_writer'
    post '{'
    expect 503
    sql 'grant insert on inventory.rejected_receipts to receiptd_writer'
    [[ $(rejections) == 8 ]]
    deliver --connections 16 --deliveries 300 --new 2 --again 1 --revise 1 --invalid 2 --malformed 2 --flawless
    (($(told quarantined) > 50))
    settings
}
