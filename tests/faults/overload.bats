# More than PostgreSQL can store.

setup() {
    load faults
    use_faulty_instance shared
    workers_with RECEIPTD_QUEUE_MAX=8 RECEIPTD_BATCH_MAX=4
}

teardown() {
    heal
    sql "set client_min_messages = warning; drop schema if exists test cascade"
}

# resident N: kilobytes of worker N.
resident() {
    sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(worker_pid "$1")/status"
}

@test "overload: the excess is told 503 at once, memory stays flat, and it recovers by itself" {
    local n before=()
    sql "create schema test; grant usage on schema test to receiptd_writer;
        create function test.wait() returns trigger language plpgsql as \$\$
            begin perform pg_sleep(0.05); return null; end \$\$;
        create trigger test before insert on inventory.receipts for each statement execute function test.wait()"
    begin_load --connections 64 --slowest-busy-ms 2000
    sleep 1
    for n in 1 2; do
        before[n]=$(resident "$n")
    done
    sleep "$(lasts 2.5 60)"
    for n in 1 2; do
        echo "worker $n: ${before[n]} kB, then $(resident "$n") kB"
        (($(resident "$n") <= before[n] + before[n] / 10))
    done
    sql "set client_min_messages = warning; drop schema test cascade"
    eventually 10 serves
    end_load
    (($(told busy) > 100))
    logged 'the queue is full'
}
