# Every status of the contract, through nginx.

setup() {
    load common
    use_instance shared
    unit=answers-$BATS_TEST_NUMBER
    json=(-H 'Content-Type: application/json')
    key=(-H "X-Api-Key: $CLIENT_API_KEY")
}

# body_keys KEY...: the names in the answer's body, in order.
body_keys() {
    jq -e 'keys_unsorted == $ARGS.positional' "$body" --args "$@"
}

# malformed BODY [CURL ARGUMENT...]: a 400 that says what is wrong.
malformed() {
    post "$@"
    expect 400
    body_keys message request_id
}

@test "a receipt is created once, found unchanged, and revised" {
    post "$(receipt "$unit")"
    expect 201 created
    body_keys message result request_id
    post "$(receipt "$unit")"
    expect 200 unchanged
    body_keys message result request_id
    post "$(receipt "$unit" '.sku = "other"')"
    expect 200 revised
    body_keys message result request_id
    post "$(receipt "$unit" '.sku = "other"')"
    expect 200 unchanged
    post "$(receipt "$unit")"
    expect 200 revised
}

@test "a receipt with a long text is found unchanged, also among others that are known, and revised" {
    local n filter='.return_reason = ([range(20000)] | map("long") | join(" "))'
    post "$(receipt "$unit" "$filter")"
    expect 201 created
    for n in 1 2 3; do
        post "$(receipt "$unit" "$filter")"
        expect 200 unchanged
    done
    post "$(receipt "$unit")"
    expect 200 revised
    post "$(receipt "$unit" "$filter")"
    expect 200 revised
}

@test "each of the three key fields makes another receipt" {
    post "$(receipt "$unit")"
    expect 201 created
    post "$(receipt "$unit" '.asn_number = "other"')"
    expect 201 created
    post "$(receipt "$unit" '.program_identifier = "other"')"
    expect 201 created
    post "$(receipt "${unit^^}")"
    expect 201 created
}

@test "a number and a string of the same digits are the same content" {
    post "$(receipt "$unit" '.upc = 12345 | .asn_number = 77')"
    expect 201 created
    post "$(receipt "$unit" '.upc = "12345" | .asn_number = "77"')"
    expect 200 unchanged
}

@test "the order of members and white space are not content" {
    post "$(receipt "$unit" '.a = {x: 1, y: 2}')"
    expect 201 created
    post "$(receipt "$unit" '.a = {y: 2, x: 1}' | jq -S .)"
    expect 200 unchanged
}

@test "400: the content type is not application/json" {
    local type
    for type in text/plain application/x-www-form-urlencoded application/jsonx text/json application/json5 json \
        '*/*'; do
        request "${key[@]}" -H "Content-Type: $type" --data-binary "$(receipt "$unit")" "$RECEIPTD_URL"
        expect 400
        jq -e '.message | test("Content-Type")' "$body"
    done
    [[ $(count "$unit") == 0 ]]
}

@test "the content type may have parameters and any case" {
    local type
    for type in 'application/json; charset=utf-8' 'application/json;charset=UTF-8' 'APPLICATION/JSON' \
        'application/json ;v=1'; do
        request "${key[@]}" -H "Content-Type: $type" --data-binary "$(receipt "$unit-$type")" "$RECEIPTD_URL"
        expect 201 created
    done
}

@test "400: an empty body" {
    malformed ''
    request "${key[@]}" "${json[@]}" -X POST "$RECEIPTD_URL"
    expect 400
}

@test "400: malformed bodies, with line and column where the parser stopped" {
    python3 "$e2e/cases.py" malformed
}

@test "400: not UTF-8" {
    local bytes
    for bytes in '\xff' '\xc3' '\xc0\x80' '\xed\xa0\x80' '\xf4\x90\x80\x80' '\xe2\x82'; do
        receipt "$unit" '.sku = "@@"' | LC_ALL=C sed "s/@@/a$bytes/" >"$BATS_TEST_TMPDIR/data"
        malformed "@$BATS_TEST_TMPDIR/data"
    done
    for bytes in UTF-16 UTF-16LE UTF-16BE UTF-32 UTF-32LE UTF-32BE; do
        receipt "$unit" | iconv -f UTF-8 -t "$bytes" >"$BATS_TEST_TMPDIR/data"
        malformed "@$BATS_TEST_TMPDIR/data"
        jq -e '.message | test("UTF-16 or UTF-32")' "$body"
    done
    [[ $(count "$unit") == 0 ]]
}

@test "400: a NUL character, in a value, a name, an unknown field or the bytes" {
    malformed "$(receipt "$unit" '.sku = "a\u0000b"')"
    malformed "$(receipt "$unit" '.future = "\u0000"')"
    malformed "$(receipt "$unit" '.["\u0000"] = 1')"
    malformed "$(receipt "$unit" '.["sku\u0000"] = 1')"
    receipt "$unit" | tr r '\0' >"$BATS_TEST_TMPDIR/data"
    malformed "@$BATS_TEST_TMPDIR/data"
    receipt "$unit" >"$BATS_TEST_TMPDIR/data"
    printf '\0' >>"$BATS_TEST_TMPDIR/data"
    malformed "@$BATS_TEST_TMPDIR/data"
    [[ $(count "$unit") == 0 ]]
}

@test "400: half a surrogate pair" {
    local escape
    for escape in '\\ud83d' '\\ude00' '\\ud83dx' '\\ude00\\ud83d'; do
        malformed "$(receipt "$unit" '.sku = "@@"' | sed "s/@@/$escape/")"
    done
}

@test "400: a name twice in one object, at any level" {
    local filter
    for filter in 's/"sku":/"sku":"a","sku":/' 's/"from":{/"from":{"type":"a",/' 's/^{/{"x":1,"x":1,/' \
        's/^{/{"x":{"y":[{"z":1,"z":2}]},/' 's/"sku":/"s\\u006bu":"a","sku":/'; do
        malformed "$(receipt "$unit" | sed "$filter")"
    done
    [[ $(count "$unit") == 0 ]]
}

@test "400: nested too deep" {
    malformed "$(receipt "$unit" | sed "s/^{/{\"x\":$(printf '[%.0s' {1..5000})$(printf ']%.0s' {1..5000}),/")"
    malformed "$(printf '{"x":%.0s' {1..5000})"
    head -c 1000000 /dev/zero | tr '\0' '[' >"$BATS_TEST_TMPDIR/data"
    malformed "@$BATS_TEST_TMPDIR/data"
    [[ $(count "$unit") == 0 ]]
}

@test "400: more than 10,000 JSON values; 10,000 are stored" {
    local most
    # The field x is one more, besides those of the example.
    most=$((10000 - 1 - $(receipt "$unit" | jq '[.. | select(true)] | length')))
    receipt "$unit" ".x = [range($((most + 1)))]" >"$BATS_TEST_TMPDIR/data"
    malformed "@$BATS_TEST_TMPDIR/data"
    [[ $(<"$body") == *'"message":"The body has more than 10000 JSON values."'* ]]
    [[ $(count "$unit") == 0 ]]
    receipt "$unit" ".x = [range($most)]" >"$BATS_TEST_TMPDIR/data"
    post "@$BATS_TEST_TMPDIR/data"
    expect 201 created
}

@test "401: no body, and what to authenticate with" {
    request "${json[@]}" --data-binary "$(receipt "$unit")" "$RECEIPTD_URL"
    expect 401
    [[ ! -s $body ]]
    [[ $(header Content-Length) == 0 ]]
    [[ $(header WWW-Authenticate) == Bearer* ]]
    [[ $(count "$unit") == 0 ]]
}

@test "405: whatever is not POST, with Allow" {
    local method
    for method in GET PUT PATCH DELETE OPTIONS PROPFIND; do
        request -X "$method" "${key[@]}" "$RECEIPTD_URL"
        expect 405
        [[ $(header Allow) == POST ]]
        body_keys message
    done
    request -I "$RECEIPTD_URL"
    [[ $code == 405 && $(header Allow) == POST ]]
}

@test "a HEAD, a GET and a delivery share one connection" {
    {
        printf 'HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n' /inventory_receipt
    } | python3 "$e2e/client.py" | head -n 1 | grep 405
    request -I "$RECEIPTD_URL" --next -q -sS --cacert "$RECEIPTD_CACERT" -o /dev/null -D "$BATS_TEST_TMPDIR/second" \
        "${key[@]}" "${json[@]}" --data-binary "$(receipt "$unit")" "$RECEIPTD_URL"
    grep '^HTTP/1.1 201' "$BATS_TEST_TMPDIR/second"
}

@test "413: one byte more than 1 MiB, answered by a worker" {
    padded 1048577 >"$BATS_TEST_TMPDIR/data"
    [[ $(wc -c <"$BATS_TEST_TMPDIR/data") == 1048577 ]]
    post "@$BATS_TEST_TMPDIR/data"
    expect 413
    body_keys message
    [[ $(count "$unit") == 0 ]]
}

@test "413: more than nginx lets through" {
    padded 2097153 >"$BATS_TEST_TMPDIR/data"
    post "@$BATS_TEST_TMPDIR/data"
    expect 413
    post "@$BATS_TEST_TMPDIR/data" -H 'Transfer-Encoding: chunked'
    expect 413
}

@test "a receipt of exactly 1 MiB is stored, all of it" {
    padded 1048576 >"$BATS_TEST_TMPDIR/data"
    [[ $(wc -c <"$BATS_TEST_TMPDIR/data") == 1048576 ]]
    post "@$BATS_TEST_TMPDIR/data"
    expect 201 created
    [[ $(sql "select md5(extra ->> 'padding') from receipts where unit_identifier = :'unit'" unit="$unit") == \
        "$(jq -j .padding "$BATS_TEST_TMPDIR/data" | md5sum | cut -d ' ' -f 1)" ]]
}

@test "422: every error, and nothing is stored" {
    post "$(receipt "$unit" '.sku = " " | .to.identifier = "x" | .initial_condition = "Z" | del(.from)')"
    expect 422
    body_keys message errors request_id
    [[ $(jq -r '.errors[] | "\(.field) \(.code)"' "$body") == 'from missing_field
from.identifier missing_field
from.type missing_field
to.identifier invalid_type
sku missing_field
initial_condition invalid_value' ]]
    [[ $(jq -r .message "$body") == 'Validation Failed' ]]
    [[ $(count "$unit") == 0 ]]
}

@test "404: any other address, as JSON" {
    local path
    for path in / /inventory_receipt/x /inventory_receiptx /Inventory_Receipt /receiptd_error /%2e /x.html; do
        request -X POST "${RECEIPTD_URL%/inventory_receipt}$path"
        expect 404
    done
    request "${RECEIPTD_URL%/inventory_receipt}/"
    expect 404
}

@test "the address with a slash at its end is the same" {
    request "${key[@]}" "${json[@]}" --data-binary "$(receipt "$unit")" "$RECEIPTD_URL/"
    expect 201 created
    request "${key[@]}" "${json[@]}" --data-binary "$(receipt "$unit")" "$RECEIPTD_URL/?x=1"
    expect 200 unchanged
    request "${json[@]}" --data-binary "$(receipt "$unit")" "$RECEIPTD_URL/"
    expect 401
    request "$RECEIPTD_URL/"
    expect 405
}

@test "checked in order: method, key, size, content type, JSON, fields" {
    head -c 1048577 /dev/zero >"$BATS_TEST_TMPDIR/large"
    request -X PUT -H 'Content-Type: text/plain' --data-binary "@$BATS_TEST_TMPDIR/large" "$RECEIPTD_URL"
    expect 405
    request -H 'Content-Type: text/plain' --data-binary "@$BATS_TEST_TMPDIR/large" "$RECEIPTD_URL"
    expect 401
    request -H 'X-Api-Key: wrong' -H 'Content-Type: text/plain' --data-binary '{' "$RECEIPTD_URL"
    expect 401
    request "${key[@]}" -H 'Content-Type: text/plain' --data-binary "@$BATS_TEST_TMPDIR/large" "$RECEIPTD_URL"
    expect 413
    request "${key[@]}" -H 'Content-Type: text/plain' --data-binary '{' "$RECEIPTD_URL"
    expect 400
    jq -e '.message | test("Content-Type")' "$body"
    post '{"sku": 1.5'
    expect 400
}

@test "the request id of the answer is the one of the row, the worker's log and nginx's" {
    post "$(receipt "$unit")"
    expect 201 created
    local id
    id=$(header X-Request-Id)
    [[ $(sql "select request_id from receipts where unit_identifier = :'unit'" \
        unit="$unit") == "$id" ]]
    eventually grep -q "request_id=$id .*status=201" "$state"/log/worker-1.log "$state"/log/worker-2.log
    eventually grep -q "request_id=$id .*status=201" "$state/log/nginx-receiptd.log"
}

@test "a request id of the sender's own counts for nothing" {
    local forged=01234567-89ab-cdef-0123-456789abcdef
    post "$(receipt "$unit")" -H "X-Request-Id: $forged" -H "Request-Id: $forged" -H "Request_Id: $forged"
    expect 201 created
    [[ $(header X-Request-Id) != "$forged" ]]
}

@test "what is no HTTP is answered in JSON with a request id" {
    printf 'POST /inventory_receipt HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n' |
        python3 "$e2e/client.py" >"$BATS_TEST_TMPDIR/answer"
    grep -q '^HTTP/1.1 503' "$BATS_TEST_TMPDIR/answer"
    grep -q '^x-request-id: [0-9a-f]\{8\}\(-[0-9a-f]\{4\}\)\{3\}-[0-9a-f]\{12\}' "$BATS_TEST_TMPDIR/answer"
    sed -n '$p' "$BATS_TEST_TMPDIR/answer" | jq -e .message
}

@test "TLS 1.2 and 1.3, and nothing older" {
    request --tls-max 1.2 "$RECEIPTD_URL"
    expect 405
    request --tlsv1.3 "$RECEIPTD_URL"
    expect 405
    local address=${RECEIPTD_URL#https://} version
    address=${address%%/*}
    for version in -tls1 -tls1_1; do
        run openssl s_client "$version" -cipher 'ALL:@SECLEVEL=0' -connect "$address" </dev/null
        [[ $output != *'Cipher    : ECDHE'* && $output =~ (Cipher is \(NONE\)|alert protocol version) ]]
    done
}
