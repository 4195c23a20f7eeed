# Who may call.

setup() {
    load common
    use_instance shared
    unit=auth-$BATS_TEST_NUMBER
    data=$(receipt "$unit")
    stored=$(rows)
}

# call HEADER...: a delivery with these headers.
call() {
    local header headers=()
    for header in "$@"; do
        headers+=(-H "$header")
    done
    request -H 'Content-Type: application/json' "${headers[@]}" --data-binary "$data" "$RECEIPTD_URL"
}

# basic USER:PASSWORD
basic() {
    printf 'Authorization: Basic %s' "$(printf %s "$1" | base64 -w 0)"
}

# unauthorized HEADER...: is answered 401, without a body.
unauthorized() {
    call "$@"
    expect 401
    [[ ! -s $body && $(header Content-Length) == 0 && -z $(header Content-Type) ]]
    [[ $(header WWW-Authenticate) == *Bearer* ]]
}

# What is stored, of which nothing that is unauthorized may be.
rows() {
    sql 'select (select count(*) from inventory.receipts), (select count(*) from inventory.rejected_receipts)'
}

@test "the key is taken from each of the headers" {
    local header
    for header in "X-Api-Key: $CLIENT_API_KEY" "api_key: $CLIENT_API_KEY" \
        "Authorization: Bearer $CLIENT_API_KEY" "authorization: bearer $CLIENT_API_KEY" \
        "$(basic "optoro:$CLIENT_API_KEY")" "$(basic ":$CLIENT_API_KEY")" \
        "$(basic "$CLIENT_API_KEY:")" "$(basic "$CLIENT_API_KEY:x")" "apikey: $CLIENT_API_KEY" \
        "Authorization: Token $CLIENT_API_KEY" "Authorization: ApiKey $CLIENT_API_KEY" \
        "Authorization: Token token=\"$CLIENT_API_KEY\"" "Authorization: Token token=$CLIENT_API_KEY, nonce=\"x\""; do
        call "$header"
        echo "${header%% *}: $code"
        [[ $code == 20[01] ]]
    done
    [[ $(count "$unit") == 1 ]]
}

@test "the same key in several headers is one key" {
    call "X-Api-Key: $CLIENT_API_KEY" "api_key: $CLIENT_API_KEY" "apikey: $CLIENT_API_KEY" "$(basic "x:$CLIENT_API_KEY")"
    expect 201 created
    call "X-Api-Key: $CLIENT_API_KEY" "Authorization: Token token=\"$CLIENT_API_KEY\""
    expect 200 unchanged
}

@test "401: no key, a wrong one, or what is no key" {
    local wrong=rk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG
    unauthorized
    unauthorized 'X-Api-Key;'
    unauthorized "X-Api-Key: $wrong"
    unauthorized "api_key: $wrong"
    unauthorized "X-Api-Key: ${CLIENT_API_KEY%?}"
    unauthorized "X-Api-Key: ${CLIENT_API_KEY}x"
    unauthorized "X-Api-Key: ${CLIENT_API_KEY^^}"
    unauthorized "Authorization: $CLIENT_API_KEY"
    unauthorized "Authorization: Token $wrong"
    unauthorized "Authorization: Token token=\"$wrong\""
    unauthorized "Authorization: ApiKey $wrong"
    unauthorized "apikey: $wrong"
    unauthorized 'Authorization: Bearer'
    unauthorized "$(basic "$CLIENT_API_KEY")"
    unauthorized "$(basic "$wrong:")"
    unauthorized "$(basic "x:$wrong")"
    unauthorized 'Authorization: Basic !!!'
    unauthorized 'Authorization: Basic'
    unauthorized "$(basic "x:$CLIENT_API_KEY:y")"
    unauthorized "$(basic "x$CLIENT_API_KEY:y")"
    unauthorized "$(basic "x:y:$CLIENT_API_KEY")"
    unauthorized "X-Api-Key: $(head -c 4000 /dev/zero | tr '\0' k)"
    [[ $(rows) == "$stored" ]]
}

@test "401: keys that differ, also where one of them is right" {
    unauthorized "X-Api-Key: $CLIENT_API_KEY" 'api_key: other'
    unauthorized "X-Api-Key: $CLIENT_API_KEY" 'Authorization: Bearer other'
    unauthorized 'X-Api-Key: other' "$(basic "x:$CLIENT_API_KEY")"
    unauthorized "X-Api-Key: $CLIENT_API_KEY" 'X-Api-Key: other'
    unauthorized 'api_key: other' "api_key: $CLIENT_API_KEY"
    unauthorized 'apikey: other' "api_key: $CLIENT_API_KEY"
    unauthorized "apikey: $CLIENT_API_KEY" 'Authorization: Token token="other"'
    unauthorized "X-Api-Key: $CLIENT_API_KEY, other"
    [[ $(rows) == "$stored" ]]
}

@test "a key in the query string is none" {
    local name
    for name in api_key x-api-key key access_token; do
        request -H 'Content-Type: application/json' --data-binary "$data" \
            "$RECEIPTD_URL?$name=$CLIENT_API_KEY"
        expect 401
    done
}

@test "the digest of a key, which the key file holds, is no key" {
    unauthorized "X-Api-Key: $(awk 'END { print $2 }' "$state/keys")"
}

# With RECEIPTD_AUTH=remote_user, at a socket and a location of their own.

@test "remote_user: the sender is who the web server says, by name; a key or a header says nothing" {
    set_worker_env
    run -1 "${worker_env[@]}" RECEIPTD_AUTH=somebody "$WORKER" --listen "$BATS_TEST_TMPDIR/socket"
    [[ $output == 'RECEIPTD_AUTH=somebody: expected one of: key remote_user' ]]
    start_worker "$BATS_TEST_TMPDIR/log" RECEIPTD_AUTH=remote_user -- --listen "$BATS_TEST_TMPDIR/socket"
    PYTHONPATH=$root/tests/faults python3 "$e2e/fastcgi.py" "$BATS_TEST_TMPDIR/socket" remote_user "$unit" 3>&-
    kill -HUP "$worker"
    [[ $(sql "select api_key_name from receipts where unit_identifier = :'unit'" unit="$unit") == a.b_c@d-1 ]]
    grep -q "status=201 .* key=a.b_c@d-1 " "$BATS_TEST_TMPDIR/log"
    end_worker
}

@test "remote_user: basic authentication as nginx/README.md has it; a header that looks like it is no use" {
    local config=$state/nginx/receiptd-server.conf url=${RECEIPTD_URL%/*}/basic
    set_worker_env
    start_worker "$BATS_TEST_TMPDIR/log" RECEIPTD_AUTH=remote_user -- --listen "$state/run/basic.sock"
    printf 'optoro:%s\n' "$(openssl passwd -apr1 secret)" >"$state/nginx/htpasswd"
    chmod 777 "$state/run/basic.sock"
    chmod 644 "$state/nginx/htpasswd"
    cp "$config" "$config.before"
    {
        sed -n '/^location = .inventory_receipt {/,/^}/p' "$config.before" |
            sed "s,/inventory_receipt {,/basic {,; s,fastcgi_pass .*,fastcgi_pass unix:$state/run/basic.sock;,; /^}/d"
        awk '/^### / { here = /Basic/ } /^```$/ { on = 0 } here && on { print } /^```nginx$/ { on = 1 }' "$root/nginx/README.md" |
            sed "s,/etc/nginx/receiptd.htpasswd,$state/nginx/htpasswd,"
        echo '}'
    } >>"$config"
    reload_nginx
    eventually answers_401 "$url"
    request "$url" -H 'Content-Type: application/json' -u optoro:wrong --data-binary "$data"
    expect 401 # nginx's own
    [[ ! -s $body && $(header WWW-Authenticate) == 'Basic realm="receipts"' ]]
    request "$url" -H 'Content-Type: application/json' -H 'Remote-User: optoro' -H 'REMOTE_USER: optoro' --data-binary "$data"
    [[ $code == 401 ]] # nginx's own
    [[ $(count "$unit") == 0 ]]
    request "$url" -H 'Content-Type: application/json' -u optoro:secret --data-binary "$data"
    expect 201 created
    mv "$config.before" "$config"
    reload_nginx
    end_worker
}

answers_401() {
    request "$1" -H 'Content-Type: application/json' --data-binary "$data"
    [[ $code == 401 ]]
}
