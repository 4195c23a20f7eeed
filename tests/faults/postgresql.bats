# What happens to PostgreSQL, and between it and the workers.

setup() {
    load faults
    use_faulty_instance shared
    small=$E2E_SCRATCH/small
    frozen=()
}

teardown() {
    ((${#frozen[@]} == 0)) || kill -CONT "${frozen[@]}"
    heal
    # One that sleeps holds locks.
    sql "select pg_terminate_backend(pid) $of_workers and wait_event = 'PgSleep'" >/dev/null
    sql "set client_min_messages = warning; drop schema if exists test cascade"
    sql "alter role receiptd_writer reset all"
    PGOPTIONS='-c client_min_messages=warning' psql -Xq -f "$root/sql/roles.sql"
    sql "select pg_terminate_backend(pid) $of_workers" >/dev/null
    ! mountpoint -q "$small" || umount --lazy "$small"
}

# For faults that outlast the deadline: a short one, so that they can be short too.
outlast_deadline() {
    if [[ ${FULL-} == 1 ]]; then
        slowest_busy_ms=12000
        workers_with
    else
        measure_slowness
        slowest_busy_ms=$(($(scaled_ms 1000) + 2000 * slow))
        workers_with "RECEIPTD_DEADLINE_MS=$(scaled_ms 1000)"
    fi
    begin_load --slowest-busy-ms "$slowest_busy_ms"
}

# For faults that no sender notices.
stay_flawless() {
    workers_with
    begin_load --flawless "$@"
}

# Makes the folder small a file system of PostgreSQL's, for as much as an instance may have by then.
mount_small() {
    mkdir -p "$small"
    mount -t tmpfs -o "size=4g,uid=$(id -u "$server_user"),mode=700" tmpfs "$small"
}

# Leaves no room in there: it gets as small as what it holds. Which can grow meanwhile, so it takes some tries.
fill_small() {
    local used
    read -r used < <(df --output=used -k "$small" | tail -n 1)
    mount -o "remount,size=${used}k" "$small"
}

free_small() {
    mount -o remount,size=4g "$small"
}

# For functions that the writer calls.
make_test_schema() {
    sql "create schema test; grant usage on schema test to receiptd_writer"
}

@test "PostgreSQL restarted: no request fails" {
    stay_flawless
    stop_postgresql fast
    start_postgresql
    load_goes_on 20
    end_load
}

@test "PostgreSQL shut down immediately and started again: no request fails, what was acknowledged is there" {
    stay_flawless
    stop_postgresql immediate
    start_postgresql
    load_goes_on 20
    end_load
}

@test "PostgreSQL killed with -9: no request fails, what was acknowledged is there" {
    stay_flawless
    kill -9 "$(head -n 1 "$pgdata/postmaster.pid")"
    eventually no_postgresql
    # Its process id may be another program's by now, or still a zombie's.
    rm "$pgdata/postmaster.pid" "$PGHOST/.s.PGSQL.$PGPORT.lock"
    start_postgresql
    load_goes_on 20
    end_load
}

no_postgresql() {
    local process
    for process in /proc/[0-9]*; do
        [[ ! $process/cwd -ef $pgdata ]] || return 1
    done
}

@test "PostgreSQL gone for longer than the deadline: 503 in time, and service as soon as it is back" {
    local before n
    outlast_deadline
    before=$(connection_errors)
    stop_postgresql fast
    began=$SECONDS
    eventually refuses
    eventually retried_often "$before"
    sleep "$(lasts 1 60)"
    outage_s=$((SECONDS - began + 1))
    start_postgresql
    eventually serves
    end_load
    (($(told busy) > 0))
    # It backs off: so many times in these seconds, and not thousands.
    attempts=$(($(connection_errors) - before))
    echo "$attempts attempts in $outage_s s"
    ((attempts < 50 + 50 * outage_s))
    # And the log has each reason once a minute.
    n=$(times_logged 'cannot connect to PostgreSQL')
    ((n > 0 && n <= 8 + 4 * outage_s / 60))
}

# retried_often BEFORE: whether there have been some errors since there were so many.
retried_often() {
    (($(connection_errors) - $1 > 4))
}

# Connections to PostgreSQL that both workers could not make, or have lost.
connection_errors() {
    local n total=0
    for n in 1 2; do
        ((total += $(worker_metric "$n" 'receiptd_database_errors_total{class="connection"}' | grep . || echo 0)))
    done
    echo "$total"
}

@test "PostgreSQL hangs: 503 in time, also while connecting, and service as soon as it goes on" {
    outlast_deadline
    mapfile -t frozen < <(head -n 1 "$pgdata/postmaster.pid" && sql "select pid $of_workers")
    kill -STOP "${frozen[@]}"
    eventually refuses
    sleep "$(lasts 3 30)"
    kill -CONT "${frozen[@]}"
    frozen=()
    eventually serves
    end_load
}

@test "out of connections: 503, and service as soon as there are some again" {
    outlast_deadline
    in_background python3 "$faults/connections.py" "$PGHOST/.s.PGSQL.$PGPORT" "$BATS_TEST_TMPDIR/taken"
    eventually test -e "$BATS_TEST_TMPDIR/taken"
    eventually refuses
    sleep "$(lasts 0.5 30)"
    kill "$pid"
    eventually serves
    end_load
    logged 'too many clients\|connection slots are reserved'
}

@test "no space for the tables: 503, and service as soon as there is some again" {
    ((EUID == 0)) || skip 'only root can mount a small file system'
    mount_small
    sql "create tablespace small location '$small'"
    sql "alter table inventory.receipts set tablespace small"
    sql "alter table inventory.receipt_revisions set tablespace small"
    sql "alter table inventory.rejected_receipts set tablespace small"
    outlast_deadline
    eventually fill_small
    eventually refuses
    failed_with 53
    sleep "$(lasts 0.5 30)"
    free_small
    eventually serves
    end_load
    sql "alter table inventory.receipts set tablespace pg_default"
    sql "alter table inventory.receipt_revisions set tablespace pg_default"
    sql "alter table inventory.rejected_receipts set tablespace pg_default"
    sql "checkpoint"
    sql "drop tablespace small"
}

@test "an error of each statement is logged once a minute, and so is the connection after it; then that it is over" {
    local began minutes
    outlast_deadline
    began=$SECONDS
    sql "create schema test; grant usage on schema test to public;
        create function test.fail() returns trigger language plpgsql
            as \$\$ begin raise 'no space for %', new.unit_identifier using errcode = '53100'; end \$\$;
        create trigger a_fail before insert on inventory.receipts for each row execute function test.fail()"
    eventually refuses
    eventually failed_often
    sql "drop schema test cascade" 2>/dev/null
    eventually serves
    eventually logged 'PostgreSQL stores again, after [0-9]* failures in '
    end_load
    minutes=$((1 + (SECONDS - began) / 60))
    (($(times_logged 'PostgreSQL: 53100') <= 2 * minutes))
    # One at the start of each worker, and one after the trouble.
    (($(times_logged 'connected to PostgreSQL') <= 2 + 2 * minutes))
}

# Whether a few batches have failed by now.
failed_often() {
    (($(errors 53) > 10))
}

@test "no space for the write-ahead log: PostgreSQL crashes, 503, and nothing acknowledged is missing afterwards" {
    ((EUID == 0)) || skip 'only root can mount a small file system'
    stop_postgresql fast
    mount_small
    cp -a "$pgdata/pg_wal" "$small"
    mv "$pgdata/pg_wal" "$pgdata/pg_wal.plain"
    ln -s "$small/pg_wal" "$pgdata/pg_wal"
    start_postgresql
    outlast_deadline
    eventually fill_small
    sql "create table public.test as select repeat('x', 1000) from generate_series(1, 1000000)" || :
    eventually refuses
    free_small
    "${as_server[@]}" "$pg_bin/pg_ctl" -D "$pgdata" status || start_postgresql
    eventually serves
    end_load
    stop_postgresql fast
    rm "$pgdata/pg_wal"
    cp -a "$small/pg_wal" "$pgdata/pg_wal"
    rm -r "$pgdata/pg_wal.plain"
    start_postgresql
}

@test "PostgreSQL read-only: 503, and service as soon as it takes writes again" {
    outlast_deadline
    set_postgresql default_transaction_read_only on
    eventually refuses
    failed_with 25
    sleep "$(lasts 0.5 30)"
    set_postgresql default_transaction_read_only off
    eventually serves
    end_load
}

@test "the table locked by a DBA for longer than the deadline: 503 in time, and service afterwards" {
    outlast_deadline
    lock_table 1000
    eventually refuses
    sleep "$(lasts 0 20)"
    end_sessions
    eventually serves
    end_load
    (($(told busy) > 0))
}

@test "the table locked for less than the deadline: no request fails" {
    stay_flawless
    lock_table 2
    wait "$pid"
    end_load
}

@test "one row locked by a DBA: only its own delivery waits" {
    workers_with
    serves
    as_dba "select 1 from inventory.receipts where unit_identifier = :'unit' for update" unit="$unit"
    in_background python3 "$faults/sockets.py" "$state/run/worker-1.sock" beside_a_locked_row "$unit"
    eventually grep -q stored "$BATS_TEST_TMPDIR/background.log"
    end_sessions
    wait "$pid"
}

# to_one_that_waits FUNCTION: SQL that calls it for the worker's sessions that wait for the lock; since they do so for a
# moment only, it looks again until there is one.
to_one_that_waits() {
    echo "do \$\$ begin
        for i in 1 .. 20000 loop
            perform pg_stat_clear_snapshot();
            if (select count(*) filter (where $1(pid)) $of_workers and state = 'active') > 0 then return; end if;
            perform pg_sleep(0.01);
        end loop;
        raise exception 'nobody waited'; end \$\$"
}

@test "statements cancelled: no request fails" {
    stay_flawless
    for _ in 1 2 3; do
        lock_table 0.5 "$(to_one_that_waits pg_cancel_backend)"
        wait "$pid"
    done
    end_load
    failed_with 57
}

@test "sessions terminated: no request fails" {
    stay_flawless
    for _ in 1 2 3; do
        lock_table 0.5 "$(to_one_that_waits pg_terminate_backend)"
        wait "$pid"
    done
    end_load
    failed_with 57
}

@test "statement_timeout: no request fails" {
    local n
    sql "alter role receiptd_writer set statement_timeout = '100ms'"
    # Other workers, too: those that have just met a lock wait for the next one for less than that.
    for n in 1 2; do
        replace_worker "$n" TERM
    done
    stay_flawless
    lock_table 1000
    eventually failed_with 57
    end_sessions
    load_goes_on 20
    end_load
}

# slow_receipts: those of the program slow take PostgreSQL as long as it is allowed, and all others a while, so that there
# are others in a batch.
slow_receipts() {
    make_test_schema
    sql "create function test.wait() returns trigger language plpgsql as \$\$
            begin perform pg_sleep(tg_argv[0]::double precision); return new; end \$\$;
        create trigger test before insert on inventory.receipts for each row when (new.program_identifier = 'slow')
            execute function test.wait(1000);
        create trigger test_all before insert on inventory.receipts for each statement execute function test.wait(0.05)"
}

sleeps() {
    [[ $(sql "select count(*) $of_workers and wait_event = 'PgSleep'") == "$1" ]]
}

@test "a receipt that takes PostgreSQL too long: it is tried apart from the others, which are stored" {
    local n slow_one
    measure_slowness
    sql "alter role receiptd_writer set statement_timeout = '$((200 * slow))ms'"
    for n in 1 2; do
        replace_worker "$n" TERM
    done
    workers_with RECEIPTD_PG_CONNECTIONS=1
    slow_receipts
    begin_load --connections 64 --every-ms 0 --flawless
    load_goes_on 100
    in_background post "$(receipt "$BATS_TEST_NUMBER" '.program_identifier = "slow"')"
    slow_one=$pid
    eventually logged 57014
    load_goes_on 100
    eventually ended "$slow_one"
    eventually logged 'status=503 .*program_identifier=slow'
    end_load
}

@test "a statement that runs on past the deadline is cancelled" {
    local n
    sql 'alter role receiptd_writer set statement_timeout = 0'
    # By which the server would notice too that nobody waits for it.
    sql 'alter role receiptd_writer set client_connection_check_interval = 0'
    measure_slowness
    workers_with "RECEIPTD_DEADLINE_MS=$(scaled_ms 1000)"
    for n in 1 2; do
        replace_worker "$n" TERM
    done
    slow_receipts
    in_background post "$(receipt "$BATS_TEST_NUMBER" '.program_identifier = "slow"')"
    eventually sleeps 1
    eventually logged 'status=503'
    eventually sleeps 0
    serves
}

@test "idle_in_transaction and idle_session timeouts: no request fails" {
    sql "alter role receiptd_writer set idle_in_transaction_session_timeout = '1ms'"
    sql "alter role receiptd_writer set idle_session_timeout = '50ms'"
    sql "select pg_terminate_backend(pid) $of_workers" >/dev/null
    stay_flawless
    load_goes_on 200
    end_load
    for _ in 1 2 3 4 5 6; do
        sleep 0.2
        serves
        post '{'
        expect 400
    done
}

@test "a commit that fails after its statement was fine: no success is told" {
    make_test_schema
    sql "create function test.fail() returns trigger language plpgsql as \$\$
            begin raise exception 'provoked'; end \$\$;
        create constraint trigger test after insert or update on inventory.receipts deferrable initially deferred
            for each row execute function test.fail();
        create constraint trigger test after insert or update on inventory.rejected_receipts deferrable
            initially deferred for each row execute function test.fail()"
    measure_slowness
    workers_with "RECEIPTD_DEADLINE_MS=$(scaled_ms 1000)"
    refuses
    expect 503
    [[ $(count "$unit") == 0 ]]
    post '{'
    expect 503
    sql "set client_min_messages = warning; drop schema test cascade"
    eventually serves
}

@test "a serialization failure: the batch is tried again at once, and no request fails" {
    make_test_schema
    sql "create sequence test.n;
        create function test.fail() returns trigger language plpgsql security definer as \$\$
            begin
                if nextval('test.n') % 4 <> 0 then
                    raise exception 'provoked' using errcode = tg_argv[0];
                end if;
                return null;
            end \$\$;
        create trigger test before insert on inventory.receipts for each statement execute function test.fail('40001')"
    stay_flawless
    eventually met_conflicts 20
    end_load
    failed_with 40
}

# met_conflicts COUNT: whether so many batches have begun, of which three of four meet one.
met_conflicts() {
    (($(sql "select last_value from test.n") > $1))
}

@test "two workers with the same keys never deadlock each other" {
    local before
    share_requests
    before=$(sql "select deadlocks from pg_stat_database where datname = current_database()")
    stay_flawless --connections 32 --every-ms 0 --keys 40 --new 1 --again 1 --revise 9 --malformed 0 --invalid 0
    load_goes_on 1500
    end_load
    spare_worker
    [[ $(sql "select deadlocks from pg_stat_database where datname = current_database()") == "$before" ]]
}

@test "deadlocks: the batch is tried again, and no request fails" {
    set_postgresql deadlock_timeout 10ms
    stay_flawless --connections 16 --every-ms 0 --keys 8 --new 1 --again 1 --revise 9 --malformed 0 --invalid 0
    # Locks the same rows in the opposite order, and is never the one that gives up; for longer than is waited below.
    in_background sql "set deadlock_timeout = '1min';
        do \$\$
        declare unit text;
        begin
            for i in 1 .. 100000 loop
                for unit in select unit_identifier from inventory.receipts order by received_at desc limit 8 loop
                    perform from inventory.receipts where unit_identifier = unit for update;
                    perform pg_sleep(0.001);
                end loop;
                commit;
                perform pg_sleep(0.03);
            end loop;
        end \$\$"
    eventually failed_with 40
    load_goes_on 200
    end_sessions
    end_load
}
