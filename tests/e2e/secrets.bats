# Where a key can be that a sender has put into the query string.

setup_file() {
    load common
    start_instance secrets
}

setup() {
    load common
    use_instance secrets
    set_worker_env
    unit=secrets-$BATS_TEST_NUMBER
    mkdir -p "$BATS_TEST_TMPDIR/bin"
    # The instance's nginx, and not the system's; with a path as the system's has it.
    # shellcheck disable=SC2016 # for the script that this writes
    printf '#!/bin/sh\n[ "$1" = -T ] || exit 0\n"%s" -p "%s" -c nginx.conf "$@" | sed "s,error_log log,error_log %s/log,"\n' \
        "$(PATH=$PATH:/usr/sbin:/sbin command -v nginx)" "$state" "$state" >"$BATS_TEST_TMPDIR/bin/nginx"
    chmod 755 "$BATS_TEST_TMPDIR/bin/nginx"
}

# doctor_of_nginx: what the doctor has to say of nginx.
doctor_of_nginx() {
    "${worker_env[@]}" "PATH=$BATS_TEST_TMPDIR/bin:/usr/bin:/bin" "$WORKER" doctor --json "$state/run/worker-1.sock" |
        jq -r '.findings[] | select(.subject == "nginx") | "\(.status) \(.finding); \(.advice)"'
}

@test "nginx's error log shows the query string when no worker is there; doctor warns of that" {
    local secret=rk_4f1c9d7e9b said
    # Of others' requests, and of deliveries without a query string, it is no matter.
    printf '%s\n' '2026/11/28 10:00:00 [error] 1#1: *1 x, client: ::1, server: , request: "GET /?inventory_receipt HTTP/1.1"' \
        '2026/11/28 10:00:00 [error] 1#1: *1 x, client: ::1, server: , request: "POST /inventory_receipt HTTP/1.1", host: "a?b"' \
        >>"$state/log/nginx-error.log"
    said=$(doctor_of_nginx)
    echo "$said"
    [[ $said == 'ok its configuration is valid (nginx -t); null' ]]
    kill -STOP "$(<"$state/run/worker-1.supervisor.pid")" "$(<"$state/run/worker-2.supervisor.pid")"
    kill -KILL "$(worker_pid 1)" "$(worker_pid 2)"
    request -H 'Content-Type: application/json' --data-binary "$(receipt "$unit")" "$RECEIPTD_URL?api_key=$secret"
    kill -CONT "$(<"$state/run/worker-1.supervisor.pid")" "$(<"$state/run/worker-2.supervisor.pid")"
    [[ $code == 503 ]]
    eventually grep -q "request_id=$(header X-Request-Id)" "$state/log/nginx-receiptd.log"
    # Else the warning is for nothing.
    grep -q "$secret" "$state/log/nginx-error.log"
    run ! grep -rlF "$secret" "$state/log/nginx-receiptd.log" "$state/log/worker-1.log" "$state/log/worker-2.log"
    # However the URL is written.
    printf '2026/11/28 10:00:00 [error] 1#1: *1 x, request: "%s?api_key=x HTTP/1.1", host: "a"\n' \
        'POST //inventory_receipt' 'POST https://host/inventory_receipt/' 'GET /inventory_receipt' >>"$state/log/nginx-error.log"
    eventually connects "$state/run/worker-1.sock"
    said=$(doctor_of_nginx)
    echo "$said"
    [[ $said == *"warn $state/log/nginx-error.log shows the query string of $(grep -c api_key= "$state/log/nginx-error.log") deliveries, which can contain an API key; "*'replace the key'* ]]
    [[ $said != *"$secret"* ]]
}
