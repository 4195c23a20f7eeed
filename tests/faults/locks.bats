# Locks that a DBA holds: what waits for them waits aside, and everything else is stored as ever.

setup() {
    load faults
    use_faulty_instance shared
    measure_slowness
    deadline_ms=$(scaled_ms 1500)
    limit_deadline
    workers_with "RECEIPTD_DEADLINE_MS=$deadline_ms"
}

# On a slow host too, it must be shorter than nginx waits for a worker (fastcgi_read_timeout).
limit_deadline() {
    ((deadline_ms < 12000)) || deadline_ms=12000
}

teardown() {
    # Before heal waits for what waits for these.
    end_sessions
    heal
    spare_worker
}

# One that is delivered again and again, 0.1 s apart.
begin_locked_row() {
    program=locked-$EPOCHREALTIME
    begin_row_load "$program" 1 100 "$deadline_ms"
    eventually has_rows "$program" 1
    lock_rows "$program"
}

begin_locked_rows() {
    program=locked-$EPOCHREALTIME
    begin_row_load "$program" 12 40 "$deadline_ms"
    eventually has_rows "$program" 12
    lock_rows "$program"
}

# Both, in loads of their own.
begin_all_locked_rows() {
    program=locked-$EPOCHREALTIME
    begin_row_load "$program-one" 1 100 "$deadline_ms"
    first="$load $record"
    begin_row_load "$program-twelve" 12 40 "$deadline_ms"
    eventually has_rows "$program-one" 1
    eventually has_rows "$program-twelve" 12
    lock_rows "$program-one" "$program-twelve"
}

end_all_waiting() {
    end_waiting
    read -r load record <<<"$first"
    end_load
}

# Keys that a DBA has inserted, and not committed.
begin_uncommitted_rows() {
    program=uncommitted-$EPOCHREALTIME
    serves
    as_dba "insert into inventory.receipts (program_identifier, asn_number, unit_identifier, from_identifier, from_type,
            to_identifier, to_type, to_original_identifier, sku, initial_condition, initial_channel, ot_user_login,
            request_id, api_key_name)
        select :'program', asn_number, n::text, from_identifier, from_type, to_identifier, to_type,
            to_original_identifier, sku, initial_condition, initial_channel, ot_user_login, gen_random_uuid(), 'dba'
        from inventory.receipts, generate_series(0, 11) as n where unit_identifier = :'unit'" \
        program="$program" unit="$unit"
    begin_row_load "$program" 12 40 "$deadline_ms"
    eventually_blocked
}

# They end: the locks go, and what has waited is stored.
end_waiting() {
    eventually told_busy
    end_sessions
    eventually serves
    end_load
    (($(told busy) > 0))
}

# told_busy: whether a delivery of the load with that program has met its deadline.
told_busy() {
    logged "status=503 .*program_identifier=$program"
}

@test "one row locked by a DBA and delivered again and again: others are stored as ever" {
    goes_on_beside begin_locked_row end_waiting
}

@test "twelve rows locked by a DBA and delivered: others are stored as ever" {
    goes_on_beside begin_locked_rows end_waiting
}

@test "all of these locked by a DBA, with both workers at work: others are stored as ever" {
    share_requests
    goes_on_beside begin_all_locked_rows end_all_waiting
}

@test "keys that a DBA has inserted and not committed: others are stored as ever" {
    share_requests
    goes_on_beside begin_uncommitted_rows end_waiting
}

@test "rows locked for less than the deadline: no request fails, and what has waited is stored soon after" {
    workers_with
    program=soon-$EPOCHREALTIME
    share_requests
    begin_row_load "$program" 12 40 10000 --flawless --slowest-ms $((4500 * slow))
    eventually has_rows "$program" 12
    lock_rows "$program"
    sleep 1.5
    end_sessions
    load_goes_on 20
    end_load
}

@test "the table locked, with both workers at work: 503 at the deadline, and service at once afterwards" {
    share_requests
    begin_load --slowest-busy-ms $((deadline_ms + 1500 * slow)) --soonest-busy-ms $((deadline_ms - 100))
    lock_table 1000
    eventually refuses
    end_sessions
    eventually serves
    end_load
    (($(told busy) > 0))
}

@test "receipt_revisions locked: new and unchanged ones are stored as ever, revisions wait" {
    local others
    # So long that no host is too slow for the others, of which none may miss it.
    deadline_ms=$((4 * deadline_ms))
    limit_deadline
    workers_with "RECEIPTD_DEADLINE_MS=$deadline_ms"
    load_in_background --connections 16 --every-ms 40 --burst 16 --new 3 --again 2 --p99-ms $((1000 * slow))
    others="$load $record"
    program=revisions-$EPOCHREALTIME
    begin_row_load "$program" 12 40 "$deadline_ms"
    eventually has_rows "$program" 12
    as_dba 'lock table inventory.receipt_revisions in access exclusive mode'
    eventually told_busy
    record=${others#* } load_goes_on 400
    end_waiting
    read -r load record <<<"$others"
    end_load
    (($(told created) > 200 && $(told unchanged) > 100 && $(told busy) == 0))
}

# Longer than the service takes to look at the schema again, which waits for these locks too.
@test "tables locked while the schema is checked: that is no problem of the schema, and others are stored" {
    local table
    for table in receipts receipt_revisions schema_objects; do
        as_dba "lock table inventory.$table in access exclusive mode"
        sleep 7
        # A rejected delivery needs none of them.
        post '{}'
        is_ready 1 true || [[ $ready != *'cannot be checked'* ]] || code="$code, and ready says $ready"
        end_sessions
        [[ $code == 422 ]] || { echo "$table locked: $code" && return 1; }
        eventually 10 serves
    done
}
