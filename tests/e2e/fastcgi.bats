# The worker's socket, spoken to without nginx. What is broken on purpose is in ../faults/sockets.bats.

setup() {
    load common
    use_instance shared
    set_worker_env
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
}

teardown() {
    [[ ! -e $state/nginx/receiptd-server.conf.more ]] || with_buffering
    ended "$worker" || end_worker
}

# fastcgi CHECK [ARGUMENT...]: a function of fastcgi.py.
fastcgi() {
    PYTHONPATH=$root/tests/faults python3 "$e2e/fastcgi.py" "$BATS_TEST_TMPDIR/socket" "$@" 3>&-
}

@test "a hundred deliveries over one connection, with bodies of one and of many records" {
    fastcgi many_sizes
}

@test "a connection that is not to be kept is closed after the answer" {
    fastcgi not_kept
}

@test "a request id that is not one of nginx's is replaced by a random one" {
    fastcgi request_ids
}

@test "a request that is passed on again, as nginx does it, is told what it was told, and changes nothing" {
    fastcgi passed_on_again
}

@test "SIGTERM: what has reached the worker is stored and answered, and it ends with status 0" {
    sql 'begin; lock table inventory.receipts in access exclusive mode; select pg_sleep(1); commit' >/dev/null &
    eventually receipts_locked
    fastcgi drain_answers "$worker"
    wait "$worker"
    [[ ! -e $BATS_TEST_TMPDIR/socket ]]
}

@test "what arrives while a request is stored, be it the next one or the end, is read after its answer" {
    sql 'begin; lock table inventory.receipts in access exclusive mode; select pg_sleep(1); commit' >/dev/null &
    eventually receipts_locked
    fastcgi early
}

@test "a client that ends its sending behind a request gets its answer, and then the end" {
    fastcgi ended
}

receipts_locked() {
    [[ $(sql "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted
        and relation = 'inventory.receipts'::regclass") == 1 ]]
}

@test "SIGTERM: a request that is on its way has its time to arrive, and is answered" {
    fastcgi drain_lets_arrive "$worker"
    wait "$worker"
}

@test "a body that is longer or shorter than it was said to be is no delivery" {
    fastcgi wrong_lengths
}

@test "parameters and body in records of one byte" {
    fastcgi one_byte_records
}

@test "padding behind every record" {
    fastcgi padding
}

@test "clients that send bit by bit, more than there are threads, do not keep others waiting, and are answered" {
    fastcgi bit_by_bit
}

@test "clients that hang up before their answer do not disturb the others of their batch" {
    fastcgi hang_up
}

@test "the most deeply nested body, where threads have little stack unless they are given more" {
    end_worker
    local limit
    limit=$(ulimit -Ss)
    ulimit -Ss 128
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    ulimit -Ss "$limit"
    fastcgi nested
}

@test "slow senders through nginx: their requests are whole when a worker gets them, and it is right when they are not" {
    without_buffering
    fastcgi slow_through_nginx
}

# nginx of the instance passes requests on as they come: all of http { }, but for what the pieces to include say, and at
# /unbuffered in spite of it.
without_buffering() {
    local config=$state/nginx/receiptd-server.conf
    sed -i 's/^http {/&\n    fastcgi_request_buffering off;/' "$state/nginx.conf"
    sed -n '/^location = .inventory_receipt {/,/^}/p' "$config" |
        sed 's,/inventory_receipt {,/unbuffered {,; s/request_buffering on/request_buffering off/' >"$config.more"
    cat "$config.more" >>"$config"
    reload_nginx
    eventually unbuffered
}

# Its configuration is as it was.
with_buffering() {
    rm "$state/nginx/receiptd-server.conf.more"
    start_instance shared RECEIPTD_THREADS=2
    eventually not_unbuffered
}

not_unbuffered() {
    ! unbuffered
}

unbuffered() {
    request "${RECEIPTD_URL%/*}/unbuffered" && [[ $code == 405 ]]
}
