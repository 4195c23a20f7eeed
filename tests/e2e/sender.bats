# What a real sender may send: no valid receipt is lost over a formality.

setup() {
    load common
    use_instance shared
    unit=sender-$BATS_TEST_NUMBER
}

# letters COUNT: prints that many.
letters() {
    printf '%*s' "$1" '' | tr ' ' x
}

# raw TEXT: sends it as it is; sets code, and leaves the answer in the files head and body.
raw() {
    head=$BATS_TEST_TMPDIR/head body=$BATS_TEST_TMPDIR/body result=
    printf '%b' "$1" | python3 "$e2e/client.py" >"$BATS_TEST_TMPDIR/answer"
    sed '/^$/q; s/$/\r/' "$BATS_TEST_TMPDIR/answer" >"$head"
    sed '1,/^$/d' "$BATS_TEST_TMPDIR/answer" >"$body"
    read -r _ code _ <"$head"
}

@test "a header line of 31 kB is passed on, and so are two" {
    post "$(receipt "$unit")" -H "baggage: $(letters 31000)"
    expect 201 created
    post "$(receipt "$unit")" -H "baggage: $(letters 31000)" -H "Cookie: $(letters 31000)"
    expect 200 unchanged
}

@test "a delivery that nginx refuses gets 503, after which the sender retries" {
    local start='POST /inventory_receipt HTTP/1.1\r\nHost: localhost\r\n' request id ids=()
    for request in "${start}baggage: $(letters 40000)\r\n\r\n" \
        "POST /inventory_receipt?$(letters 40000) HTTP/1.1\r\nHost: localhost\r\n\r\n" \
        "${start}Content-Length: -1\r\n\r\n" \
        "${start}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx" \
        "${start}Transfer-Encoding: snail\r\n\r\n" \
        "${start}Host: other\r\n\r\n" \
        "${start}Transfer-Encoding: chunked\r\n\r\nzz\r\n" \
        'POST /inventory_receipt HTTP/1.1\r\nContent-Length: 1\r\n\r\nx' \
        'POST /inventory_receipt/ HTTP/1.1\r\n\r\n' \
        'POST https://localhost/inventory_receipt?a=b HTTP/1.1\r\n\r\n' \
        'POST /inventory_receipt HTTP/3.7\r\nHost: localhost\r\n\r\n' \
        'post /inventory_receipt HTTP/1.1\r\nHost: localhost\r\n\r\n'; do
        raw "$request"
        echo "${request:0:200}"
        expect 503
        ids+=("$(header X-Request-Id)")
    done
    for id in "${ids[@]}"; do
        eventually grep -q "request_id=$id .* status=503 " "$state/log/nginx-receiptd.log"
    done
    request -X POST "http://${RECEIPTD_URL#https://}"
    expect 503
}

@test "other requests that nginx refuses get 400, in JSON" {
    local request
    for request in 'GET /inventory_receipt HTTP/1.1\r\n\r\n' 'POST /inventory_receipts HTTP/1.1\r\n\r\n' 'nonsense\r\n\r\n' \
        "POST / HTTP/1.1\r\nHost: localhost\r\nbaggage: $(letters 40000)\r\n\r\n"; do
        raw "$request"
        expect 400
        jq -e '.message == "The request is not valid HTTP."' "$body"
    done
    raw 'TRACE /inventory_receipt HTTP/1.1\r\nHost: localhost\r\n\r\n'
    expect 405
}

# stored_as TYPE FILE [CURL ARGUMENT...]: a file with the example, sent as that content type, is a receipt. An empty type: none
# is sent.
stored_as() {
    request -H "X-Api-Key: $CLIENT_API_KEY" -H "Content-Type:${1:+ $1}" --data-binary "@$2" "${@:3}" "$RECEIPTD_URL"
    [[ $code == 20[01] ]] || expect 201 created
}

@test "a byte order mark is passed over" {
    printf '\xef\xbb\xbf%s' "$(receipt "$unit")" >"$BATS_TEST_TMPDIR/data"
    post "@$BATS_TEST_TMPDIR/data"
    expect 201 created
    post "$(receipt "$unit")"
    expect 200 unchanged
}

@test "a content type of JSON in any form, twice, or none" {
    local type
    receipt "$unit" >"$BATS_TEST_TMPDIR/data"
    for type in 'application/json, application/json' 'application/json,application/json; charset=utf-8' \
        'application/json; charset=UTF-8' 'application/json; charset=iso-8859-1' 'application/vnd.optiturn+json' ''; do
        stored_as "$type" "$BATS_TEST_TMPDIR/data"
    done
    stored_as application/json "$BATS_TEST_TMPDIR/data" -H 'content-type: application/json; charset=utf-8'
    [[ $(count "$unit") == 1 ]]
}

@test "a compressed body is decompressed, whatever Content-Encoding says" {
    local encoding
    receipt "$unit" >"$BATS_TEST_TMPDIR/data"
    gzip -k "$BATS_TEST_TMPDIR/data"
    python3 -c 'import sys, zlib; sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))' \
        <"$BATS_TEST_TMPDIR/data" >"$BATS_TEST_TMPDIR/data.zlib"
    for encoding in gzip GZIP x-gzip ''; do
        stored_as application/json "$BATS_TEST_TMPDIR/data.gz" -H "Content-Encoding:${encoding:+ $encoding}"
    done
    stored_as application/json "$BATS_TEST_TMPDIR/data.gz" -H 'Content-Encoding: gzip' -H 'Transfer-Encoding: chunked'
    stored_as application/json "$BATS_TEST_TMPDIR/data.zlib" -H 'Content-Encoding: deflate'
    stored_as application/json "$BATS_TEST_TMPDIR/data" -H 'Content-Encoding: identity'
    stored_as application/json "$BATS_TEST_TMPDIR/data" -H 'Content-Encoding: gzip'
    [[ $(count "$unit") == 1 ]]
    post "$(receipt "$unit")"
    expect 200 unchanged
}

@test "a compressed body has the limit of one that is not" {
    padded 1048576 | gzip >"$BATS_TEST_TMPDIR/fits"
    post "@$BATS_TEST_TMPDIR/fits" -H 'Content-Encoding: gzip'
    expect 201 created
    padded 1048577 | gzip >"$BATS_TEST_TMPDIR/large"
    head -c 200000000 /dev/zero | gzip >"$BATS_TEST_TMPDIR/bomb"
    local data
    for data in large bomb; do
        post "@$BATS_TEST_TMPDIR/$data" -H 'Content-Encoding: gzip'
        expect 400
        [[ $(jq -r .message "$body") == *"larger than 1 MiB"* ]]
    done
}

@test "the sender's headers are with the row, its history and in the log, and are no content" {
    local version='X-Optiturn-Api-Version: 1.0.0' trace=traceparent:\ 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    post "$(receipt "$unit")" -H 'X-Optiturn-Id: first' -H "$version"
    expect 201 created
    [[ $(headers_of receipts) == '{"x-optiturn-id": "first", "x-optiturn-api-version": "1.0.0"}' ]]
    eventually grep -q "request_id=$(header X-Request-Id) .* optiturn_id=first optiturn_api_version=1.0.0 ms=" \
        "$state"/log/worker-{1,2}.log
    post "$(receipt "$unit")" -H 'X-Optiturn-Id: second'
    expect 200 unchanged
    [[ $(headers_of receipts) == *first* ]]
    post "$(receipt "$unit" '.sku = "other"')" -H "$trace"
    expect 200 revised
    [[ $(headers_of receipts) == '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}' ]]
    [[ $(headers_of receipt_revisions) == *first* ]]
    post "$(receipt "$unit" '.sku = "third"')"
    expect 200 revised
    [[ -z $(headers_of receipts) ]]
}

# headers_of TABLE: of the newest row of this unit there.
headers_of() {
    sql "select sender_headers from $1 where unit_identifier = '$unit' order by ${2-revision} desc limit 1"
}

@test "the sender's headers are with a rejection, and with the receipt that reprocess makes of it" {
    post "$(receipt "$unit" '.initial_condition = "Z7"')" -H 'X-Optiturn-Id: rejected' -H 'traceparent: 00-1'
    expect 422
    [[ $(headers_of rejected_receipts received_at) == '{"traceparent": "00-1", "x-optiturn-id": "rejected"}' ]]
    set_worker_env
    "${worker_env[@]}" RECEIPTD_EXTRA_CONDITIONS=Z7 "$WORKER" reprocess
    [[ $(headers_of receipts) == '{"traceparent": "00-1", "x-optiturn-id": "rejected"}' ]]
}

@test "hostile headers of the sender are cut and made printable, and forge nothing" {
    post "$(receipt "$unit")" -H $'X-Optiturn-Id: a" level=error msg=forged\x1b[31m\xff\xc3\xa4' -H "traceparent: $(letters 9000)" \
        -H 'X_Optiturn_Api_Version: 1' -H 'X-Optiturn-Api-Version;'
    expect 201 created
    [[ $(sql "select sender_headers ->> 'x-optiturn-id', length(sender_headers ->> 'traceparent') from receipts
        where unit_identifier = '$unit'") == 'a" level=error msg=forged?[31m???|255' ]]
    eventually grep -qF 'optiturn_id="a\" level=error msg=forged?[31m???" ' "$state"/log/worker-{1,2}.log
}
