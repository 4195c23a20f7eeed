# inventory.purge and inventory.erase_person beside the service.

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
    sql 'alter table receipts enable trigger receipts_keep_erased'
    for n in 1 2 3; do
        sql "select inventory.erase_person('nobody-$n@example.com')" >/dev/null
    done
    load_goes_on 20
    end_load
    grep -q ' retries=0 ' "$record.out"
    [[ $(sql "select count(*) from receipts where unit_identifier like '$unit%'") == 1 ]]
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
    sql 'select inventory.refresh_totals()' >/dev/null
    sql "update feed_events set written_at = now() - interval '31 days'"
    purge_sql '1 year' '' '30 days'
    [[ $(sql 'select count(*) from feed_events') == 0 ]]
    run sql "select inventory.changes_since('$at')"
    [[ $status != 0 && $output == *'may be missing'* ]]
}

# Once no transaction is open that began before.
is_told_deleted() {
    [[ $(sql "select change from inventory.changes_since('$at', 100000) where unit_identifier = '$unit'") == deleted ]]
}

# purge_sql RECEIPTS REJECTIONS FEED: ages, as the unit passes them on.
purge_sql() {
    sql "$(<"$BATS_TEST_DIRNAME/../../deploy/purge.sql")" receipts="$1" rejections="$2" feed="$3"
}

teardown() {
    sql 'delete from inventory.erased_people'
    sql 'alter table inventory.receipts disable trigger receipts_keep_erased'
}
