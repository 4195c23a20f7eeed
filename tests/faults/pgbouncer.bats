# pgbouncer in transaction mode between the workers and PostgreSQL.

setup() {
    load faults
    use_faulty_instance shared
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
    workers_with "PGHOST=$pooler" RECEIPTD_PREPARED_STATEMENTS=off RECEIPTD_COMMITTERS=2
}

teardown() {
    end_pooler KILL
    heal
}

start_pooler() {
    in_background "${as_server[@]}" pgbouncer "$pooler/ini"
    pooler_pid=$pid
    eventually 10 connects "$pooler/.s.PGSQL.5432"
}

# end_pooler SIGNAL: not SIGTERM, with which it waits, since 1.23, for the workers to disconnect.
end_pooler() {
    ! kill "-$1" "$pooler_pid" 2>/dev/null || wait "$pooler_pid" || :
}

@test "pgbouncer in transaction mode: no request fails" {
    begin_load --flawless
    sleep 2
    end_load
}

@test "PostgreSQL restarted behind pgbouncer: service as soon as it is back" {
    begin_load
    stop_postgresql fast
    start_postgresql
    eventually 20 serves
    end_load
}

@test "pgbouncer itself restarted, or killed with -9: service as soon as it is back" {
    local signal
    begin_load
    # SIGINT is what its systemd unit says.
    for signal in INT KILL; do
        end_pooler "$signal"
        start_pooler
        eventually 20 serves
    done
    end_load
}
