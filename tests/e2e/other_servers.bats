# Apache and lighttpd in front of the shared instance's workers, with the pieces of configuration of nginx/README.md.

setup() {
    load common
    use_instance shared
    unit=$BATS_TEST_NUMBER-server
    folder=$(mktemp -d "$state/server.XXXXXX")
    chmod 755 "$folder"
    port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
    user=$(stat -c %U "$state/run/worker-1.sock") group=$(stat -c %G "$state/run/worker-1.sock")
}

# piece LANGUAGE: the block of nginx/README.md in that language, with the sockets of the instance.
piece() {
    awk -v start="\`\`\`$1" '/^```$/ { on = 0 } on { print } $0 == start { on = 1 }' "$root/nginx/README.md" |
        sed "s,/run/receiptd/,$state/run/,"
}

# takes_receipts: what has to be true behind each.
takes_receipts() {
    local name n replaced pid
    export RECEIPTD_URL=http://127.0.0.1:$port/inventory_receipt
    post "$(receipt "$unit")"
    [[ $code == 201 && $result == created ]]
    [[ $(sql "select request_id from receipts where unit_identifier = '$unit'") == \
        "$(header X-Request-Id)" ]]
    post "$(receipt "$unit")" -H 'Transfer-Encoding: chunked'
    [[ $code == 200 && $result == unchanged ]]
    RECEIPTD_URL=$RECEIPTD_URL/ post "$(receipt "$unit")"
    [[ $code == 200 && $result == unchanged ]]
    request -u "anything:$CLIENT_API_KEY" -H 'Content-Type: application/json' --data-binary "$(receipt "$unit")" \
        "$RECEIPTD_URL"
    [[ $code == 200 && $result == unchanged ]]
    request -H "api_key: $CLIENT_API_KEY" -H 'Content-Type: application/json' --data-binary "$(receipt "$unit")" \
        "$RECEIPTD_URL"
    [[ $code == 200 && $result == unchanged ]]
    request -H "apikey: $RECEIPTD_API_KEY" -H "baggage: $(printf '%*s' 31000 '' | tr ' ' x)" -H 'X-Optiturn-Id: 7' \
        -H 'Content-Type: application/json' --data-binary "$(receipt "$unit-headers")" "$RECEIPTD_URL"
    [[ $code == 201 && $result == created ]]
    request -H 'REMOTE_USER: local' -H 'RECEIPTD_PAGE: metrics' -H 'Content-Type: application/json' \
        --data-binary "$(receipt "$unit")" "$RECEIPTD_URL"
    [[ $code == 401 && ! -s $body ]]
    post '{'
    [[ $code == 400 ]]
    jq -e .request_id "$body"
    padded 300000 >"$folder/large"
    post "@$folder/large"
    [[ $code == 200 && $result == revised ]]
    [[ $(sql "select length(extra ->> 'padding') > 290000 from receipts where unit_identifier = '$unit'") == t ]]
    padded 1200000 >"$folder/large"
    post "@$folder/large"
    [[ $code == 413 ]]
    request "$RECEIPTD_URL"
    [[ $code == 405 ]]
    for name in receiptd/metrics receiptd/ready other inventory_receipt/other; do
        request "http://127.0.0.1:$port/$name"
        [[ $code == 404 ]]
    done
    # The other worker takes what comes while one is replaced.
    for n in {1..40}; do
        if ((n % 10 == 0)); then
            replaced=$((n / 10 % 2 + 1)) pid=$(worker_pid $((n / 10 % 2 + 1)))
            kill -TERM "$pid"
        fi
        ((n % 10 != 9 || n < 10)) || eventually new_worker "$replaced" "$pid"
        eventually not_told_to_come_again "$unit-$n"
        [[ $code == 20[01] ]]
    done
    [[ $(sql "select count(*) from receipts where unit_identifier like '$unit-%'") == 41 ]]
}

not_told_to_come_again() {
    post "$(receipt "$1")"
    [[ $code != 5* ]]
}

accepts() {
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

@test "Apache, mod_proxy_fcgi" {
    local modules=/usr/lib/apache2/modules name
    [[ -d $modules ]] || skip 'Apache is not here (Debian: apache2-bin)'
    {
        for name in mpm_event authz_core proxy proxy_fcgi proxy_balancer lbmethod_byrequests slotmem_shm setenvif; do
            echo "LoadModule ${name}_module $modules/mod_$name.so"
        done
        ((EUID != 0)) || printf 'User %s\nGroup %s\n' "$user" "$group"
        printf 'ServerRoot %s\nPidFile %s/pid\nErrorLog %s/error.log\nListen 127.0.0.1:%s\nServerName localhost\n' \
            "$folder" "$folder" "$folder" "$port"
        printf 'DefaultRuntimeDir %s\nDocumentRoot %s\n' "$folder" "$folder"
        piece apache
    } >"$folder/apache.conf"
    apache2 -f "$folder/apache.conf" -DFOREGROUND >"$folder/output" 2>&1 3>&- &
    server=$!
    eventually accepts
    takes_receipts
}

@test "lighttpd" {
    command -v lighttpd >/dev/null || skip 'lighttpd is not here (Debian: lighttpd)'
    {
        printf 'server.document-root = "%s"\nserver.port = %s\nserver.bind = "127.0.0.1"\nserver.errorlog = "%s/error.log"\n' \
            "$folder" "$port" "$folder"
        ((EUID != 0)) || printf 'server.username = "%s"\nserver.groupname = "%s"\n' "$user" "$group"
        piece lighttpd
    } >"$folder/lighttpd.conf"
    touch "$folder/error.log"
    chmod 666 "$folder/error.log"
    lighttpd -D -f "$folder/lighttpd.conf" >"$folder/output" 2>&1 3>&- &
    server=$!
    eventually accepts
    takes_receipts
}

teardown() {
    if [[ ${server-} ]]; then
        kill "$server"
        wait "$server" || :
    fi
    cat "$folder/error.log" "$folder/output" 2>/dev/null || :
}
