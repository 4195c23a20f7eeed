# pgbouncer in transaction mode between the workers and PostgreSQL.

setup() {
    load faults
    use_faulty_instance shared
    begin_pgbouncer
    workers_with "PGHOST=$pooler" RECEIPTD_PREPARED_STATEMENTS=off RECEIPTD_PG_CONNECTIONS=2
}

teardown() {
    heal
}

@test "pgbouncer in transaction mode: no request fails" {
    begin_load --flawless
    load_goes_on 300
    end_load
}

@test "PostgreSQL restarted behind pgbouncer: service as soon as it is back" {
    begin_load
    stop_postgresql fast
    start_postgresql
    eventually serves
    end_load
}

@test "pgbouncer itself restarted, or killed with -9: service as soon as it is back" {
    local signal
    begin_load
    # SIGINT is what its systemd unit says.
    for signal in INT KILL; do
        end_pooler "$signal"
        start_pooler
        eventually serves
    done
    end_load
}
