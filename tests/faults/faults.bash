# What the tests share: how to cause a fault, and how to heal it. Loaded by every file.
# shellcheck shell=bash

# shellcheck source=../e2e/common.bash
source "$(dirname "${BASH_SOURCE[0]}")/../e2e/common.bash"

faults=$root/tests/faults
background=()

# lasts SHORT LONG: how many seconds a fault takes; the long one with FULL=1.
lasts() {
    if [[ ${FULL-} == 1 ]]; then echo "$2"; else echo "$1"; fi
}

# use_faulty_instance NAME: as use_instance; what heal has to put right is that instance.
use_faulty_instance() {
    use_instance "$1"
    pgdata=$state/pgdata
    find_postgresql "$(<"$pgdata/PG_VERSION")"
    server_user=$(stat -c %U "$pgdata")
    set_as_user "$server_user"
    as_server=("${as_user[@]}")
}

# Puts right what a test, failed or not, has left behind.
heal() {
    local pid
    [[ -z ${pooler_pid-} ]] || end_pooler KILL
    for pid in "${background[@]}" ${load-}; do
        runs_here "$pid" || continue
        kill "$pid"
        # Some would first wait for others to be done.
        await 10 ended "$pid" || kill -KILL "$pid"
        wait "$pid" || :
    done
    background=()
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$pgdata" status >/dev/null || start_postgresql
    end_sessions
    sql "alter system reset all" && sql "select pg_reload_conf()" >/dev/null
}

# runs_here PID: whether it is a process that this test has started. The id of one that has ended can be a stranger's.
runs_here() {
    grep -qs "^PPid:[[:space:]]*$BASHPID\$" "/proc/$1/status"
}

# in_background COMMAND...: heal ends it. Sets pid.
in_background() {
    "$@" </dev/null >>"$BATS_TEST_TMPDIR/background.log" 2>&1 3>&- &
    pid=$!
    background+=("$pid")
}

# begin_load OPTION...: deliveries of every kind until end_load, eight at once and 200 a second, each of them repeated, as
# the vendor does it, until it has its answer.
begin_load() {
    load_in_background --connections 8 --every-ms 40 --burst 8 --new 3 --again 2 --revise 3 --invalid 1 \
        --malformed 1 --give-up 1000 --complete "$@"
    eventually test -s "$record"
}

# begin_row_load PROGRAM KEYS EVERY_MS DEADLINE_MS [OPTION...]: that many rows, delivered again and again with other
# content, whoever waits. Told 503 at their deadline, neither sooner nor much later.
begin_row_load() {
    load_in_background --connections 48 --program "$1" --keys "$2" --every-ms "$3" --new 9 --revise 9 \
        --give-up 1000 --complete --soonest-busy-ms $(($4 - 100)) --slowest-busy-ms $(($4 + 1500 * slow)) "${@:5}"
}

# has_rows PROGRAM COUNT
has_rows() {
    [[ $(sql "select count(*) from inventory.receipts where program_identifier = :'program'" program="$1") == "$2" ]]
}

# deliver_others SECONDS: new receipts, as fast as they are stored, over 32 connections. Sets rate (a second) and p99_ms;
# fails when p99 is over a second (see measure_slowness), or more than one of a hundred is not told 201.
deliver_others() {
    local figures requests seconds p99 refused errors
    figures=$(CONNECTIONS=32 wrk -t 2 -c 32 -d "$1s" --timeout 60s -s "$root/tests/bench/load.lua" "$RECEIPTD_URL" -- \
        "$root/deploy/sample.json" "$CLIENT_API_KEY" new "$RANDOM" 0-99999999 3>&-)
    figures=${figures##*$'\n'}
    echo "$figures"
    read -r requests seconds p99 refused errors < <(jq -r '"\(.requests) \(.seconds) \(.p99) \(.refused) \(.errors)"' \
        <<<"$figures")
    rate=$(jq -n "$requests / $seconds | floor") p99_ms=$((p99 / 1000))
    ((requests > 0 && refused * 100 <= requests && errors == 0 && p99_ms <= 1000 * slow))
}

# goes_on_beside BEGIN END: while what BEGIN begins goes on, until END, others are stored within a second (p99), and
# more than half as many as without. The machine has other things to do too: what is less is measured again.
goes_on_beside() {
    local without=0 beside=0 round
    for round in 1 2 3; do
        deliver_others 1
        ((without += rate))
        "$1"
        deliver_others 2
        ((beside += rate))
        "$2"
        echo "$without a second in round 1 to $round without, $beside beside it"
        ((beside * 2 < without)) || return 0
    done
    return 1
}

# serves: a delivery is stored now.
serves() {
    new_unit
    post "$(receipt "$unit")" && [[ $code == 201 ]]
}

# refuses: a delivery is answered 503 now.
refuses() {
    new_unit
    post "$(receipt "$unit")" && [[ $code == 503 ]]
}

new_unit() {
    unit=$BATS_TEST_NUMBER-$EPOCHREALTIME
}

# times_logged TEXT: how many times the workers have logged that since workers_with.
times_logged() {
    local n
    for n in 1 2; do
        tail -c "+$((log_start[n] + 1))" "$state/log/worker-$n.log"
    done | grep -c -- "$1" || :
}

# logged TEXT: whether they have at all.
logged() {
    (($(times_logged "$1") > 0))
}

# worker_metric N NAME: its value; nothing if the worker does not have it.
worker_metric() {
    curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "${RECEIPTD_URL%/*}/receiptd/$1/metrics" 3>&- |
        awk -v name="$2" 'index($0, name " ") == 1 { print $NF }'
}

# is_ready N true|false [TEXT]: what worker N says of itself, and why; sets ready.
is_ready() {
    ready=$(curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "${RECEIPTD_URL%/*}/receiptd/$1/ready" 3>&-)
    [[ $ready == *"\"ready\":$2,"*"${3-}"* ]]
}

# workers_with [NAME=VALUE...]: the workers have these in their environment, and no others of former tests. They are
# drained and replaced where they have not.
workers_with() {
    local n text program=" $state/bin/receiptd " more=
    [[ -e $state/bin/worker.plain ]] || cp -p "$state/bin/worker" "$state/bin/worker.plain"
    text=$(<"$state/bin/worker.plain")
    (($# == 0)) || printf -v more ' %q' "$@"
    text=${text/"$program"/"$more$program"}
    if [[ $text != "$(<"$state/bin/worker")" ]]; then
        printf '%s\n' "$text" >"$state/bin/worker"
        for n in 1 2; do
            replace_worker "$n" TERM
        done
    fi
    for n in 1 2; do
        log_start[n]=$(stat -c %s "$state/log/worker-$n.log")
    done
    errors_of_workers >"$BATS_TEST_TMPDIR/errors"
}

# errors_of_workers: CLASS COUNT, for each class of SQLSTATE that PostgreSQL's errors had, and each worker.
errors_of_workers() {
    local n
    for n in 1 2; do
        curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "${RECEIPTD_URL%/*}/receiptd/$n/metrics" 3>&- |
            sed -n 's/^receiptd_database_errors_total{class="\([^"]*\)"} /\1 /p'
    done
}

# errors CLASS: how many errors of that class there were since workers_with. The log does not have each of them.
errors() {
    {
        sed 's/ / -/' "$BATS_TEST_TMPDIR/errors"
        errors_of_workers
    } | awk -v class="$1" '$1 == class { sum += $2 } END { print sum + 0 }'
}

# failed_with CLASS: whether there was one.
failed_with() {
    (($(errors "$1") > 0))
}

# log_through_readers [NAME=VALUE...]: as workers_with, but what a worker logs goes through a pipe, whose other end the
# process log_reader N reads. log_directly undoes it, with the next workers_with.
log_through_readers() {
    [[ -e $state/bin/worker.plain ]] || cp -p "$state/bin/worker" "$state/bin/worker.plain"
    [[ -e $state/bin/worker.direct ]] || cp -p "$state/bin/worker.plain" "$state/bin/worker.direct"
    # The second argument is …/worker-N.sock.
    sed "2a exec 2> >(echo \$BASHPID >'$state/run/reader-'\${2: -6:1}; exec cat >\&2)" "$state/bin/worker.direct" \
        >"$state/bin/worker.plain"
    workers_with "$@"
}

log_directly() {
    cp "$state/bin/worker.direct" "$state/bin/worker.plain"
}

# log_reader N: its process id.
log_reader() {
    local reader
    read -r reader <"$state/run/reader-$1" && echo "$reader"
}

# replace_worker N SIGNAL: ends it with that signal; it is started again.
replace_worker() {
    local old
    # It may just be on its way, after it was killed.
    eventually signal_worker "$1" "$2"
    eventually new_worker "$1" "$old"
}

# signal_worker N SIGNAL: sets old, its process id.
signal_worker() {
    old=$(worker_pid "$1") && kill "-$2" "$old" 2>/dev/null
}

# stop_postgresql MODE
stop_postgresql() {
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$pgdata" -s -w -m "$1" stop
}

start_postgresql() {
    "${as_server[@]}" setsid "$pg_bin/pg_ctl" -D "$pgdata" -l "$state/log/postgresql.log" -s -w -t 120 start \
        </dev/null >/dev/null 2>&1 3>&- || { tail -n 20 "$state/log/postgresql.log" && return 1; }
}

# allow_replication: standbys of the instance in use may connect.
allow_replication() {
    echo 'local replication postgres peer map=local' |
        cat - "$pgdata/pg_hba.conf" | "${as_server[@]}" tee "$pgdata/pg_hba.conf.new" >/dev/null
    mv "$pgdata/pg_hba.conf.new" "$pgdata/pg_hba.conf"
    sql 'select pg_reload_conf()' >/dev/null
}

# make_standby NAME: a standby of the server at PGHOST, in the folder NAME, with its socket in run-NAME.
make_standby() {
    install -d -m 700 ${as_server:+-o "$server_user"} "$state/$1" "$state/run-$1"
    "${as_server[@]}" "$pg_bin/pg_basebackup" -h "$PGHOST" -p "$PGPORT" -U postgres -D "$state/$1" -R -c fast --no-sync
    "${as_server[@]}" tee -a "$state/$1/postgresql.auto.conf" >/dev/null <<END
unix_socket_directories = '$state/run-$1'
synchronous_standby_names = ''
END
    pgdata=$state/$1 start_postgresql
    eventually replicates
}

replicates() {
    [[ $(sql "select count(*) from pg_stat_replication where state = 'streaming'") == 1 ]]
}

# in_sync: whether commits wait for the standby.
in_sync() {
    [[ $(sql "select count(*) from pg_stat_replication where sync_state = 'sync'") == 1 ]]
}

# waiting: whether a commit waits for the standby.
waiting() {
    [[ $(sql "select count(*) $of_workers and wait_event = 'SyncRep'") != 0 ]]
}

# set_postgresql NAME VALUE: for all sessions, at once.
set_postgresql() {
    sql "alter system set $1 = '$2'"
    sql "select pg_reload_conf()" >/dev/null
}

# Ends what runs in the background, whatever it is about.
end_sessions() {
    sql "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres' and pid <> pg_backend_pid()
        and backend_type = 'client backend'" >/dev/null
}

# versions_are_kept: of each receipt there are as many former versions as it was revised times.
versions_are_kept() {
    [[ $(sql "select count(*) from inventory.receipts as r where r.revision <>
        (select count(*) from inventory.receipt_revisions as v
         where (v.program_identifier, v.asn_number, v.unit_identifier)
            = (r.program_identifier, r.asn_number, r.unit_identifier))") == 0 ]]
}

# lock_table SECONDS [STATEMENT]: a DBA's lock, in the background; after the statement it is given up.
lock_table() {
    in_background sql "begin; lock table inventory.receipts in access exclusive mode; select pg_sleep($1);
        ${2-select 1}; commit"
    eventually locked
}

locked() {
    [[ $(sql "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted
        and relation = 'inventory.receipts'::regclass") == 1 ]]
}

of_workers="from pg_stat_activity where usename = 'receiptd_writer'"

# as_dba STATEMENT [NAME=VALUE...]: a transaction of a DBA's, in the background; end_sessions ends it and undoes it.
as_dba() {
    local statement=$1
    shift
    in_background sql "begin; $statement; select pg_sleep(1000)" "$@"
    eventually sleeping
}

# Whether a DBA's session holds what it has locked.
sleeping() {
    [[ $(sql "select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == 1 ]]
}

# lock_rows PROGRAM...: a DBA's locks of all their rows.
lock_rows() {
    as_dba "select count(*) from (select from inventory.receipts
        where program_identifier = any (string_to_array(:'programs', ' ')) for update) as locked" programs="$*"
}

# Waits until some worker waits for a lock.
eventually_blocked() {
    eventually blocked
}

blocked() {
    [[ $(sql "select count(*) $of_workers and wait_event_type = 'Lock'") != 0 ]]
}

# Starts pgbouncer in transaction mode. The workers connect through it when PGHOST is pooler. Sets pid.
begin_pgbouncer() {
    PATH=$PATH:/usr/sbin
    pooler=$(mktemp -d "$E2E_SCRATCH/pgbouncer.XXXXXX")
    cat >"$pooler/ini" <<END
[databases]
inventory = host=$PGHOST port=$PGPORT user=receiptd_writer
[pgbouncer]
unix_socket_dir = $pooler
listen_port = 5432
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_login_retry = 1
END
    ((EUID != 0)) || chown -R "$server_user" "$pooler"
    chmod 755 "$pooler"
    start_pooler
}

start_pooler() {
    "${as_server[@]}" pgbouncer "$pooler/ini" </dev/null >>"$BATS_TEST_TMPDIR/background.log" 2>&1 3>&- &
    pooler_pid=$!
    eventually connects "$pooler/.s.PGSQL.5432"
}

# end_pooler SIGNAL: not SIGTERM, with which it waits, since 1.23, for the workers to disconnect.
end_pooler() {
    ! kill "-$1" "$pooler_pid" 2>/dev/null || wait "$pooler_pid" || :
}

# Starts proxy.py. The workers connect through it when PGHOST is proxy_folder.
start_proxy() {
    proxy_folder=$(mktemp -d "$E2E_SCRATCH/proxy.XXXXXX")
    proxy_log=$proxy_folder/log
    chmod 755 "$proxy_folder"
    python3 "$faults/proxy.py" "$proxy_folder" "$PGHOST/.s.PGSQL.$PGPORT" </dev/null >"$proxy_log" 2>&1 3>&- &
    proxy=$!
    background+=("$proxy")
    eventually grep -q ready "$proxy_log"
}

# spoil_next HOW: the answer to the next commit of receipts; see proxy.py.
spoil_next() {
    echo "$1" >"$proxy_folder/next.new"
    mv "$proxy_folder/next.new" "$proxy_folder/next"
}

# spoilt HOW: how many answers were.
spoilt() {
    grep -c "^$1 " "$proxy_log" || :
}

spoilt_times() {
    [[ $(spoilt "$1") == "$2" ]]
}
