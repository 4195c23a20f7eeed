# What a row holds after a delivery.

setup() {
    load common
    use_instance shared
    unit=stored-$BATS_TEST_NUMBER
}

# row [EXPRESSION]: of the receipt of this test.
row() {
    sql "select ${1:-to_jsonb(r)} from receipts as r where unit_identifier = :'unit'" unit="$unit"
}

# revisions EXPRESSION: of its history, one line each, oldest first.
revisions() {
    sql "select $1 from receipt_revisions where unit_identifier = :'unit' order by revision" unit="$unit"
}

@test "the vendor's example, column by column" {
    post "$(jq -c --arg asn "$unit" '.asn_number = $asn' "$root/deploy/sample.json")"
    expect 201 created
    sql "select to_jsonb(r) - '{revised_request_id,revised_at,extra,received_at,request_id,created_in}'::text[] from receipts r
        where asn_number = :'asn'" asn="$unit" | jq -S . >"$BATS_TEST_TMPDIR/row"
    jq -S . >"$BATS_TEST_TMPDIR/expected" <<END
{
  "program_identifier": "returns", "asn_number": "$unit", "shipment_identifier": "SI1ZAAAAAAZZ97764680",
  "from_identifier": "22", "from_type": "Warehouse",
  "to_identifier": 1352, "to_type": "Store", "to_original_identifier": "42", "carton_identifier": "CTAA1234567",
  "reference_type": "RMA", "reference_identifier": "12345", "reference_alternate_identifier": "OR12345678",
  "line_identifier": "123456789", "unit_identifier": "123456891011", "reference_line_identifier": "1",
  "sku": "S123456", "upc": "12345678905", "serial_number": "12345678910001", "initial_condition": "N",
  "initial_channel": "blinq", "return_reason": "not like", "ot_user_login": "jdoe@email.com",
  "merchant": "Merchant Name", "concept": "Brand", "asin": "120029872", "tracking_number": "123012300123033",
  "location_identifier": "Pallet 1", "client_unit_identifier": "123456891011", "reject_reason": "Empty Box",
  "revision": 0, "api_key_name": "local", "sender_headers": null, "changed_by": null, "changed_at": null
}
END
    diff "$BATS_TEST_TMPDIR/expected" "$BATS_TEST_TMPDIR/row"
    [[ $(sql "select extra is null and revised_request_id is null and revised_at is null
        and received_at between now() - interval '1 minute' and now() from receipts where asn_number = :'asn'" \
        asn="$unit") == t ]]
}

@test "with the required fields only, all others are null" {
    post "$(receipt "$unit" '{program_identifier, asn_number, from, to, unit_identifier, sku, initial_condition,
        initial_channel, ot_user_login}')"
    expect 201 created
    [[ $(row "num_nulls(shipment_identifier, carton_identifier, reference_type, reference_identifier,
        reference_alternate_identifier, line_identifier, reference_line_identifier, upc, serial_number, return_reason,
        merchant, concept, asin, tracking_number, location_identifier, client_unit_identifier, reject_reason,
        extra)") == 18 ]]
}

@test "absent, null and blank are one content" {
    post "$(receipt "$unit" 'del(.upc, .reference)')"
    expect 201 created
    post "$(receipt "$unit" '.upc = null | .reference = null')"
    expect 200 unchanged
    post "$(receipt "$unit" '.upc = " \t" | .reference = {"type": "", "identifier": null}')"
    expect 200 unchanged
    post "$(receipt "$unit" '.upc = "0" | .reference = null')"
    expect 200 revised
    post "$(receipt "$unit" '.reference = {} | del(.upc)')"
    expect 200 revised
}

@test "unchanged leaves the row and its history alone" {
    post "$(receipt "$unit")"
    expect 201 created
    local before
    before=$(row "(ctid, xmin, r)")
    post "$(receipt "$unit")"
    expect 200 unchanged
    post "$(receipt "$unit" | jq -S .)"
    expect 200 unchanged
    [[ $(row "(ctid, xmin, r)") == "$before" ]]
    [[ -z $(revisions '*') ]]
}

@test "revised takes the newest and keeps every version it replaces" {
    local ids=() filter
    for filter in . '.sku = "second"' 'del(.upc)' '.future = {"a": [1, 2.25]}' .; do
        post "$(receipt "$unit" "$filter")"
        ids+=("$(header X-Request-Id)")
    done
    expect 200 revised
    [[ $(row "concat_ws(',', revision, sku, upc, extra, request_id,
        revised_request_id, revised_at > received_at)") == \
        "4,S123456,12345678905,${ids[0]},${ids[4]},t" ]]
    [[ $(revisions "concat_ws(',', revision, sku, upc, extra ->> 'future', request_id)") == \
        "0,S123456,12345678905,${ids[0]}
1,second,12345678905,${ids[1]}
2,S123456,${ids[2]}
3,S123456,12345678905,{\"a\": [1, 2.25]},${ids[3]}" ]]
    # Each version arrived when the one before it was replaced.
    [[ $(sql "select bool_and(replaced_at = coalesce(following, revised_at)) from (
        select v.replaced_at, lead(v.received_at) over (order by v.revision) as following, r.revised_at
        from receipt_revisions v join receipts r using (program_identifier, asn_number, unit_identifier)
        where unit_identifier = :'unit') as t" unit="$unit") == t ]]
}

@test "a change of any single field is a revision" {
    python3 "$e2e/stored.py" change_each_field "$unit" 3>&-
    [[ $(row revision) == 54 ]]
    [[ $(revisions revision | tr '\n' ' ') == "$(seq -s ' ' 0 53) " ]]
}

@test "a body of as many numbers as are accepted takes a small multiple of it, in jsonb and as text" {
    python3 "$e2e/stored.py" swell "$unit" 3>&-
}

@test "the longest key fits the indexes at any content, also when it is revised; one byte more is too_long" {
    python3 "$e2e/stored.py" longest_key "$BATS_TEST_TMPDIR/key" 3>&-
    unit=$(<"$BATS_TEST_TMPDIR/key")
    [[ $(row revision) == 2 ]]
    [[ $(revisions revision | tr '\n' ' ') == "0 1 " ]]
    # And the limit is no lower than it has to be.
    run sql "insert into receipt_revisions select (jsonb_populate_record(v, jsonb_build_object('unit_identifier',
        unit_identifier || 'x'))).* from receipt_revisions v where unit_identifier = :'unit'" unit="$unit"
    [[ $output == *"index row size 2712 exceeds"* ]]
}

@test "the key's name is the one of the version that stands" {
    local second
    second=$("$WORKER" key second)
    sed -n 's/^ *\(second [0-9a-f]*\)$/\1/p' <<<"$second" >>"$state/keys"
    kill -HUP "$(worker_pid 1)" "$(worker_pid 2)"
    second=$(grep -o 'rk_[A-Za-z0-9_-]*' <<<"$second")
    post "$(receipt "$unit")"
    expect 201 created
    accepted() {
        request -H "X-Api-Key: $second" -H 'Content-Type: application/json' \
            --data-binary "$(receipt "$unit" '.sku = "by the second"')" "$RECEIPTD_URL" && [[ $code == 200 ]]
    }
    eventually accepted
    expect 200 revised
    [[ $(row api_key_name) == second ]]
    [[ $(revisions api_key_name) == local ]]
    post "$(receipt "$unit" '.sku = "by the second"')"
    expect 200 unchanged
    [[ $(row api_key_name) == second ]]
}

@test "a correction by hand is kept, and the next delivery revises it" {
    post "$(receipt "$unit")"
    sql "update receipts set sku = 'by hand' where unit_identifier = :'unit'" unit="$unit"
    post "$(receipt "$unit")"
    expect 200 revised
    [[ $(row "revision || sku") == 2S123456 ]]
    [[ $(revisions "revision || sku || coalesce(request_id::text, '')" | tail -n 1) == '1by hand' ]]
}

@test "a receipt that was deleted by hand is created anew" {
    post "$(receipt "$unit")"
    post "$(receipt "$unit" '.sku = "x"')"
    expect 200 revised
    sql "delete from receipts where unit_identifier = :'unit'" unit="$unit"
    post "$(receipt "$unit")"
    expect 201 created
    post "$(receipt "$unit" '.sku = "x"')"
    expect 200 revised
}

@test "a row that the table refuses is a 503, and others in its batch are stored" {
    sql "alter table receipts add constraint receipts_test_check check (sku <> 'refuse me')"
    load_in_background --connections 16 --flawless
    load_goes_on 20
    local n
    for n in 1 2 3 4 5; do
        post "$(receipt "$unit" '.sku = "refuse me"')"
        expect 503
    done
    sql "alter table receipts drop constraint receipts_test_check"
    load_goes_on 20
    end_load
    [[ $(count "$unit") == 0 ]]
    post "$(receipt "$unit" '.sku = "refuse me"')"
    expect 201 created
}
