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
    pg_bin=/usr/lib/postgresql/$(<"$pgdata/PG_VERSION")/bin
    server_user=$(stat -c %U "$pgdata")
    as_server=()
    ((EUID != 0)) || as_server=(setpriv --reuid="$server_user" --regid="$(id -g "$server_user")" --init-groups)
}

# Puts right what a test, failed or not, has left behind.
heal() {
    local pid
    for pid in "${background[@]}" ${load-}; do
        kill -CONT "$pid" 2>/dev/null || continue
        kill "$pid"
        # Some would first wait for others to be done.
        eventually 10 ended "$pid" || kill -KILL "$pid"
        wait "$pid" || :
    done
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$pgdata" status >/dev/null || start_postgresql
    end_sessions
    sql "alter system reset all" && sql "select pg_reload_conf()" >/dev/null
}

# in_background COMMAND...: heal ends it. Sets pid.
in_background() {
    "$@" </dev/null >>"$BATS_TEST_TMPDIR/background.log" 2>&1 3>&- &
    pid=$!
    background+=("$pid")
}

# --- Load

# begin_load OPTION...: deliveries of every kind until end_load, each of them repeated, as the vendor does it, until it
# has its answer.
begin_load() {
    load_in_background --seconds 1000 --connections 8 --new 3 --again 2 --revise 3 --invalid 1 --malformed 1 \
        --give-up 90 --complete "$@"
    eventually 30 test -s "$record"
}

# end_load: no new deliveries; waits for the answers and checks them against the database.
end_load() {
    kill "$load"
    finish_load
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

# --- Workers

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
}

# replace_worker N SIGNAL: ends it with that signal; it is started again.
replace_worker() {
    local old
    # It may just be on its way, after it was killed.
    eventually 10 signal_worker "$1" "$2"
    eventually 30 new_worker "$1" "$old"
}

# signal_worker N SIGNAL: sets old, its process id.
signal_worker() {
    old=$(worker_pid "$1") && kill "-$2" "$old" 2>/dev/null
}

# --- PostgreSQL

# stop_postgresql MODE
stop_postgresql() {
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$pgdata" -s -w -m "$1" stop
}

start_postgresql() {
    "${as_server[@]}" setsid "$pg_bin/pg_ctl" -D "$pgdata" -l "$state/log/postgresql.log" -s -w -t 120 start \
        </dev/null >/dev/null 2>&1 3>&- || { tail -n 20 "$state/log/postgresql.log" && return 1; }
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

# lock_table SECONDS [STATEMENT]: a DBA's lock, in the background; after the statement it is given up.
lock_table() {
    in_background sql "begin; lock table inventory.receipts in access exclusive mode; select pg_sleep($1);
        ${2-select 1}; commit"
    eventually 10 locked
}

locked() {
    [[ $(sql "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted
        and relation = 'inventory.receipts'::regclass") == 1 ]]
}

of_workers="from pg_stat_activity where usename = 'receiptd_writer'"

# Waits until some worker waits for a lock.
eventually_blocked() {
    eventually 10 blocked
}

blocked() {
    [[ $(sql "select count(*) $of_workers and wait_event_type = 'Lock'") != 0 ]]
}

# --- Between the workers and PostgreSQL

# Starts proxy.py. The workers connect through it when PGHOST is proxy_folder.
start_proxy() {
    proxy_folder=$(mktemp -d "$E2E_SCRATCH/proxy.XXXXXX")
    proxy_log=$proxy_folder/log
    chmod 755 "$proxy_folder"
    python3 "$faults/proxy.py" "$proxy_folder" "$PGHOST/.s.PGSQL.$PGPORT" </dev/null >"$proxy_log" 2>&1 3>&- &
    proxy=$!
    background+=("$proxy")
    eventually 10 grep -q ready "$proxy_log"
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
