# What the tests share. Loaded by every file.
# shellcheck shell=bash

bats_require_minimum_version 1.5.0

e2e=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
root=$(realpath "$e2e/../..")
# shellcheck source=../../deploy/shared.bash
source "$root/deploy/shared.bash"

# How long is waited for what has to come, in seconds.
patience_s=${PATIENCE_S:-240}

# local_instance NAME COMMAND... [NAME=VALUE...]: deploy/local in the state folder of that name.
local_instance() {
    local folder=$E2E_SCRATCH/instances/$1
    if [[ $2 == start && -d $E2E_SCRATCH/template && ! -e $folder/pgdata ]]; then
        mkdir -p "$folder"
        cp -a "$E2E_SCRATCH/template" "$folder/pgdata"
    fi
    instance_in "$folder" "${@:2}"
}

# keep_template: from now on an instance begins with a copy of what the one in use has by now, its schema mainly, which
# initdb and sqitch take seconds to make.
keep_template() {
    set_as_user "$(stat -c %U "$state/pgdata")"
    "${as_user[@]}" pg_ctl -D "$state/pgdata" -s -w -m fast stop
    cp -a "$state/pgdata" "$E2E_SCRATCH/template"
    # bats waits until nobody has its descriptors any more, of which there are several here.
    (
        for fd in /proc/"$BASHPID"/fd/*; do
            ((${fd##*/} <= 2)) || eval "exec ${fd##*/}>&-"
        done
        exec "${as_user[@]}" setsid pg_ctl -D "$state/pgdata" -l "$state/log/postgresql.log" -s -w -t 300 start
    ) </dev/null >/dev/null 2>&1
}

# start_instance NAME [NAME=VALUE...]: an instance with these settings. Those that the file gives it (setup_file) are the
# ones that it gets again when it has to be replaced.
start_instance() {
    local name=$1
    shift
    [[ ${BATS_TEST_NAME-} ]] || printf '%s\n' "$@" >"$E2E_SCRATCH/instances/$name.settings"
    local_instance "$name" start "$@"
}

# use_instance NAME: sets what a client needs, and state, the folder. A test gets an instance that is whole: another one, if
# the last test that used it has failed, or something of it does not run.
use_instance() {
    state=$E2E_SCRATCH/instances/$1
    if [[ ${BATS_TEST_NAME-} ]]; then
        local test="$BATS_TEST_FILENAME $BATS_TEST_NUMBER"
        # A worker that was killed is back soon.
        if [[ -e $state.used && $(<"$state.used") != "$test" ]] || ! await 20 all_runs; then
            replace_instance "$1"
        fi
        echo "$test" >"$state.used"
    fi
    set -a
    # shellcheck source=/dev/null
    source "$state/env"
    set +a
}

# all_runs: whether PostgreSQL, both workers and nginx do.
all_runs() {
    local file
    for file in pgdata/postmaster run/worker-1.supervisor run/worker-1 run/worker-2.supervisor run/worker-2 run/nginx; do
        process_runs "$state/$file.pid" || return
    done
}

# process_runs FILE: whether the process whose id is in the file runs, and is not stopped.
process_runs() {
    local pid stat
    { read -r pid <"$1" && read -r stat <"/proc/$pid/stat"; } 2>/dev/null && [[ ${stat##*) } != [TtZX]* ]]
}

# replace_instance NAME: nothing of what it was, and the settings that the file has given it.
replace_instance() {
    local settings=()
    echo "$1 is not whole, and is replaced"
    discard_instance
    mapfile -t settings < <(grep -s . "$state.settings")
    local_instance "$1" start "${settings[@]}"
}

# discard_instance: the one in use. Its logs stay, in which a sanitizer may have something to say.
discard_instance() {
    eventually have_ended "$state"
    [[ ! -e $state/log ]] || mv "$state/log" "$(mktemp -d "$E2E_SCRATCH/logs.XXXXXX")"
    rm -rf "$state" "$state.used"
}

# processes_of FOLDER: those that work in it or were started with it.
processes_of() {
    local process
    for process in /proc/[0-9]*; do
        if [[ $(readlink "$process/cwd" 2>/dev/null) == "$1"/* ]] || grep -qsaF -- "$1/" "$process/cmdline"; then
            echo "${process#/proc/}"
        fi
    done
}

# have_ended FOLDER: whether there are no such processes any more; kills those that there are, of which one may just have
# started another.
have_ended() {
    signal_all KILL "$1"
    [[ -z $(processes_of "$1") ]]
}

# signal_all SIGNAL FOLDER: to those processes.
signal_all() {
    local pid
    for pid in $(processes_of "$2"); do
        kill "-$1" "$pid" 2>/dev/null || :
    done
}

# Every test has this teardown, which runs the one of its file. What a failed test has started, stopped or changed is not
# for the next one: its instances stay marked as used (see use_instance).
if ! declare -F teardown_of_file >/dev/null; then
    eval "$(declare -f teardown | sed '1s/teardown/teardown_of_file/')"
fi
teardown() {
    # Not status, which is of bats' run.
    local torn_down=1 passed=${BATS_TEST_COMPLETED-}${BATS_TEST_SKIPPED-}
    [[ $passed ]] || signal_all CONT "$E2E_SCRATCH/instances"
    teardown_of_file || torn_down=
    if [[ $passed && $torn_down ]]; then
        rm -f "$E2E_SCRATCH"/instances/*.used
    else
        jobs -p | xargs -r kill -KILL 2>/dev/null || :
    fi
    [[ $torn_down ]]
}

stop_instance() {
    local_instance "$1" stop
}

# worker_pid N: the process id of a worker of the instance in use.
worker_pid() {
    local pid
    read -r pid <"$state/run/worker-$1.pid" && echo "$pid"
}

# eventually COMMAND...: waits until it succeeds. What is waited for comes soon, or as soon as the machine gets to it; the
# end is for what does not come at all.
eventually() {
    # How many seconds it may take is not for a test to say; some do.
    [[ $1 != [0-9]* ]] || shift
    await "$patience_s" "$@" || { echo "not within $patience_s s: $*" && return 1; }
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
    eventually shares "$1"
}

# reload_nginx: nginx of the instance in use reads its configuration anew, and none of the processes that it had before
# takes a request any more: they would go by the former one, and close their connections when they end, in the middle of
# what a client is about to send.
reload_nginx() {
    local master old
    master=$(<"$state/run/nginx.pid")
    read -ra old <"/proc/$master/task/$master/children" || : # it has no end of line
    kill -HUP "$master"
    eventually take_no_more "${old[@]}"
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

# deliveries_of N: how many requests that worker has answered. Not by its log, which does not have all that have no key.
deliveries_of() {
    curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "${RECEIPTD_URL%/inventory_receipt}/receiptd/$1/metrics" 3>&- |
        awk '/^receiptd_deliveries_total/ { count += $NF } END { print count + 0 }'
}

# measure_slowness: sets slow, how many times longer a commit over a connection of its own takes here and now than on a quiet
# machine, at least 1. Deadlines that a test waits for, and limits of time that are promises, are as many times longer.
measure_slowness() {
    local begun us longest_us=0
    for _ in 1 2 3 4; do
        begun=${EPOCHREALTIME/[.,]/}
        sql 'select pg_current_xact_id()' >/dev/null
        us=$((${EPOCHREALTIME/[.,]/} - begun))
        longest_us=$((us > longest_us ? us : longest_us))
    done
    # On a quiet one it takes 10 to 20 ms.
    slow=$((1 + longest_us / 50000))
    ((slow == 1)) || echo "a commit takes $((longest_us / 1000)) ms: this machine is $slow times as slow as a quiet one"
}

# scaled_ms MILLISECONDS: as many times more, and at most what is usual for a deadline.
scaled_ms() {
    echo $(($1 * slow < 10000 ? $1 * slow : 10000))
}

# padded SIZE [FILTER]: a receipt of $unit with so many bytes, with an unknown field of what is missing.
# shellcheck disable=SC2154
padded() {
    local bare
    bare=$(receipt "$unit" "${2-.} | .padding = \"\"")
    printf '%s' "${bare/\"padding\":\"\"/\"padding\":\"$(printf '%*s' $(($1 - ${#bare})) '' | tr ' ' x)\"}"
}

# connects SOCKET: whether somebody listens on it, which is a flag of the kernel's (__SO_ACCEPTCON), without being a client.
connects() {
    grep -q "^[^ ]* [^ ]* [^ ]* 00010000 .* $(realpath -m -- "$1")\$" /proc/net/unix
}

# listens PID: the port on 127.0.0.1 that it listens on.
listens() {
    local inodes port
    inodes=$(find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' | tr -dc '0-9\n' | paste -sd '|')
    port=$(awk -v "inodes=^($inodes)$" '$4 == "0A" && $10 ~ inodes { print substr($2, 10) }' /proc/net/tcp)
    [[ $port ]] && echo $((16#$port))
}

# certificate FILE [START END]: a self-signed one of localhost and 127.0.0.1 in FILE.crt, its key in FILE.key; valid from
# and until days from now, or for a year.
certificate() {
    local folder
    folder=$(mktemp -d "$BATS_TEST_TMPDIR/ca.XXXXXX")
    : >"$folder/index"
    printf '%s\n' '[ca]' default_ca=here '[here]' "database=$folder/index" "new_certs_dir=$folder" rand_serial=yes \
        default_md=sha256 policy=any copy_extensions=copy '[any]' commonName=optional >"$folder/config"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout "$1.key" \
        -addext 'subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1' -out "$folder/request" 2>/dev/null
    openssl ca -batch -selfsign -notext -config "$folder/config" -keyfile "$1.key" -in "$folder/request" -out "$1.crt" \
        -startdate "$(date -u -d "${2:-0} days" +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d "${3:-365} days" +%Y%m%d%H%M%SZ)" 2>/dev/null
}

ended() {
    ! kill -0 "$1" 2>/dev/null
}

# receipt UNIT [JQ FILTER]: the vendor's example under that unit_identifier, changed by the filter.
receipt() {
    local text
    if (($# == 1)) && [[ $1 != *[!A-Za-z0-9._-]* ]]; then
        # As jq would do it, which takes longer to start than all else that a delivery takes.
        text=$(<"$E2E_SCRATCH/receipt")
        printf '%s\n' "${text/@UNIT@/$1}"
    else
        jq -c --arg unit "$1" '.unit_identifier = $unit | '"${2:-.}" "$root/deploy/sample.json"
    fi
}

# request [CURL ARGUMENT...]: sets code and result, and leaves the answer in the files head and body.
request() {
    head=$BATS_TEST_TMPDIR/head body=$BATS_TEST_TMPDIR/body result=
    rm -f "$head" "$body"
    code=$(curl -q -sS --noproxy '*' --max-time "$patience_s" --cacert "$RECEIPTD_CACERT" -D "$head" -o "$body" \
        -w '%{http_code}' -H 'Expect:' "$@" 3>&-)
    [[ -e $body ]] || : >"$body"
    [[ ! $(<"$body") =~ '"result":"'([a-z]*)'"' ]] || result=${BASH_REMATCH[1]}
}

# post BODY [CURL ARGUMENT...]: a delivery with the key.
post() {
    local data=$1
    shift
    request -H "X-Api-Key: $CLIENT_API_KEY" -H 'Content-Type: application/json' --data-binary "$data" "$@" \
        "$RECEIPTD_URL"
}

# header NAME: its value in the last answer.
header() {
    sed -n "s/^$1: *\(.*\)\r\$/\1/Ip" "$head"
}

# An answer's body as the contract has it: what stands between quotation marks, one error, and all of it.
readonly answer_text='"([^"\\[:cntrl:]]|\\["\\/bfnrt]|\\u[0-9a-f]{4})*"'
readonly answer_error="\\{\"field\": ?$answer_text, ?\"code\": ?$answer_text\\}"
readonly answer_form="^\\{\"message\": ?$answer_text(, ?\"result\": ?\"([a-z]*)\")?(, ?\"errors\": ?\\[$answer_error(, ?$answer_error)*\\])?(, ?\"request_id\": ?\"([^\"]*)\")?\\}\$"

# expect CODE [RESULT]: of the last answer; shows it when it is another. Also what every answer has to be like.
expect() {
    local id
    if [[ $code != "$1" || $result != "${2-}" ]]; then
        echo "expected $*, got $code $result:"
        cat "$head" "$body"
        return 1
    fi
    id=$(header X-Request-Id)
    [[ $id =~ ^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$ ]]
    if [[ -s $body ]]; then
        [[ $(header Content-Type) == application/json ]]
        [[ $(header Content-Length) == $(stat -c %s "$body") ]]
        is_answer "$id" "${2-}" || { echo "no answer of $id: $(<"$body")" && return 1; }
    fi
    [[ $code != 5* ]] || [[ $(header Retry-After) =~ ^[1-9][0-9]*$ ]]
}

# is_answer ID RESULT: whether the last body has the contract's form, and that id, if any, and that result.
is_answer() {
    [[ $(<"$body") =~ $answer_form ]] || return
    [[ ${BASH_REMATCH[3]} == "$2" && ${BASH_REMATCH[-1]:-$1} == "$1" ]]
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

# load_in_background OPTION...: for longer than any test takes; end_load ends it, finish_load waits for it and checks.
load_in_background() {
    record=$(mktemp "$BATS_TEST_TMPDIR/record.XXXXXX")
    python3 "$e2e/deliver.py" load "$record" --seconds 10000 "$@" >"$record.out" 2>&1 3>&- &
    load=$!
}

finish_load() {
    local status=0
    wait "$load" || status=$?
    cat "$record.out"
    python3 "$e2e/deliver.py" check "$record" || status=1
    return "$status"
}

# end_load: no new deliveries; waits for the answers and checks them against the database.
end_load() {
    kill "$load"
    finish_load
}

# load_goes_on COUNT: waits until the load has delivered that many more, and has their answers.
load_goes_on() {
    local ended
    eventually test -s "$record"
    ended=$(grep -c '^{"end": ' "$record" || :)
    eventually has_ended $((ended + $1))
}

# has_ended COUNT: whether that many deliveries of the load have their answers.
has_ended() {
    (($(grep -c '^{"end": ' "$record" || :) >= $1))
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
    eventually grep -qs ' serves on ' "$worker_log"
}

# end_worker: SIGTERM to the worker that start_worker started; its exit status.
end_worker() {
    local status=0
    kill "$worker"
    wait "$worker" || status=$?
    ((status == 0)) || grep -sv ' level=info ' "$worker_log" || :
    return "$status"
}
