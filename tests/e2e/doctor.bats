# receiptd doctor: what it says of each thing between the sender and the disk.

setup_file() {
    load common
    start_instance doctor
}

setup() {
    load common
    use_instance doctor
    set_worker_env
    sockets=("$state/run/worker-1.sock" "$state/run/worker-2.sock")
    # Its own, so that the system's is left alone.
    mkdir -p "$BATS_TEST_TMPDIR/bin"
    worker_env+=("PATH=$BATS_TEST_TMPDIR/bin:/usr/bin:/bin" "RECEIPTD_URL=$RECEIPTD_URL"
        "RECEIPTD_CACERT=$RECEIPTD_CACERT")
    nginx_says 0 ''
}

# nginx_says STATUS WORDS: of nginx -t.
nginx_says() {
    printf '#!/bin/sh\n[ "$*" = "-t -q" ] || exit 9\necho "%s" >&2\nexit %d\n' "$2" "$1" >"$BATS_TEST_TMPDIR/bin/nginx"
    chmod 755 "$BATS_TEST_TMPDIR/bin/nginx"
}

# doctor [NAME=VALUE...] [-- ARGUMENT...]: its exit status has to be that of the worst finding.
doctor() {
    local settings=() worst
    while (($# > 0)) && [[ $1 != -- ]]; do
        settings+=("$1")
        shift
    done
    (($# > 0)) || set -- -- "${sockets[@]}"
    run timeout "$patience_s" "${worker_env[@]}" "${settings[@]}" "$WORKER" doctor --json "${@:2}" </dev/null
    found=$output
    worst=$(jq -r '[.findings[].status] | if index("FAIL") then 2 elif index("warn") then 1 else 0 end' <<<"$found")
    [[ $status == "$worst" && $(jq -r .status <<<"$found") == "$(cut -d ' ' -f $((worst + 1)) <<<'ok warn FAIL')" ]]
}

# finds STATUS SUBJECT TEXT: one of the findings is this; with advice, unless it is ok.
finds() {
    jq -e --arg status "$1" --arg subject "$2" --arg text "$3" '.findings | any(.status == $status and .subject == $subject
        and (.finding | contains($text)) and ((.advice == null) == ($status == "ok")))' <<<"$found" >/dev/null ||
        { echo "not found: $*"; jq -r '.findings[] | "\(.status) \(.subject): \(.finding); \(.advice)"' <<<"$found"; return 1; }
}

metrics_of() {
    curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "${RECEIPTD_URL%/*}/receiptd/$1/metrics" 3>&-
}

# How many requests of the doctor's worker 1 has answered.
examinations() {
    metrics_of 1 | sed -n 's/^receiptd_doctor_requests_total //p'
}

# advises SUBJECT TEXT: what one of the findings says to do.
advises() {
    jq -e --arg subject "$1" --arg text "$2" '.findings | any(.subject == $subject and ((.advice // "") | contains($text)))' \
        <<<"$found" >/dev/null ||
        { echo "not advised: $*"; jq -r '.findings[] | "\(.status) \(.subject): \(.finding); \(.advice)"' <<<"$found"; return 1; }
}

everything() {
    sql "select (select count(*) from receipts), (select count(*) from inventory.rejected_receipts),
        (select count(*) from receipt_revisions)"
}

@test "all is well, in the order of the path, and nothing is changed" {
    local before delivered examined pid
    # A new worker, which has counted nothing.
    pid=$(worker_pid 1)
    kill "$pid"
    eventually new_worker 1 "$pid"
    eventually doctor_says_ready "${sockets[0]}"
    before=$(everything) delivered=$(deliveries_of 1) examined=$(examinations)
    doctor
    [[ $(jq -r '[.findings[].subject] | join(",")' <<<"$found") == "configuration,API keys,socket,worker,socket,worker,nginx,\
certificate,TLS,endpoint,database,durability,cluster,schema,schema,connections,connections,transaction ids,autovacuum,disk,rejections,clock" ]]
    # Of the machine's clock the test knows nothing, and of its disk little.
    [[ $(jq -r '[.findings[] | select(.status != "ok" and .subject != "clock" and .subject != "disk")] | length' \
        <<<"$found") == 0 ]]
    finds ok 'API keys' 'mode 0600'
    finds ok socket 'worker-1.sock: '
    finds ok certificate 'localhost 127.0.0.1, 36'
    finds ok endpoint 'reaches a worker: GET is answered 405'
    finds ok schema 'version 1, this program needs 1'
    [[ $(everything) == "$before" ]]
    # The doctor's request is no delivery.
    [[ $(deliveries_of 1) == "$delivered" ]]
    run ! grep '^receiptd_deliveries_total{answer="method_not_allowed".* [1-9]' <(metrics_of 1)
    (($(examinations) == examined + 1))
    # The same in lines.
    run timeout "$patience_s" "${worker_env[@]}" "$WORKER" doctor "${sockets[@]}"
    [[ $status != 2 && ${#lines[@]} == 22 && ${lines[1]} =~ ^ok\ +API\ keys\ +1\ in\  ]]
    # Without a socket it looks in /run/receiptd.
    doctor --
    jq -e '.findings | any(.subject == "socket" and (.finding | contains("/run/receiptd/worker-")))' <<<"$found"
}

@test "configuration and keys" {
    doctor RECEIPTD_THREADS=0 RECEIPTD_THREAD=1
    finds FAIL configuration RECEIPTD_THREADS=0
    finds FAIL configuration 'RECEIPTD_THREAD: there is no such variable'
    # The rest is examined all the same.
    finds ok durability fsync
    doctor RECEIPTD_DEADLINE_MS=15000
    finds warn configuration RECEIPTD_DEADLINE_MS=15000
    doctor RECEIPTD_KEYS_FILE=/nonexistent/keys
    finds FAIL 'API keys' /nonexistent/keys
    cp "$state/keys" "$BATS_TEST_TMPDIR/keys"
    chmod 646 "$BATS_TEST_TMPDIR/keys"
    doctor "RECEIPTD_KEYS_FILE=$BATS_TEST_TMPDIR/keys"
    finds FAIL 'API keys' 'everyone can write'
    chmod 644 "$BATS_TEST_TMPDIR/keys"
    doctor "RECEIPTD_KEYS_FILE=$BATS_TEST_TMPDIR/keys"
    finds warn 'API keys' 'everyone can read'
    doctor RECEIPTD_AUTH=remote_user
    finds ok 'API keys' none
}

@test "--env: the environment of the workers, and nothing of the shell's" {
    local file=$BATS_TEST_TMPDIR/receiptd.env
    {
        printf '# A comment\n\n; another\n  RECEIPTD_KEYS_FILE="%s"\n' "$state/keys"
        printf 'PGHOST=%s  \n' "$PGHOST"
        printf "PGDATABASE='inventory'\nPGUSER=receiptd_writer\n"
    } >"$file"
    doctor RECEIPTD_THREADS=0 PGPORT=1 PGUSER=nobody -- --env "$file" "${sockets[@]}"
    finds ok configuration "of $file"
    finds ok database ' as receiptd_writer'
    finds warn endpoint 'not tried'
    doctor -- --env "$file.not" "${sockets[@]}"
    finds FAIL configuration "$file.not: No such file"
}

@test "sockets and workers" {
    local socket=$BATS_TEST_TMPDIR/socket answering
    doctor -- "$socket"
    finds FAIL socket 'there is no such socket'
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$socket"
    chmod 666 "$socket"
    eventually doctor_says_ready "$socket"
    finds warn socket 'mode 0666'
    # The request goes to others.
    finds FAIL endpoint 'none of these workers was asked'
    doctor RECEIPTD_AUTH=remote_user -- "$socket"
    finds FAIL socket 'mode 0666'
    chmod 600 "$socket"
    doctor -- "$socket"
    finds warn socket 'mode 0600'
    kill -STOP "$worker"
    doctor -- "$socket"
    kill -CONT "$worker"
    finds FAIL worker 'does not answer'
    end_worker
    # One whose database is away.
    start_worker "$BATS_TEST_TMPDIR/log2" PGHOST=/nonexistent -- --listen "$socket"
    doctor -- "$socket"
    finds FAIL worker 'the database does not answer'
    end_worker
    # One of another version, and what is no FastCGI.
    for answering in $'{"ready":true}\nreceiptd_info{version="0.0.9"} 1' -; do
        python3 "$e2e/peers.py" answer "$socket" "$answering" 3>&- &
        eventually connects "$socket"
        doctor -- "$socket"
        kill $!
        rm "$socket"
        if [[ $answering == - ]]; then
            finds FAIL worker 'does not speak FastCGI'
        else
            finds warn worker 'runs version 0.0.9'
        fi
    done
}

@test "a key file that the workers cannot read, and one with a mistake" {
    local keys=$state/unreadable user
    echo 'optoro zz' >"$keys"
    doctor "RECEIPTD_KEYS_FILE=$keys"
    finds FAIL 'API keys' 'line 1: expected NAME and a SHA-256 digest'
    advises 'API keys' 'correct that line'
    : >"$keys"
    doctor "RECEIPTD_KEYS_FILE=$keys"
    advises 'API keys' 'make one: receiptd key NAME'
    doctor "RECEIPTD_KEYS_FILE=$BATS_TEST_TMPDIR"
    advises 'API keys' 'name a regular file'
    chmod 000 "$keys"
    # Root can read it.
    user=$(stat -c %U "$state/pgdata")
    if [[ $user != "$(id -un)" ]]; then
        set_as_user "$user"
        worker_env=("${as_user[@]}" "${worker_env[@]}")
    fi
    WORKER=$state/bin/receiptd doctor "RECEIPTD_KEYS_FILE=$keys"
    rm -f "$keys"
    finds FAIL 'API keys' "(owner $(id -un), group $(id -gn), mode 0000)"
    advises 'API keys' "chown root:receiptd $keys; chmod 0640 $keys"
}

@test "a line of the environment that is no setting is named, and no other one is" {
    local file=$BATS_TEST_TMPDIR/receiptd.env line
    worker_env+=("RECEIPTD_URL=")
    for line in 'RECEIPTD_THREADS 4' 'export RECEIPTD_THREADS=4' '=4' $'RECEIPTD_THREADS\xff=4' '2THREADS=4'; do
        printf 'RECEIPTD_KEYS_FILE = %s \n%s\nPGHOST=%s\nPGDATABASE=inventory\nPGUSER=receiptd_writer\n' "$state/keys" \
            "$line" "$PGHOST" >"$file"
        doctor -- --env "$file" "${sockets[@]}"
        finds warn configuration "$file, line 2 is no setting: "
        finds ok database ' as receiptd_writer'
    done
    for line in '# a comment' '; another' '' '  ' "RECEIPTD_THREADS='4'" 'RECEIPTD_EXTRA_CONDITIONS=a=b'; do
        printf 'RECEIPTD_KEYS_FILE=%s\n%s\n' "$state/keys" "$line" >"$file"
        doctor -- --env "$file" "${sockets[@]}"
        run ! finds warn configuration ''
    done
}

@test "what is not UTF-8, or controls a terminal, is replaced" {
    nginx_says 1 $'\xff\xc3\xa9\x1b[2J\xc2\x85\xed\xa0\x80\xf4\x90\x80\x80 of Caf\xc3\xa9\xe2\x82'
    doctor
    finds FAIL nginx $'\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd[2J\xef\xbf\xbd'
    finds FAIL nginx $' of Caf\xc3\xa9\xef\xbf\xbd'
    run -2 timeout "$patience_s" "${worker_env[@]}" "$WORKER" doctor "${sockets[@]}"
    [[ $output != *$'\x1b'* && $output == *'[2J'* ]]
}

@test "a socket in a closed folder, and a file in its place" {
    local closed=$state/closed
    mkdir -m 700 "$closed"
    python3 "$e2e/peers.py" answer "$closed/socket" - 3>&- &
    eventually connects "$closed/socket"
    : >"$closed/file"
    doctor -- "$closed/file"
    finds FAIL socket 'Socket operation on non-socket'
    advises socket 'remove that file'
    chmod 000 "$closed"
    set_as_user "$(stat -c %U "$state/pgdata")"
    [[ $EUID != 0 ]] || worker_env=("${as_user[@]}" "${worker_env[@]}")
    WORKER=$state/bin/receiptd doctor -- "$closed/socket"
    chmod 700 "$closed"
    kill $!
    rm -rf "$closed"
    finds warn socket "$closed/socket: Permission denied"
    advises socket 'run this as root'
}

@test "the advice for a database is about the cause" {
    doctor PGHOST=127.0.0.1 PGPORT=1
    advises database 'start PostgreSQL; if it does not start, see its log and its disk'
    doctor "PGHOST=$BATS_TEST_TMPDIR"
    advises database 'start PostgreSQL; if it does not start, see its log and its disk'
    doctor PGHOST=no-such-name.invalid
    advises database 'correct PGHOST, or the name service'
    doctor PGDATABASE=nowhere
    advises database 'correct PGDATABASE, or create the database'
    doctor PGUSER=nobody
    advises database 'check PGUSER'
    sql 'alter role receiptd_writer set default_transaction_read_only = on'
    doctor
    sql 'alter role receiptd_writer reset default_transaction_read_only'
    advises database 'name the primary in PGHOST'
}

# s_server OPTION...: openssl's server on 127.0.0.1, or by its -accept; sets server, its process, and port.
s_server() {
    openssl s_server -quiet -www -accept 127.0.0.1:0 "$@" >"$BATS_TEST_TMPDIR/s_server" 2>&1 3>&- &
    server=$!
    eventually listens "$server"
    port=$(listens "$server")
}

@test "a certificate that has expired, or begins tomorrow, and a server without TLS 1.2" {
    local name from until said advice port server
    while IFS='|' read -r name from until said advice; do
        certificate "$BATS_TEST_TMPDIR/$name" "$from" "$until"
        s_server -key "$BATS_TEST_TMPDIR/$name.key" -cert "$BATS_TEST_TMPDIR/$name.crt"
        doctor "RECEIPTD_URL=https://localhost:$port/" "RECEIPTD_CACERT=$BATS_TEST_TMPDIR/$name.crt"
        finds FAIL certificate "$said"
        advises certificate "$advice"
        # Also if nobody trusts it: the date is what is wrong with it.
        doctor "RECEIPTD_URL=https://localhost:$port/" RECEIPTD_CACERT=
        [[ $name != expired ]] || advises certificate "$advice"
        kill "$server"
    done <<'END'
expired|-9|-2|certificate has expired|renew it, then systemctl reload nginx
early|1|9|certificate is not yet valid|check the clock of this host
END
    certificate "$BATS_TEST_TMPDIR/good"
    s_server -tls1_3 -key "$BATS_TEST_TMPDIR/good.key" -cert "$BATS_TEST_TMPDIR/good.crt"
    doctor "RECEIPTD_URL=https://localhost:$port/" "RECEIPTD_CACERT=$BATS_TEST_TMPDIR/good.crt"
    kill "$server"
    finds ok certificate 'for localhost'
    finds FAIL TLS 'the server does not accept TLS 1.2: '
    advises TLS ssl_protocols
}

@test "a chain without its intermediate certificate, as the server sends it" {
    local folder=$BATS_TEST_TMPDIR port server
    authority root '' /CN=root
    authority middle root '/CN=The Middle'
    authority leaf middle /CN=localhost
    cat "$folder/root.crt" "$folder/middle.crt" >"$folder/both.crt"
    cat "$folder/leaf.crt" "$folder/middle.crt" >"$folder/chain.crt"
    s_server -key "$folder/leaf.key" -cert "$folder/leaf.crt"
    # This host has it, and senders do not.
    doctor "RECEIPTD_URL=https://localhost:$port/" "RECEIPTD_CACERT=$folder/both.crt"
    finds FAIL certificate 'the server does not send the intermediate one "The Middle"'
    advises certificate 'let ssl_certificate name a file with the certificate and the intermediate ones'
    doctor "RECEIPTD_URL=https://localhost:$port/" "RECEIPTD_CACERT=$folder/root.crt"
    finds FAIL certificate 'unable to '
    advises certificate 'let ssl_certificate name a file with the certificate and the intermediate ones'
    kill "$server"
    s_server -key "$folder/leaf.key" -cert "$folder/leaf.crt" -cert_chain "$folder/middle.crt"
    doctor "RECEIPTD_URL=https://localhost:$port/" "RECEIPTD_CACERT=$folder/root.crt"
    kill "$server"
    finds ok certificate 'for localhost'
}

# authority NAME ISSUER SUBJECT: NAME.crt and NAME.key; without an issuer it signs itself.
authority() {
    local extensions='basicConstraints=critical,CA:true' signer=(-signkey "$folder/$1.key")
    [[ $1 != leaf ]] || extensions='subjectAltName=DNS:localhost'
    [[ ! $2 ]] || signer=(-CA "$folder/$2.crt" -CAkey "$folder/$2.key" -CAcreateserial)
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$3" -keyout "$folder/$1.key" \
        -out "$folder/$1.csr" 2>/dev/null
    openssl x509 -req -in "$folder/$1.csr" "${signer[@]}" -days 30 -extfile <(echo "$extensions") -out "$folder/$1.crt" 2>/dev/null
}

@test "an address of IPv6 in RECEIPTD_URL" {
    local port server
    [[ -e /proc/net/if_inet6 && -s /proc/net/if_inet6 ]] || skip 'this host has no IPv6'
    certificate "$BATS_TEST_TMPDIR/six"
    # A port that is free there, too, most likely; else it fails to start.
    s_server -key "$BATS_TEST_TMPDIR/six.key" -cert "$BATS_TEST_TMPDIR/six.crt"
    kill "$server"
    openssl s_server -accept "[::1]:$port" -key "$BATS_TEST_TMPDIR/six.key" -cert "$BATS_TEST_TMPDIR/six.crt" \
        >"$BATS_TEST_TMPDIR/request" 2>&1 </dev/null 3>&- &
    server=$!
    eventually grep -q ACCEPT "$BATS_TEST_TMPDIR/request"
    doctor "RECEIPTD_URL=https://[::1]:$port/inventory_receipt" "RECEIPTD_CACERT=$BATS_TEST_TMPDIR/six.crt"
    kill "$server" || :
    finds ok certificate '127.0.0.1 ::1'
    grep -q "^Host: \[::1\]:$port" "$BATS_TEST_TMPDIR/request"
}

doctor_says_ready() {
    doctor -- "$1" && finds ok worker "$1: ready" >/dev/null
}

@test "nginx's syntax" {
    nginx_says 1 'nginx: [emerg] unknown directive \"fastgci_pass\" in /etc/nginx/nginx.conf:7'
    doctor
    finds FAIL nginx 'unknown directive "fastgci_pass"'
    rm "$BATS_TEST_TMPDIR/bin/nginx"
    doctor
    finds ok nginx 'not looked at'
}

@test "the endpoint and its certificate" {
    local port
    doctor RECEIPTD_URL=
    finds warn endpoint 'not tried'
    doctor "RECEIPTD_URL=http${RECEIPTD_URL#https}"
    finds FAIL endpoint 'the address has to be https://'
    advises endpoint 'correct RECEIPTD_URL'
    doctor RECEIPTD_URL=https://127.0.0.1:1/inventory_receipt
    finds FAIL endpoint 'cannot connect: Connection refused'
    advises endpoint 'does the name lead to nginx'
    doctor RECEIPTD_URL=https://no-such-name.invalid/inventory_receipt
    finds FAIL endpoint 'no-such-name.invalid: '
    doctor "RECEIPTD_URL=${RECEIPTD_URL}s"
    finds FAIL endpoint 'answers 404'
    doctor RECEIPTD_CACERT=
    finds FAIL certificate 'self-signed certificate'
    advises certificate 'set RECEIPTD_CACERT to it'
    finds ok endpoint 'reaches a worker'
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN=test \
        -addext 'subjectAltName = DNS:localhost, DNS:*.example.com' -keyout "$BATS_TEST_TMPDIR/key" \
        -out "$BATS_TEST_TMPDIR/certificate" 2>/dev/null
    openssl s_server -quiet -www -accept 127.0.0.1:0 -key "$BATS_TEST_TMPDIR/key" -cert "$BATS_TEST_TMPDIR/certificate" \
        >"$BATS_TEST_TMPDIR/s_server" 2>&1 3>&- &
    eventually listens $!
    port=$(listens $!)
    doctor "RECEIPTD_URL=https://localhost:$port/" "RECEIPTD_CACERT=$BATS_TEST_TMPDIR/certificate"
    finds warn certificate 'for localhost *.example.com, '
    finds FAIL endpoint 'answers 200'
    # By its address it is none of the certificate's names.
    doctor "RECEIPTD_URL=https://127.0.0.1:$port/" "RECEIPTD_CACERT=$BATS_TEST_TMPDIR/certificate"
    finds FAIL certificate 'IP address mismatch'
    kill $!
    doctor "RECEIPTD_CACERT=$BATS_TEST_TMPDIR/none"
    finds FAIL endpoint "$BATS_TEST_TMPDIR/none: No such file"
    advises endpoint 'RECEIPTD_CACERT must name a readable file'
    doctor "RECEIPTD_CACERT=$RECEIPTD_KEYS_FILE"
    finds FAIL endpoint "$RECEIPTD_KEYS_FILE: no certificate"
    advises endpoint 'RECEIPTD_CACERT must name a readable file'
}

@test "no server, no database, no role, a server that takes no writes, rejections, a superuser" {
    local known
    doctor "PGHOST=$BATS_TEST_TMPDIR"
    finds FAIL database "$BATS_TEST_TMPDIR"
    doctor PGDATABASE=nowhere
    finds FAIL database 'database "nowhere" does not exist'
    doctor PGUSER=nobody
    finds FAIL database nobody
    doctor PGDATABASE=postgres
    finds FAIL schema 'no schema inventory'
    doctor PGUSER=postgres
    finds warn role 'postgres is a superuser'
    sql 'alter role receiptd_writer set default_transaction_read_only = on'
    doctor
    sql 'alter role receiptd_writer reset default_transaction_read_only'
    finds FAIL database 'session is read-only'
    sql 'alter role receiptd_writer set synchronous_commit = off'
    doctor
    sql 'alter role receiptd_writer set synchronous_commit = on'
    finds FAIL durability synchronous_commit
    sql 'alter role receiptd_writer set lock_timeout = 0'
    doctor
    sql "alter role receiptd_writer set lock_timeout = '250ms'"
    finds warn durability lock_timeout
    sql "alter role receiptd_writer set statement_timeout = '15s'"
    doctor
    sql "alter role receiptd_writer set statement_timeout = '3s'"
    finds warn durability statement_timeout
    # The workers have some of these connections.
    sql 'alter role receiptd_writer connection limit 3'
    doctor
    sql 'alter role receiptd_writer connection limit 64'
    finds warn connections 'of 3 of the role receiptd_writer are in use'
    sql 'alter database inventory connection limit 3'
    doctor
    sql 'alter database inventory connection limit -1'
    finds warn connections 'of 3 of the database inventory are in use'
    sql 'alter table inventory.receipts disable trigger receipts_tell_deleted'
    doctor
    sql 'alter table inventory.receipts enable trigger receipts_tell_deleted'
    finds warn schema 'the trigger receipts_tell_deleted is disabled'
    known=$(sql "select pg_get_constraintdef(oid) from pg_constraint where conname = 'warehouses_time_zone_check'")
    sql "alter table inventory.warehouses drop constraint warehouses_time_zone_check;
        insert into inventory.warehouses (to_identifier, name, time_zone) values (1352, 'Louisville', 'US/Gone')"
    doctor
    sql "delete from inventory.warehouses;
        alter table inventory.warehouses add constraint warehouses_time_zone_check $known"
    finds warn 'time zones' 'US/Gone of the warehouse 1352 (Louisville) is not known'
    sql 'alter table receipts set (autovacuum_enabled = off)'
    doctor
    sql 'alter table receipts reset (autovacuum_enabled)'
    finds warn autovacuum 'off for a table'
    sql 'revoke select on pg_stat_activity from public'
    doctor
    sql 'grant select on pg_stat_activity to public'
    finds warn database 'pg_stat_activity'
    post '{'
    expect 400
    doctor
    sql 'delete from inventory.rejected_receipts'
    finds warn rejections '1 rejected deliveries'
    sql 'revoke select on inventory.rejected_receipts from receiptd_writer'
    doctor
    sql 'grant select on inventory.rejected_receipts to receiptd_writer'
    finds FAIL schema 'inventory.rejected_receipts'
}

@test "what is missing of the schema or its grants" {
    local broken said schema
    schema=$(pg_dump 3>&-)
    sql "create database broken owner receiptd_owner template template0"
    PGDATABASE=broken sql "$schema" >/dev/null
    doctor PGDATABASE=broken
    finds ok schema 'version 1'
    PGDATABASE=broken sql 'alter table inventory.receipts rename column merchant to dealer'
    doctor PGDATABASE=broken
    finds warn schema 'no column merchant: the values of merchant go into the column extra'
    while IFS='|' read -r said broken; do
        PGDATABASE=broken sql "$broken"
        doctor PGDATABASE=broken
        finds FAIL schema "$said"
    done <<'END'
version 0, and this program needs 1|drop function inventory.schema_version()
rejected_receipts.body|alter table inventory.rejected_receipts rename column body to bytes
rejected_receipts|revoke insert on inventory.rejected_receipts from receiptd_writer
request_id|alter table inventory.rejected_receipts drop constraint rejected_receipts_request_id_key
no table inventory.rejected_receipts|drop table inventory.rejected_receipts cascade
unique|alter table inventory.receipts drop constraint receipts_pkey cascade
inventory.receipts|revoke update on inventory.receipts from receiptd_writer
no table inventory.receipts|drop table inventory.receipts cascade
no schema inventory|revoke usage on schema inventory from receiptd_writer
END
}
