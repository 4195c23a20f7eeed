# inventory.purge and inventory.erase_people beside the service.

setup() {
    load common
    use_instance shared
    unit=purge-$BATS_TEST_NUMBER
}

@test "beside the service under load: no request fails, what is old is gone, and what is told is stored" {
    local n
    post "$(receipt "$unit")"
    expect 201 created
    sql "insert into receipts select (jsonb_populate_record(r, jsonb_build_object('unit_identifier', '$unit-' || n,
            'received_at', now() - interval '400 days', 'request_id', gen_random_uuid()))).*
        from receipts as r, generate_series(1, 5000) as n where unit_identifier = '$unit'"
    load_in_background --connections 8 --new 3 --again 1 --revise 2 --invalid 1
    load_goes_on 20
    sql "call inventory.purge(interval '365 days', interval '90 days', 100)"
    sql "insert into receipts select (jsonb_populate_record(r, jsonb_build_object('unit_identifier', '$unit-' || n,
            'ot_user_login', 'gone-' || n % 3 || '@example.com', 'request_id', gen_random_uuid()))).*
        from receipts as r, generate_series(1, 300) as n where unit_identifier = '$unit'"
    for n in 0 1 2; do
        sql "insert into inventory.people_to_erase values ('gone-$n@example.com'); call inventory.erase_people()" >/dev/null
    done
    load_goes_on 20
    end_load
    grep -q ' retries=0 ' "$record.out"
    [[ $(sql "select count(*) filter (where ot_user_login = 'erased'), count(*) from receipts where unit_identifier like '$unit%'") == '300|301' ]]
}

@test "a session that has stored before, and one that has not, store nobody who is erased" {
    post "$(receipt "$unit" '.ot_user_login = "known@example.com"')"
    expect 201 created
    sql "insert into inventory.people_to_erase values ('known@example.com');
        call inventory.erase_people()" >/dev/null
    post "$(receipt "$unit" '.ot_user_login = "KNOWN@example.com"')"
    expect 200 unchanged
    post "$(receipt "$unit-2" '.ot_user_login = "Known <known@example.com>" | .note = "known@example.com"')"
    expect 201 created
    post "$(receipt "$unit-3" '.ot_user_login = "known@example.com" | del(.sku)')"
    expect 422
    [[ $(sql "select string_agg(concat_ws(' ', ot_user_login, extra), ', ' order by unit_identifier) from receipts
        where unit_identifier like '$unit%'") == 'erased, erased {"note": "erased"}' ]]
    [[ $(sql "select count(*) from rejected_receipts where encode(body, 'escape') ~* 'known@'") == 0 ]]
}

@test "purge.sql deletes what is old, trims the feed, and keeps what an empty age says" {
    post "$(receipt "$unit")"
    expect 201 created
    at=$(sql 'select inventory.changes_begin()')
    sql "update receipts set received_at = now() - interval '400 days' where unit_identifier = '$unit'"
    purge_sql '' '' ''
    [[ $(sql "select count(*) from receipts where unit_identifier = '$unit'") == 1 ]]
    purge_sql '1 year' '' ''
    [[ $(sql "select count(*) from receipts where unit_identifier = '$unit'") == 0 ]]
    eventually is_told_deleted
    sql 'call inventory.refresh_totals()'
    sql "update feed_events set written_at = now() - interval '31 days'"
    purge_sql '1 year' '' '30 days'
    [[ $(sql 'select count(*) from feed_events') == 0 ]]
    run sql "select inventory.changes_since('$at')"
    [[ $status != 0 && $output == *'may be missing'* ]]
}

# Once no transaction is open that began before.
is_told_deleted() {
    [[ $(sql "select distinct change from inventory.changes_since('$at', 100000) where unit_identifier = '$unit'") == deleted ]]
}

# purge_sql RECEIPTS REJECTIONS FEED: ages, as the unit passes them on.
purge_sql() {
    sql "$(<"$BATS_TEST_DIRNAME/../../deploy/purge.sql")" receipts="$1" rejections="$2" feed="$3"
}

teardown() {
    sql 'delete from inventory.erased_people'
    sql 'call inventory.erase_people()' >/dev/null
}
