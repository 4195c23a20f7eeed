# What the tests share. Loaded by every file.
# shellcheck shell=bash

bats_require_minimum_version 1.5.0

e2e=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
root=$(realpath "$e2e/../..")
# shellcheck source=../../deploy/shared.bash
source "$root/deploy/shared.bash"

# local_instance NAME COMMAND... [NAME=VALUE...]: deploy/local in the state folder of that name.
local_instance() {
    instance_in "$E2E_SCRATCH/instances/$1" "${@:2}"
}

# start_instance NAME [NAME=VALUE...]: an instance with these settings.
start_instance() {
    local name=$1
    shift
    local_instance "$name" start "$@"
}

# use_instance NAME: sets what a client needs, and state, the folder.
use_instance() {
    state=$E2E_SCRATCH/instances/$1
    set -a
    # shellcheck source=/dev/null
    source "$state/env"
    set +a
}

stop_instance() {
    local_instance "$1" stop
}

# worker_pid N: the process id of a worker of the instance in use.
worker_pid() {
    local pid
    read -r pid <"$state/run/worker-$1.pid" && echo "$pid"
}

# eventually SECONDS COMMAND...: as await, but says what failed.
eventually() {
    await "$@" || { echo "not within time: ${*:2}" && return 1; }
}

# new_worker N OLD_PID: whether worker N is another process by now, and serves.
new_worker() {
    local pid
    pid=$(worker_pid "$1" 2>/dev/null) && [[ $pid != "$2" ]] && connects "$state/run/worker-$1.sock"
}

# Makes nginx of the instance in use give requests to both workers in turn, as where one of them stands not by but works
# too: for what two of them do at once. spare_worker undoes it.
share_requests() {
    change_sharing 1 's/ backup;/;/'
}

spare_worker() {
    change_sharing 0 's/\(worker-2.* max_fails=0\);/\1 backup;/'
}

# change_sharing SHARING EDIT: reloads nginx if EDIT changes its configuration, until worker 2 has a part (1) or none (0)
# of what comes.
change_sharing() {
    local configuration=$state/nginx/receiptd-http.conf before
    before=$(<"$configuration")
    sed -i "$2" "$configuration"
    [[ $(<"$configuration") != "$before" ]] || return 0
    reload_nginx
    eventually 10 shares "$1"
}

# reload_nginx: nginx of the instance in use reads its configuration anew, and none of the processes that it had before
# takes a request any more: they would go by the former one, and close their connections when they end, in the middle of
# what a client is about to send.
reload_nginx() {
    local master old
    master=$(<"$state/run/nginx.pid")
    read -ra old <"/proc/$master/task/$master/children" || : # it has no end of line
    kill -HUP "$master"
    eventually 10 take_no_more "${old[@]}"
}

# take_no_more PID...: these processes of nginx have ended, or are about to.
take_no_more() {
    local pid
    for pid; do
        ! grep -qsF 'nginx: worker process' "/proc/$pid/cmdline" || grep -qsF 'shutting down' "/proc/$pid/cmdline" ||
            return 1
    done
}

shares() {
    local before
    before=$(deliveries_of 2)
    curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "$RECEIPTD_URL" "$RECEIPTD_URL" "$RECEIPTD_URL" >/dev/null 3>&-
    (($1 == ($(deliveries_of 2) > before)))
}

# deliveries_of N: how many requests that worker has answered.
deliveries_of() {
    grep -c ' msg=delivery ' "$state/log/worker-$1.log" || :
}

# padded SIZE [FILTER]: a receipt of $unit with so many bytes, with an unknown field of what is missing.
# shellcheck disable=SC2154
padded() {
    local bare
    bare=$(receipt "$unit" "${2-.} | .padding = \"\"")
    printf '%s' "${bare/\"padding\":\"\"/\"padding\":\"$(printf '%*s' $(($1 - ${#bare})) '' | tr ' ' x)\"}"
}

connects() {
    python3 "$e2e/peers.py" connect "$1" 2>/dev/null
}

ended() {
    ! kill -0 "$1" 2>/dev/null
}

# receipt UNIT [JQ FILTER]: the vendor's example under that unit_identifier, changed by the filter.
receipt() {
    jq -c --arg unit "$1" '.unit_identifier = $unit | '"${2:-.}" "$root/deploy/sample.json"
}

# request [CURL ARGUMENT...]: sets code and result, and leaves the answer in the files head and body.
request() {
    head=$BATS_TEST_TMPDIR/head body=$BATS_TEST_TMPDIR/body
    rm -f "$head" "$body"
    code=$(curl -q -sS --noproxy '*' --max-time 60 --cacert "$RECEIPTD_CACERT" -D "$head" -o "$body" -w '%{http_code}' \
        -H 'Expect:' "$@" 3>&-)
    [[ -e $body ]] || : >"$body"
    result=$(grep -a -o '"result":"[a-z]*"' "$body" || :)
    result=${result#*:\"} result=${result%\"}
}

# post BODY [CURL ARGUMENT...]: a delivery with the key.
post() {
    local data=$1
    shift
    request -H "X-Api-Key: $RECEIPTD_API_KEY" -H 'Content-Type: application/json' --data-binary "$data" "$@" \
        "$RECEIPTD_URL"
}

# header NAME: its value in the last answer.
header() {
    sed -n "s/^$1: *\(.*\)\r\$/\1/Ip" "$head"
}

# expect CODE [RESULT]: of the last answer; shows it when it is another. Also what every answer has to be like.
expect() {
    if [[ $code != "$1" || $result != "${2-}" ]]; then
        echo "expected $*, got $code $result:"
        cat "$head" "$body"
        return 1
    fi
    [[ $(header X-Request-Id) =~ ^[0-9a-f]{32}$ ]]
    if [[ -s $body ]]; then
        [[ $(header Content-Type) == application/json ]]
        [[ $(header Content-Length) == $(wc -c <"$body") ]]
        jq -e --arg id "$(header X-Request-Id)" \
            '(.message | type == "string") and (.request_id // $id) == $id and (.result // "") == $ARGS.positional[0]' \
            "$body" --args "${2-}" >/dev/null
    fi
    [[ $code != 5* ]] || [[ $(header Retry-After) =~ ^[1-9][0-9]*$ ]]
}

# sql QUERY [NAME=VALUE...]: as the administrator; :'NAME' in the query is the value.
sql() {
    local query=$1 assignment variables=()
    shift
    for assignment in "$@"; do
        variables+=(-v "$assignment")
    done
    psql -XAtq -v ON_ERROR_STOP=1 "${variables[@]}" <<<"$query" 3>&-
}

# count UNIT: how many receipts have that unit_identifier.
count() {
    sql "select count(*) from inventory.receipts where unit_identifier = :'unit'" unit="$1"
}

# deliver OPTION...: a load, and the check of what came of it. Its record is of this test.
deliver() {
    load_in_background "$@"
    finish_load
}

# load_in_background OPTION...: finish_load waits for it and checks.
load_in_background() {
    record=$(mktemp "$BATS_TEST_TMPDIR/record.XXXXXX")
    python3 "$e2e/deliver.py" load "$record" "$@" >"$record.out" 2>&1 3>&- &
    load=$!
}

finish_load() {
    local status=0
    wait "$load" || status=$?
    cat "$record.out"
    python3 "$e2e/deliver.py" check "$record" || status=1
    return "$status"
}

# told RESULT: how many deliveries of the last load were answered so.
told() {
    sed -n "s/.* $1=\([0-9]*\) .*/\1/p" "$record.out"
}

# Sets worker_env, which starts a program in the environment of the instance's workers; more NAME=VALUE can follow it.
set_worker_env() {
    worker_env=(
        env -i "PATH=$PATH" LC_ALL=C.UTF-8 "PGHOST=$PGHOST" "PGPORT=$PGPORT" "PGDATABASE=$PGDATABASE"
        PGUSER=receiptd_writer "RECEIPTD_KEYS_FILE=$state/keys"
        "ASAN_OPTIONS=${ASAN_OPTIONS-}" "UBSAN_OPTIONS=${UBSAN_OPTIONS-}" "TSAN_OPTIONS=${TSAN_OPTIONS-}"
    )
}

# start_worker LOG [NAME=VALUE...] -- ARGUMENT...: sets worker, the process id, as soon as it serves.
start_worker() {
    local settings=()
    worker_log=$1
    shift
    while [[ $1 != -- ]]; do
        settings+=("$1")
        shift
    done
    shift
    # shellcheck disable=SC2153 # WORKER is the program, worker its process
    "${worker_env[@]}" "${settings[@]}" "$WORKER" "$@" </dev/null >/dev/null 2>"$worker_log" 3>&- &
    worker=$!
    eventually 10 grep -qs ' serves on ' "$worker_log"
}

# end_worker: SIGTERM to the worker that start_worker started; its exit status.
end_worker() {
    local status=0
    kill "$worker"
    wait "$worker" || status=$?
    ((status == 0)) || grep -sv ' level=info ' "$worker_log" || :
    return "$status"
}
