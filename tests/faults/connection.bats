# What happens on the way between the workers and PostgreSQL.

setup() {
    load faults
    use_faulty_instance shared
    start_proxy
    workers_with "PGHOST=$proxy_folder"
}

teardown() {
    heal
}

@test "the connection cut after the commit and before its answer: the delivery is told 201, once" {
    local n
    for n in 1 2; do
        new_unit
        spoil_next cut
        post "$(receipt "$unit")"
        expect 201 created
        # A worker that had an unchanged one before answers the next by reading, without a commit.
        if ((n == 1)); then
            spoil_next cut
            post "$(receipt "$unit")"
            expect 200 unchanged
        fi
        spoil_next cut
        post "$(receipt "$unit" '.sku = "x"')"
        expect 200 revised
        [[ $(sql "select revision from inventory.receipts where unit_identifier = :'unit'" unit="$unit") == 1 ]]
        spoil_next cut
        post "$(receipt "$unit" '.sku = 1.5')"
        expect 422
        rejected_once
    done
    [[ $(spoilt cut) == 7 ]]
}

@test "the connection cut after commits under load: no request fails" {
    begin_load --flawless
    local n
    for n in {1..8}; do
        spoil_next cut
        eventually spoilt_times cut "$n"
        # A batch that is cut again and again waits longer and longer.
        sleep 0.2
    done
    end_load
}

@test "the worker killed with -9 after the commit and before its answer: the other worker tells 201, once" {
    local n
    for n in 1 2 3; do
        new_unit
        spoil_next hold
        in_background post_expecting 201 created
        eventually spoilt_times hold "$n"
        [[ $(count "$unit") == 1 ]]
        kill -9 "$(sed -n 's/^hold //p' "$proxy_log" | tail -n 1)"
        wait "$pid"
    done
    new_unit
    spoil_next hold
    in_background post_expecting 422 '' '.sku = 1.5'
    eventually spoilt_times hold 4
    kill -9 "$(sed -n 's/^hold //p' "$proxy_log" | tail -n 1)"
    wait "$pid"
    rejected_once
}

rejected_once() {
    [[ $(sql "select count(*) from inventory.rejected_receipts where unit_identifier = :'unit'" unit="$unit") == 1 ]]
}

# post_expecting CODE RESULT [JQ FILTER]
post_expecting() {
    post "$(receipt "$unit" "${3-.}")"
    expect "$1" "$2"
}

@test "and meanwhile revised through the other: who created the row is told 201 still, and changes nothing" {
    local holder other=1
    new_unit
    spoil_next hold
    in_background post_expecting 201 created
    eventually spoilt_times hold 1
    holder=$(sed -n 's/^hold //p' "$proxy_log")
    [[ $holder != "$(worker_pid 1)" ]] || other=2
    [[ $(python3 "$faults/sockets.py" "$state/run/worker-$other.sock" post "$(receipt "$unit" '.sku = "x"')") == 200 ]]
    kill -9 "$holder"
    wait "$pid"
    [[ $(sql "select revision || sku from inventory.receipts where unit_identifier = :'unit'" unit="$unit") == 1x ]]
}

@test "an answer that does not come, or stops half-way: 503 in time, and the next ones are served" {
    local how refused
    measure_slowness
    workers_with "PGHOST=$proxy_folder" "RECEIPTD_DEADLINE_MS=$(scaled_ms 1000)"
    for how in hold half; do
        spoil_next "$how"
        refuses
        refused=$unit
        [[ $(spoilt "$how") == 1 ]]
        serves
        # It was stored, and that is what its sender is told the next time.
        post "$(receipt "$refused")"
        expect 200 unchanged
    done
}

@test "all connections cut again and again: no request fails" {
    begin_load --flawless
    local n
    for n in {1..8}; do
        kill -USR2 "$proxy"
        sleep 0.1
    done
    end_load
}

@test "a service file of libpq is honoured whole: hosts, role, settings of the connection" {
    set_worker_env
    cat >"$BATS_TEST_TMPDIR/services" <<END
[receipts]
host=$BATS_TEST_TMPDIR,$PGHOST
port=$PGPORT
dbname=inventory
user=receiptd_writer
application_name=of the service file
connect_timeout=7
END
    chmod 644 "$BATS_TEST_TMPDIR/services"
    # The file wins over these.
    start_worker "$BATS_TEST_TMPDIR/log" PGSERVICEFILE="$BATS_TEST_TMPDIR/services" PGSERVICE=receipts PGHOST=/nonexistent \
        PGUSER=nobody -- --listen "$BATS_TEST_TMPDIR/socket"
    new_unit
    [[ $(python3 "$faults/sockets.py" "$BATS_TEST_TMPDIR/socket" post "$(receipt "$unit")") == 201 ]]
    (($(sql "select count(*) $of_workers and application_name = 'of the service file'") > 0))
    end_worker
}
