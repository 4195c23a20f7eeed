# What is behind "make run", "make stop", "make status" and "make psql".

setup() {
    load common
}

teardown() {
    [[ ! -e $BATS_TEST_TMPDIR/nginx.pid ]] || kill "$(<"$BATS_TEST_TMPDIR/nginx.pid")"
}

# local_run NAME [NAME=VALUE...]: deploy/local run, with its output in lines.
local_run() {
    local name=$1
    shift
    run local_instance "$name" run "$@"
}

# kept: what a second run has to leave as it is.
kept() {
    sql 'select * from inventory.receipts'
    cat "$state/env" "$state/keys" "$state"/run/*.pid
}

@test "run ends with the example stored, and keeps running; a second run changes nothing that is stored" {
    local before
    local_run one
    [[ $status == 0 ]]
    [[ $output == *'HTTP/1.1 201 Created'*'"result":"created"'*'HTTP/1.1 200 OK'*'"result":"unchanged"'* ]]
    [[ $output == *'RECORD 1'*unit_identifier*123456891011* ]]
    [[ $output == *'curl -i --cacert'* && $output == *'make stop'* ]]
    run local_instance one status
    [[ $status == 0 && $output == *'receipts     1 '* ]]
    use_instance one
    before=$(kept)

    local_run one
    [[ $status == 0 && $output != *'201 Created'* ]]
    [[ $(kept) == "$before" ]]

    # The line to try next is one that can be pasted.
    run bash -c "$(sed -n '/^  curl -i/,/^$/p' <<<"$output")" 3>&-
    [[ $output == *'HTTP/1.1 200 OK'* ]]

    run local_instance one psql <<<'select count(*) from receipts'
    local_instance one stop
    run local_instance one status
    [[ $status == 3 && $output == *'is down'* ]]

    # What was stored is there again.
    local_run one
    [[ $status == 0 && $output != *'201 Created'* ]]
    local_instance one stop
}

@test "psql opens the database as its administrator" {
    use_instance shared
    run env "LOCAL_VAR=$state" "$root/deploy/local" psql -XAtc 'select current_user, current_database()' 3>&-
    [[ $output == 'postgres|inventory' ]]
}

@test "stop ends all of an instance, which has a blank in its path, and nothing of another" {
    local before
    use_instance shared
    before=$(cat "$state"/run/*.pid "$state/pgdata/postmaster.pid")
    start_instance 'a blank'
    use_instance 'a blank'
    post "$(receipt "local-$BATS_TEST_NUMBER")"
    expect 201 created
    (($(processes_of "$state" | wc -l) > 10))
    stop_instance 'a blank'
    [[ -z $(processes_of "$state") ]]
    [[ -z $(find "$state/run" -type s) ]]
    use_instance shared
    [[ $(cat "$state"/run/*.pid "$state/pgdata/postmaster.pid") == "$before" ]]
    run local_instance shared status
    [[ $status == 0 ]]
    post "$(receipt "local-$BATS_TEST_NUMBER")"
    expect 201 created
}

@test "nothing of the system's nginx and PostgreSQL is touched" {
    local folders=()
    for folder in /etc/nginx /etc/postgresql /etc/postgresql-common /run/nginx.pid /run/receiptd; do
        [[ ! -e $folder ]] || folders+=("$folder")
    done
    [[ -z $(find "${folders[@]}" -newer "$E2E_SCRATCH/instances/shared/pgdata/PG_VERSION") ]]
}

@test "a port in use is told before anything is started" {
    use_instance shared
    local port=${RECEIPTD_URL##*:} taken=$E2E_SCRATCH/instances/taken
    port=${port%%/*}
    mkdir "$taken"
    run env LOCAL_VAR="$taken" PORT="$port" "$root/deploy/local" run 3>&-
    [[ $status == 1 && $output == *"$port"*'in use'* ]]
    [[ ! -e $taken/pgdata && -z $(find "$taken" -name '*.pid') ]]
}

@test "env: the names that it promises, for its owner only, fit for a shell" {
    use_instance shared
    [[ $(sed -n 's/^\([A-Z_]*\)=.*/\1/p' "$state/env" | tr '\n' ' ') == \
        'CLIENT_API_KEY RECEIPTD_URL RECEIPTD_CACERT RECEIPTD_KEYS_FILE PGHOST PGPORT PGDATABASE PGUSER ' ]]
    [[ $RECEIPTD_URL == https://127.0.0.1:*/inventory_receipt ]]
    [[ $(sql 'select rolsuper from pg_roles where rolname = current_user') == t ]]
    local file
    for file in env auth-header keys tls/server.key; do
        [[ $(stat -c %a "$state/$file") =~ ^[46][04]?0$ ]]
    done
}

@test "a shell that has read env can call receiptd, and a client" {
    use_instance shared
    # shellcheck disable=SC2016 # these are of that shell
    local shell script='set -a; . "$0"; set -e
        "$1" doctor "${0%/env}/run/worker-1.sock" "${0%/env}/run/worker-2.sock" >"$2/doctor" || [ $? = 1 ]
        "$1" reprocess --dry-run; "$1" missing </dev/null || [ $? -gt 1 ]
        [ "$RECEIPTD_API_KEY" = "$CLIENT_API_KEY" ]; ! env | grep -q ^RECEIPTD_API_KEY
        curl -q -sS --noproxy "*" --cacert "$RECEIPTD_CACERT" -H "X-Api-Key: $CLIENT_API_KEY" \
            -H "Content-Type: application/json" -d "{}" -o /dev/null -w "%{http_code}\n" "$RECEIPTD_URL"'
    for shell in bash dash; do
        # With one that an earlier shell has exported.
        run -0 env -i "PATH=$PATH" RECEIPTD_API_KEY=old "$shell" -c "$script" "$state/env" "$WORKER" "$BATS_TEST_TMPDIR" 3>&-
        [[ ${lines[-1]} == 422 && $output != *'no such variable'* ]]
        run ! grep '^FAIL' "$BATS_TEST_TMPDIR/doctor"
    done
    sql 'delete from inventory.rejected_receipts' >/dev/null
}

@test "the key is in the arguments of no process, also while run posts the example" {
    use_instance shared
    local program shims=$BATS_TEST_TMPDIR/shims
    mkdir "$shims"
    for program in curl sed grep jq sha256sum cmp; do
        printf '#!/bin/sh\nprintf "%%s\\n" "%s $*" >>"%s"\nexec "%s" "$@"\n' \
            "$program" "$shims/calls" "$(command -v "$program")" >"$shims/$program"
        chmod 755 "$shims/$program"
    done
    local_run shared RECEIPTD_THREADS=2 "PATH=$shims:$PATH"
    [[ $status == 0 ]]
    grep -q '^curl .*--data-binary' "$shims/calls"
    run ! grep -F -- "$CLIENT_API_KEY" "$shims/calls"
}

@test "PostgreSQL is reached by its UNIX socket only" {
    use_instance shared
    [[ -z $(sql 'show listen_addresses') ]]
}

@test "the database holds what survives a crash" {
    use_instance shared
    [[ $(sql "select string_agg(name || '=' || setting, ' ' order by name) from pg_settings
        where name in ('fsync', 'full_page_writes')") == 'fsync=on full_page_writes=on' ]]
    [[ $(sql "select count(*) from pg_roles, unnest(rolconfig) as setting
        where rolname = 'receiptd_writer' and setting = 'synchronous_commit=on'") == 1 ]]
}

# default_settings: NAME=VALUE of each setting that the program has and var/env has not.
default_settings() {
    sed -nE 's/^    \{"(RECEIPTD_[A-Z_]+)", .*\.choose = .*/\1=3/p
        s/^    \{"(RECEIPTD_[A-Z_]+)", .*\.initial = RETRIES_DEFAULT.*/\1=32h/p
        s/^    \{"(RECEIPTD_[A-Z_]+)", .*\.initial = "([^"]*)".*/\1=\2/p' "$root/fcgi/config.c" |
        grep -vE '^RECEIPTD_(URL|CACERT)='
}

@test "every setting is handed on, and put in place without a failed request, also where the path is too long for a socket" {
    local name setting settings
    mapfile -t settings < <(default_settings)
    ((${#settings[@]} == $(grep -c '^    {"RECEIPTD_' "$root/fcgi/config.c") - 3))
    name=$(printf 'long%.0s' {1..30})
    start_instance "$name"
    use_instance "$name"
    load_in_background --connections 4 --flawless
    eventually test -s "$record"
    start_instance "$name" "${settings[@]}"
    for setting in "${settings[@]}"; do
        grep -qF " ${setting%%=*}=" "$state/bin/worker"
    done
    [[ $(grep -c 'msg=drained' "$state/log/worker-1.log") == 1 ]]
    end_load
    stop_instance "$name"
    [[ ! -e $PGHOST ]]
}

# foreign_nginx ARGUMENT...: one that has nothing of the example but the two files, in the server of another company.
foreign_nginx() {
    nginx -p "$BATS_TEST_TMPDIR" -c "$BATS_TEST_TMPDIR/nginx.conf" -e "$BATS_TEST_TMPDIR/log/error.log" "$@" 3>&-
}

# at_foreign CURL ARGUMENT...: a request to it.
at_foreign() {
    request --unix-socket "$BATS_TEST_TMPDIR/socket" "$@"
}

@test "the two files for an existing nginx fit into a server of another company, which answers in JSON by itself" {
    local folder=$BATS_TEST_TMPDIR address=http://localhost/inventory_receipt listeners
    use_instance shared
    mkdir "$folder/log"
    sed "s,/run/receiptd,$folder," "$root/nginx/receiptd-http.conf" >"$folder/receiptd-http.conf"
    sed "s,/var/log/nginx,$folder/log,; s,\(fastcgi_read_timeout\) 15s,\1 300ms," "$root/nginx/receiptd-server.conf" \
        >"$folder/receiptd-server.conf"
    cat >"$folder/nginx.conf" <<END
$( ((EUID != 0)) || echo 'user root;')
pid $folder/nginx.pid;
events { }
http {
    access_log off;
    limit_req_zone \$http_limited zone=all:1m rate=1r/m;
    include $folder/receiptd-http.conf;
    server {
        listen unix:$folder/socket;
        root $folder;
        limit_req zone=all;
        include $folder/receiptd-server.conf;
        location / { return 200 shop; }
        location ~ \.php\$ { return 403; }
    }
}
END
    run foreign_nginx -t
    [[ $status == 0 && $output != *'[warn]'* && $output != *'[emerg]'* ]]

    foreign_nginx -q
    eventually test -s "$folder/nginx.pid"
    at_foreign http://localhost/
    [[ $code == 200 && $(<"$body") == shop ]]
    at_foreign -H 'Limited: yes' --data-binary '{}' "$address"
    expect 503
    at_foreign -H 'Limited: yes' --data-binary '{}' "$address"
    expect 503
    head -c 2097153 /dev/zero >"$folder/large"
    at_foreign --data-binary "@$folder/large" "$address"
    expect 413
    # Workers that accept and say nothing.
    python3 "$e2e/peers.py" silent "$folder/worker-1.sock" "$folder/worker-2.sock" 3>&- &
    listeners=$!
    eventually connects "$folder/worker-2.sock"
    at_foreign --data-binary '{}' "$address"
    kill "$listeners"
    expect 503
    rm "$folder"/worker-?.sock
    ln -s "$state"/run/worker-?.sock "$folder"
    at_foreign -H "api_key: $CLIENT_API_KEY" -H 'Content-Type: application/json' --data-binary "$(receipt foreign)" \
        "$address/"
    expect 201 created
    eventually grep -q "request_id=$(header X-Request-Id) .* status=201 " "$folder/log/receiptd.log"
}
