# The configurations of nginx/README.md, as they stand there but for addresses and paths, in an nginx of their own in
# front of the workers of the shared instance; for remote_user, in front of one more.

setup_file() {
    load common
    use_instance shared
    set_worker_env
    folder=$E2E_SCRATCH/company
    mkdir -p "$folder/log" "$folder/tmp" "$folder/html" "$folder/tls"
    echo 'a page' >"$folder/html/index.html"
    make_certificates
    start_worker "$folder/worker.log" RECEIPTD_AUTH=remote_user -- --listen "$folder/user.sock"
    chmod 777 "$folder/user.sock"
    write_configuration
    nginx -p "$folder/" -c "$folder/nginx.conf" -e "$folder/log/error.log" 3>&-
    export company=$folder sender_worker=$worker
}

teardown_file() {
    kill -QUIT "$(<"$company/nginx.pid")"
    kill "$sender_worker"
}

setup() {
    load common
    use_instance shared
    unit=nginx-$BATS_TEST_NUMBER
    log=$company/log/receiptd.log
}

# certify NAME SUBJECT AUTHORITY
certify() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" -keyout "$folder/tls/$1.key" \
        -out "$folder/tls/$1.csr" 2>/dev/null
    openssl x509 -req -in "$folder/tls/$1.csr" -CA "$folder/tls/$3.crt" -CAkey "$folder/tls/$3.key" -CAcreateserial \
        -days 2 -out "$folder/tls/$1.crt" 2>/dev/null
}

make_certificates() {
    local name
    for name in server authority other; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$name" \
            -addext 'subjectAltName = DNS:*.example.com, IP:127.0.0.1, IP:::1' -keyout "$folder/tls/$name.key" \
            -out "$folder/tls/$name.crt" 2>/dev/null
    done
    certify optoro /O=Optoro/CN=optoro authority
    certify stranger /O=Optoro/CN=stranger authority
    certify forged /O=Optoro/CN=optoro other
}

# block HEADING [N [LANGUAGE]]: prints the Nth block of code below a heading of nginx/README.md.
block() {
    awk -v heading="$1" -v n="${2:-1}" -v start="\`\`\`${3:-nginx}" '/^##+ / { here = $0 ~ "^##+ " heading "$"; count = 0 }
        /^```$/ { on = 0 } on { print } here && $0 == start { on = ++count == n }' "$root/nginx/README.md"
}

# adapted PORT [EDIT]: a configuration from the page, at that port, with the paths of this test.
adapted() {
    sed -e "s,listen 443,listen 127.0.0.1:$1,; s,listen \[::\]:443,listen [::1]:$1," \
        -e "s,/etc/ssl/certs/receiptd.crt,$folder/tls/server.crt,; s,/etc/ssl/private/receiptd.key,$folder/tls/server.key," \
        -e "s,/usr/share/receiptd/nginx/,$folder/nginx/,; s,/var/www/html,$folder/html,; ${2-}" \
        -e "s,/etc/ssl/certs/senders.crt,$folder/tls/authority.crt,"
}

# user_location PATH AUTHENTICATION: the location of the senders at another path and worker, with that in it.
user_location() {
    sed -n '/^location = .inventory_receipt {/,/^}/p' "$folder/nginx/receiptd-server.conf" |
        sed "s,/inventory_receipt {,$1 {,; s,fastcgi_pass .*,fastcgi_pass unix:$folder/user.sock;,; /^}/d"
    printf '%s\n}\n' "$2"
}

# Sets ports, that many free ones.
find_ports() {
    mapfile -t ports < <(python3 -c '
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
for s in sockets: print(s.getsockname()[1])' "$1")
}

write_configuration() {
    local part
    find_ports 7
    printf '%s\n' "${ports[@]}" >"$folder/ports"
    cp -r "$state/nginx" "$folder/nginx"
    sed -i "s,log/nginx-receiptd.log,$folder/log/receiptd.log," "$folder/nginx/receiptd-server.conf"
    # As where IPv6 is switched off.
    [[ -e /proc/net/if_inet6 ]] || part='/\[::\]/d'
    {
        ((EUID != 0)) || echo "user $(stat -c '%U %G' "$state/run/worker-1.sock");"
        echo "worker_processes 1; pid $folder/nginx.pid; error_log $folder/log/error.log; events { }"
        echo "http { include $folder/nginx/receiptd-http.conf; access_log off; client_body_temp_path $folder/tmp/1;"
        echo "fastcgi_temp_path $folder/tmp/2; proxy_temp_path $folder/tmp/3; uwsgi_temp_path $folder/tmp/4;"
        echo "scgi_temp_path $folder/tmp/5;"
        block 'A server with other sites, gzip, HTTP/2 and IPv6' | adapted "${ports[0]}" "${part-}"
        echo "server { listen 127.0.0.1:${ports[0]} ssl; server_name other.example.com; location / { return 200 other; }"
        echo "ssl_certificate $folder/tls/server.crt; ssl_certificate_key $folder/tls/server.key; }"
        block 'Behind a load balancer' | adapted "${ports[1]}" 's,10.0.0.0/8,127.0.0.1,'
        block 'Behind a load balancer' 2 | adapted "${ports[2]}" 's,10.0.0.0/8,127.0.0.1,'
        block 'Address lists and limits' | adapted "${ports[3]}" \
            's,203.0.113.0/24,127.0.0.1,; s,200r/s,1r/m,; s,burst=100,burst=2,'
        block 'Address lists and limits' | adapted "${ports[6]}" \
            's,203.0.113.0/24,127.0.0.0/8,; s/connections 100/connections 2/; /_zone /d; /limit_req/d'
        block 'A client certificate'
        echo "server { listen 127.0.0.1:${ports[4]} ssl;"
        echo "ssl_certificate $folder/tls/server.crt; ssl_certificate_key $folder/tls/server.key;"
        block 'A client certificate' 2 | adapted 0
        user_location /inventory_receipt "$(block 'A client certificate' 3)"
        echo "include $folder/nginx/named.conf; }"
        echo "server { listen 127.0.0.1:${ports[5]} ssl;"
        echo "ssl_certificate $folder/tls/server.crt; ssl_certificate_key $folder/tls/server.key;"
        user_location /inventory_receipt "$(block 'An OAuth2 proxy')"
        user_location /down "$(block 'An OAuth2 proxy' | sed 's,/oauth2/auth,/oauth2/down,')"
        block 'An OAuth2 proxy' 2 | sed "s,http://127.0.0.1:4180,http://unix:$folder/oauth2.sock:,"
        block 'An OAuth2 proxy' 2 | sed "s,/oauth2/auth,/oauth2/down,; s,http://127.0.0.1:4180,http://unix:$folder/none.sock:,"
        echo "include $folder/nginx/named.conf; }"
        # The proxy: who has its cookie is known to it.
        echo "server { listen unix:$folder/oauth2.sock; if (\$http_cookie != session=good) { return 401; }"
        echo 'add_header X-Auth-Request-User jane@example.com always; location / { return 202; } }'
        echo '}'
    } >"$folder/nginx.conf"
    sed -n '/^location @receiptd_error/,$p' "$folder/nginx/receiptd-server.conf" >"$folder/nginx/named.conf"
}

# url N [PATH]: of the Nth server, from 0.
url() {
    mapfile -t ports <"$company/ports"
    echo "https://127.0.0.1:${ports[$1]}${2-/inventory_receipt}"
}

# deliver_to N [CURL ARGUMENT...]: the example under this test's unit.
deliver_to() {
    RECEIPTD_URL=$(url "$1") RECEIPTD_CACERT=$company/tls/server.crt post "$(receipt "$unit")" "${@:2}"
}

# anonymous N [CURL ARGUMENT...]: the same without a key.
anonymous() {
    RECEIPTD_CACERT=$company/tls/server.crt request -H 'Content-Type: application/json' --data-binary "$(receipt "$unit")" \
        "${@:2}" "$(url "$1")"
}

@test "a server with other sites, gzip, HTTP/2 and IPv6" {
    local port
    port=$(head -n 1 "$company/ports")
    deliver_to 0 --http2
    expect 201 created
    grep -q '^HTTP/2 201' "$head"
    deliver_to 0 --compressed
    [[ $code == 200 && $result == unchanged && $(header Content-Encoding) == gzip ]]
    # What nginx refuses before it has chosen a location, too.
    deliver_to 0 --http1.1 -H "baggage: $(printf '%*s' 40000 '' | tr ' ' x)"
    expect 503
    RECEIPTD_CACERT=$company/tls/server.crt request --http1.1 -H "baggage: $(printf '%*s' 40000 '' | tr ' ' x)" "$(url 0 /index.html)"
    [[ $code == 400 ]]
    # The worker's own answers, not the pages of the other sites.
    anonymous 0
    expect 401
    RECEIPTD_CACERT=$company/tls/server.crt request --resolve "shop.example.com:$port:127.0.0.1" \
        "https://shop.example.com:$port/index.html"
    [[ $code == 200 && $(<"$body") == 'a page' ]]
    RECEIPTD_CACERT=$company/tls/server.crt request --resolve "other.example.com:$port:127.0.0.1" \
        "https://other.example.com:$port/inventory_receipt"
    [[ $code == 200 && $(<"$body") == other ]]
    [[ -e /proc/net/if_inet6 ]] || skip 'there is no IPv6 here'
    RECEIPTD_URL="https://[::1]:$port/inventory_receipt" RECEIPTD_CACERT=$company/tls/server.crt post "$(receipt "$unit")"
    expect 200 unchanged
    eventually grep -q "request_id=$(header X-Request-Id) client=::1 " "$log"
}

@test "behind a load balancer: the sender's address, and from nobody else" {
    RECEIPTD_CACERT=$company/tls/server.crt python3 "$e2e/peers.py" proxied "$(url 1)" 203.0.113.7 "$CLIENT_API_KEY" "$(receipt "$unit")" 3>&-
    eventually grep -q "client=203.0.113.7 .* status=201 " "$log"
    deliver_to 2 -H 'X-Forwarded-For: 203.0.113.8, 127.0.0.1'
    expect 200 unchanged
    eventually grep -q "request_id=$(header X-Request-Id) client=203.0.113.8 " "$log"
    deliver_to 2 -H 'X-Forwarded-For: 203.0.113.9' --interface 127.0.0.2
    expect 200 unchanged
    eventually grep -q "request_id=$(header X-Request-Id) client=127.0.0.2 " "$log"
}

@test "an address that is not in the list, and what is above a limit, is told to come again" {
    local n codes=
    deliver_to 3 --interface 127.0.0.2
    expect 503
    [[ $(count "$unit") == 0 ]]
    for n in 1 2 3 4 5 6; do
        deliver_to 3
        codes+=" $code"
        [[ $code == 20[01] ]] || expect 503
    done
    [[ $codes == ' 201 200 200 503'* && $codes != *429* ]]
}

@test "more connections of one address than the limit are told to come again; another address is not" {
    local n bodies=()
    padded 100000 >"$BATS_TEST_TMPDIR/slow"
    for n in 1 2; do
        curl -q -sS --noproxy '*' --cacert "$company/tls/server.crt" --limit-rate 500 --max-time "$patience_s" -o /dev/null \
            -H "X-Api-Key: $CLIENT_API_KEY" -H 'Content-Type: application/json' \
            --data-binary @"$BATS_TEST_TMPDIR/slow" "$(url 6)" 3>&- &
        bodies+=($!)
    done
    eventually told_to_come_again 6
    deliver_to 6 --interface 127.0.0.2
    expect 201 created
    kill "${bodies[@]}"
    wait "${bodies[@]}" || :
    eventually told_unchanged 6
}

told_to_come_again() {
    anonymous "$1"
    [[ $code == 503 && -n $(header Retry-After) ]]
}

told_unchanged() {
    deliver_to "$1"
    [[ $code == 200 && $result == unchanged ]]
}

@test "a client certificate says who a sender is; another one, or none, is told 401" {
    local name
    certificate() {
        echo "--cert $company/tls/$1.crt --key $company/tls/$1.key"
    }
    # shellcheck disable=SC2046 # options
    anonymous 4 $(certificate optoro)
    expect 201 created
    [[ $(sql "select api_key_name from receipts where unit_identifier = '$unit'") == optoro ]]
    for name in stranger forged; do
        # shellcheck disable=SC2046
        anonymous 4 $(certificate "$name")
        expect 401
        [[ ! -s $body && -z $(header Content-Type) && $(header WWW-Authenticate) == *Bearer* ]]
    done
    anonymous 4 -H 'REMOTE_USER: optoro' -H 'Remote-User: optoro' -H 'X-SSL-Client-Verify: SUCCESS'
    expect 401
    [[ $(count "$unit") == 1 ]]
}

@test "an OAuth2 proxy says who a sender is; while it is away, the sender is to come again" {
    anonymous 5 -H 'X-Auth-Request-User: optoro' -H 'REMOTE_USER: optoro'
    expect 401
    [[ ! -s $body && $(count "$unit") == 0 ]]
    anonymous 5 -H 'Cookie: session=good' -H 'X-Auth-Request-User: optoro'
    expect 201 created
    [[ $(sql "select api_key_name from receipts where unit_identifier = '$unit'") == jane@example.com ]]
    RECEIPTD_CACERT=$company/tls/server.crt request -H 'Cookie: session=good' -H 'Content-Type: application/json' \
        --data-binary "$(receipt "$unit")" "$(url 5 /down)"
    expect 500
}

@test "logs are rotated, and every request has its line" {
    local before
    # nginx writes its lines once a second, and this one behind all others.
    deliver_to 0
    eventually grep -q "request_id=$(header X-Request-Id) " "$log"
    before=$(created_lines)
    block Logs 1 logrotate | sed "s,/var/log/receiptd/\*.log,$log,; s,/run/nginx.pid,$company/nginx.pid,g" |
        if ((EUID == 0)); then
            sed "s/www-data adm/$(stat -c '%U %G' "$state/run/worker-1.sock")/"
        else
            sed '/create/d'
        fi >"$BATS_TEST_TMPDIR/logrotate.conf"
    chmod 644 "$BATS_TEST_TMPDIR/logrotate.conf"
    RECEIPTD_URL=$(url 0) RECEIPTD_CACERT=$company/tls/server.crt load_in_background --connections 4 --new 1
    load_goes_on 20
    logrotate --force --state "$BATS_TEST_TMPDIR/state" "$BATS_TEST_TMPDIR/logrotate.conf"
    load_goes_on 20
    end_load
    [[ -s $log.1 ]]
    eventually logged $((before + $(told created)))
}

created_lines() {
    cat "$log"* | grep -c ' status=201 ' || :
}

logged() {
    [[ $(created_lines) == "$1" ]]
}
