# Failovers in which the old primary stays reachable: it accepts connections, and perhaps writes. Two servers, first and
# second in PGHOST; each test begins with new ones.

setup() {
    load faults
    start_instance failover-"$BATS_TEST_NUMBER" RECEIPTD_DEADLINE_MS="$(lasts 2000 10000)" >/dev/null
    use_faulty_instance failover-"$BATS_TEST_NUMBER"
    old=$PGHOST
    new=$state/run-second
    allow_replication
    set_postgresql synchronous_standby_names '*'
    make_standby second
    eventually in_sync
}

teardown() {
    heal || :
    PGHOST=$new pgdata=$state/second stop_postgresql immediate || :
    stop_instance failover-"$BATS_TEST_NUMBER"
}

promote_second() {
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$state/second" -s -w promote
}

# stores_at HOST: a new receipt is stored there, now.
stores_at() {
    serves && [[ $(PGHOST=$1 count "$unit") == 1 ]]
}

# sessions_at HOST: how many sessions the service has there.
sessions_at() {
    PGHOST=$1 sql "select count(*) $of_workers"
}

few_sessions_at() {
    (($(sessions_at "$1") <= 4))
}

@test "the old primary waits for its standby for ever, and is first in PGHOST: the workers find the new one" {
    workers_with "PGHOST=$old,$new"
    begin_load
    load_goes_on 100
    promote_second
    eventually stores_at "$new"
    eventually is_ready 1 true "$new"
    # What was given up there was cancelled.
    eventually few_sessions_at "$old"
    PGHOST=$new
    end_load
}

# Whether worker 1 names the standby as what the deliveries wait for.
names_wait() {
    is_ready 1 false 'the commit waits for a standby' || is_ready 1 false 'a commit that waits for a standby holds a lock'
}

@test "while no standby is there, sessions that were given up do not accumulate, and ready names the wait" {
    local n most=0
    workers_with RECEIPTD_DEADLINE_MS=8000
    pgdata=$state/second stop_postgresql immediate
    begin_load
    eventually is_ready 1 false 'commits have waited for a standby'
    eventually names_wait
    eventually is_ready 2 false 'commits have waited for a standby'
    for n in {1..40}; do
        ((most >= $(sessions_at "$old"))) || most=$(sessions_at "$old")
        sleep 0.1
    done
    echo "$most sessions at most"
    # Two workers with five each, and what is just being cancelled.
    ((most <= 16))
    pgdata=$state/second start_postgresql
    eventually serves
    eventually is_ready 1 true
    end_load
}

@test "an old primary that can commit again is refused: 503, and the reason, until the new one is back" {
    workers_with "PGHOST=$old,$new"
    serves
    promote_second
    eventually stores_at "$new"
    set_postgresql synchronous_standby_names ''
    PGHOST=$new pgdata=$state/second stop_postgresql immediate
    refuses
    eventually is_ready 1 false 'is on timeline 1'
    [[ $(PGHOST=$old count "$unit") == 0 ]]
    PGHOST=$new pgdata=$state/second start_postgresql
    eventually stores_at "$new"
}

@test "without a synchronous standby the old primary goes on committing: the workers notice the new one" {
    set_postgresql synchronous_standby_names ''
    workers_with "PGHOST=$old,$new"
    eventually stores_at "$old"
    promote_second
    eventually stores_at "$new"
    logged 'is primary on timeline 2, later than 1'
    # A program that runs once chooses the new one too, although the old one is first and accepts writes.
    set_worker_env
    run "${worker_env[@]}" "PGHOST=$old,$new" "$WORKER" doctor
    [[ $output == *'timeline 2,'* ]]
}

@test "RECEIPTD_REQUIRE_STANDBY: 503 while no standby is named, whenever the names are taken away" {
    local answer=$BATS_TEST_TMPDIR/answer
    workers_with RECEIPTD_REQUIRE_STANDBY=on RECEIPTD_DEADLINE_MS=10000
    eventually serves
    set_postgresql synchronous_standby_names ''
    refuses
    eventually is_ready 1 false 'RECEIPTD_REQUIRE_STANDBY is on'
    set_postgresql synchronous_standby_names '*'
    eventually serves
    # PostgreSQL releases whoever waits, without a word.
    pgdata=$state/second stop_postgresql immediate
    new_unit
    (post "$(receipt "$unit")"; echo "$code" >"$answer") 3>&- &
    eventually waiting
    set_postgresql synchronous_standby_names ''
    wait $!
    [[ $(<"$answer") == 503 ]]
    # Without it, that is a success.
    workers_with
    post "$(receipt "$unit")"
    [[ $code == 200 ]]
}
