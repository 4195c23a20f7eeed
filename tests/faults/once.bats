# What was stored once under a request id is never stored again. A delivery is tried again inside under its own request
# id: by nginx, when a worker has gone, and by the worker, when the connection to PostgreSQL has.

setup() {
    load faults
    use_faulty_instance shared
    start_proxy
    workers_with "PGHOST=$proxy_folder"
    new_unit
    # The row that is revised. By both workers, so that both are connected.
    [[ $(deliver_to 1 first) == 201 && $(deliver_to 2 first) == 200 ]]
}

teardown() {
    end_sessions
    heal
}

# deliver_to N SKU [REQUEST_ID]: the receipt with that content, to that worker without nginx; prints the status.
deliver_to() {
    python3 "$faults/crowd.py" "$state/run/worker-$1.sock" each "${@:3}" <<<"$(receipt "$unit" ".sku = \"$2\"")"
}

# expect_revised SKU: through nginx.
expect_revised() {
    post "$(receipt "$unit" ".sku = \"$1\"")"
    expect 200 revised
}

# versions_are SKU...: from the first to the present one; each was brought by a delivery of its own.
versions_are() {
    local versions
    versions=$(sql "select string_agg(sku, ' ' order by revision) || ' of ' || count(distinct request_id)
        from (select sku, revision, request_id from inventory.receipt_revisions where unit_identifier = :'unit'
            union all select sku, revision, coalesce(revised_request_id, request_id) from inventory.receipts
                where unit_identifier = :'unit') as versions" unit="$unit")
    [[ $versions == "$* of $#" ]] || { echo "the versions are $versions" && return 1; }
}

# begin_lost SKU: a revision through nginx, whose acknowledgement does not reach its worker. Sets pid, of who waits to be
# told "revised"; holder, that worker; and other, the number of the one beside it.
begin_lost() {
    spoil_next hold
    in_background expect_revised "$1"
    eventually spoilt_times hold 1
    holder=$(sed -n 's/^hold //p' "$proxy_log")
    other=1
    [[ $holder != "$(worker_pid 1)" ]] || other=2
}

@test "a revision whose worker was killed before it knew: tried again by the other, it does not undo a newer one" {
    begin_lost a
    [[ $(deliver_to "$other" b) == 200 ]]
    kill -9 "$holder"
    wait "$pid"
    versions_are first a b
}

@test "the same with three revisions in between, the last of them with the same content again" {
    local sku
    begin_lost a
    for sku in b c a; do
        [[ $(deliver_to "$other" "$sku") == 200 ]]
    done
    kill -9 "$holder"
    wait "$pid"
    versions_are first a b c a
}

@test "a revision that a worker tries again itself, after it had to connect again: it does not undo a newer one" {
    : >"$proxy_folder/closed"
    spoil_next cut
    in_background expect_revised a
    eventually spoilt_times cut 1
    # The other one has the connection that it had.
    [[ $(deliver_to 2 b) == 200 ]]
    rm "$proxy_folder/closed"
    wait "$pid"
    versions_are first a b
}

@test "a revision that is tried again while its first attempt waits for a row: stored once, and each is told so" {
    local id=01234567-89ab-cdef-0123-456789abcdef waiting=()
    as_dba "select from inventory.receipts where unit_identifier = :'unit' for update" unit="$unit"
    # Each behind the one before it: a, b and a again, which has its request id.
    in_background deliver_to 1 a "$id"
    waiting+=("$pid")
    eventually blocked_times 1
    in_background deliver_to 2 b
    waiting+=("$pid")
    eventually blocked_times 2
    in_background deliver_to 2 a "$id"
    waiting+=("$pid")
    sleep 0.5
    end_sessions
    wait "${waiting[@]}"
    [[ $(tail -n 3 "$BATS_TEST_TMPDIR/background.log") == $'200\n200\n200' ]]
    versions_are first a b || versions_are first b a
    [[ $(times_logged "request_id=$id .* result=revised") == 2 ]]
}

# blocked_times COUNT: whether that many wait for a lock, or have just given up for a moment.
blocked_times() {
    (($(sql "select count(*) $of_workers and wait_event_type = 'Lock'") >= $1 || $(errors 55) >= $1))
}

@test "revisions through both workers, with connections cut after commits: no request fails, none is stored twice" {
    local n
    share_requests
    begin_load --flawless --connections 24 --keys 12 --new 1 --again 1 --revise 9 --invalid 0 --malformed 0
    for n in {1..12}; do
        spoil_next cut
        eventually spoilt_times cut "$n"
    done
    end_load
    spare_worker
}
