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

teardown() {
    sql 'delete from inventory.erased_people'
    sql 'alter table inventory.receipts disable trigger receipts_keep_erased'
}
