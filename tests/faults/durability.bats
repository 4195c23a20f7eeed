# What is not durable where it is committed is never told: 503, and the log names the setting and who set it, in the
# words of pg_settings.source.

readonly other_role=receiptd_other

setup() {
    load faults
    use_faulty_instance shared
    set_worker_env
    measure_slowness
    socket=$BATS_TEST_TMPDIR/socket
}

teardown() {
    local status=0
    [[ -z ${worker-} ]] || end_worker || status=1
    heal
    sql "set client_min_messages = warning;
        alter role receiptd_writer reset all;
        \\i '$root/sql/roles.sql'
        alter role receiptd_writer in database inventory reset all;
        alter database inventory reset synchronous_commit;
        drop database if exists ascii with (force);
        drop role if exists $other_role"
    [[ ! -e $pgdata/pg_ident.conf.plain ]] || mv "$pgdata/pg_ident.conf.plain" "$pgdata/pg_ident.conf"
    reconnect
    return "$status"
}

# work_with [NAME=VALUE...]: a worker with a short deadline; it takes the place of the one before it.
work_with() {
    [[ -z ${worker-} ]] || end_worker
    start_worker "$BATS_TEST_TMPDIR/log" "RECEIPTD_DEADLINE_MS=$(scaled_ms 500)" "$@" -- --listen "$socket"
    log_from=1
}

# tell BODY...: what the worker answers to each of them, sent at the same time.
tell() {
    printf '%s\n' "$@" | python3 "$faults/crowd.py" "$socket" each
}

# stores: a new receipt, now.
stores() {
    new_unit
    [[ $(tell "$(receipt "$unit")") == 201 ]]
}

# recovers: and what is logged from now on counts.
recovers() {
    eventually stores
    log_from=$(($(stat -c %s "$worker_log") + 1))
}

# knows: there is a receipt that can be repeated and revised.
knows() {
    eventually has_known
}

has_known() {
    [[ $(tell "$(receipt known)") == 20[01] ]]
}

# tells_nothing SETTING SOURCE: new, repeated, revised and refused deliveries are answered 503, and the log says why.
tells_nothing() {
    local told
    new_unit
    told=$(tell "$(receipt "$unit")" "$(receipt known)" "$(receipt known ".sku = \"$unit\"")" '{')
    if [[ $told != $'503\n503\n503\n503' ]]; then
        echo "although $1 is wrong, it was told:" "$told"
        return 1
    fi
    tail -c "+$log_from" "$worker_log" | grep -v ' msg=delivery ' | grep -- "$1" | grep -q -- "$2" && return
    echo "the log does not name $1 and $2:"
    tail -c "+$log_from" "$worker_log"
    return 1
}

# So that settings of roles and of the database count.
reconnect() {
    sql "select pg_terminate_backend(pid) $of_workers" >/dev/null
}

# set_while_connected NAME VALUE: until the worker's session has it too.
set_while_connected() {
    set_postgresql "$1" "$2"
    eventually stores_nothing
}

stores_nothing() {
    ! stores
}

@test "settings of the worker's own connection are found" {
    work_with
    knows
    work_with 'PGOPTIONS=-c synchronous_commit=off'
    tells_nothing synchronous_commit client
    work_with 'PGOPTIONS=-c default_transaction_read_only=on' PGTARGETSESSIONATTRS=any
    tells_nothing transaction_read_only client
    # As libpq sees it, which then does not even connect.
    work_with 'PGOPTIONS=-c default_transaction_read_only=on'
    tells_nothing read-only ''
    work_with 'PGOPTIONS=-c synchronous_commit=remote_apply'
    stores
}

@test "settings of the role and of the database are found" {
    local target
    work_with
    knows
    for target in 'role receiptd_writer:user' 'role receiptd_writer in database inventory:database user'; do
        sql "alter ${target%:*} set synchronous_commit = off"
        reconnect
        tells_nothing synchronous_commit "${target#*:}"
        sql "alter ${target%:*} set synchronous_commit = on"
        recovers
    done
    sql "alter role receiptd_writer in database inventory reset all"
    sql "alter role receiptd_writer reset synchronous_commit"
    sql "alter database inventory set synchronous_commit = off"
    reconnect
    tells_nothing synchronous_commit database
    sql "alter database inventory reset synchronous_commit"
    recovers
}

@test "another role than receiptd_writer, which has not its settings, is found out" {
    work_with
    knows
    sql "create role $other_role login in role receiptd_writer"
    cp -p "$pgdata/pg_ident.conf" "$pgdata/pg_ident.conf.plain"
    printf 'local "%s" %s\n' "$(id -un)" "$other_role" >>"$pgdata/pg_ident.conf"
    set_postgresql synchronous_commit off
    work_with "PGUSER=$other_role"
    tells_nothing synchronous_commit 'configuration file'
    set_postgresql synchronous_commit on
    recovers
    set_while_connected synchronous_commit off
    tells_nothing synchronous_commit 'configuration file'
}

@test "a server that does not flush is found, also while connected" {
    local setting
    work_with
    knows
    for setting in fsync full_page_writes; do
        set_while_connected "$setting" off
        tells_nothing "$setting" 'configuration file'
        set_postgresql "$setting" on
        recovers
        reconnect
        set_postgresql "$setting" off
        tells_nothing "$setting" 'configuration file'
        set_postgresql "$setting" on
        recovers
    done
}

@test "synchronous_commit local and remote_write: durable without a standby, and not where one is named" {
    local value
    for value in local remote_write; do
        work_with "PGOPTIONS=-c synchronous_commit=$value"
        recovers
        knows
        set_while_connected synchronous_standby_names missing
        tells_nothing synchronous_commit client
        reconnect
        tells_nothing synchronous_commit client
        set_postgresql synchronous_standby_names ''
        recovers
    done
}

@test "a database that is not UTF8 is found" {
    sql "create database ascii template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'"
    pg_dump --schema-only | psql -Xqd ascii >/dev/null
    work_with PGDATABASE=ascii
    tells_nothing encoding ''
}

@test "behind pgbouncer: found when connecting, and when pgbouncer gives the worker another session" {
    begin_pgbouncer
    sql "alter role receiptd_writer set synchronous_commit = off"
    reconnect
    work_with "PGHOST=$pooler" RECEIPTD_PREPARED_STATEMENTS=off
    tells_nothing synchronous_commit user
    sql "alter role receiptd_writer set synchronous_commit = on"
    reconnect
    recovers
    knows
    # The worker stays connected to pgbouncer.
    sql "alter role receiptd_writer set synchronous_commit = off"
    reconnect
    tells_nothing synchronous_commit user
    sql "alter role receiptd_writer set synchronous_commit = on"
    reconnect
    recovers
    set_while_connected fsync off
    tells_nothing fsync 'configuration file'
    set_postgresql fsync on
    recovers
}
