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
