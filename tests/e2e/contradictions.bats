# Deliveries that contradict each other: what each retry changes, and older versions that arrive late.

setup_file() {
    load common
    start_instance contradictions RECEIPTD_IGNORED_FIELDS=timestamp,attempt
}

setup() {
    load common
    use_instance contradictions
    unit=contradictions-$BATS_TEST_NUMBER
}

row() {
    sql "select $1 from receipts where unit_identifier = :'unit'" unit="$unit"
}

# delivers OUTCOME STATUS FILTER: the vendor's example, changed by the filter.
delivers() {
    post "$(receipt "$unit" "$3")"
    expect "$2" "$1"
}

# counted METRIC: the sum of the lines that begin so, of both workers.
counted() {
    local worker
    for worker in 1 2; do
        curl -q -sS --cacert "$RECEIPTD_CACERT" --noproxy '*' "${RECEIPTD_URL%/*}/receiptd/$worker/metrics"
    done | awk -v name="$1" 'index($0, name) == 1 { sum += $NF } END { print sum + 0 }'
}

returned() {
    counted 'receiptd_returned_versions_total '
}

@test "fields that are no content make no revision, and nothing is written" {
    local before
    delivers created 201 '.timestamp = "10:00" | .attempt = 1 | .future = {a: 1}'
    before=$(row 'xmin')
    delivers unchanged 200 '.timestamp = "10:01" | .attempt = 2 | .future = {a: 1}'
    delivers unchanged 200 '.future = {a: 1}'
    [[ $(row "concat_ws(' ', revision, extra ->> 'timestamp', xmin)") == "0 10:00 $before" ]]
    delivers revised 200 '.timestamp = "10:02" | .future = {a: 2}'
    [[ $(row "concat_ws(' ', revision, extra ->> 'timestamp', extra -> 'attempt')") == '1 10:02' ]]
    # Nested ones count.
    delivers revised 200 '.timestamp = "10:02" | .future = {a: 2, timestamp: 1}'
    delivers revised 200 '.timestamp = "10:03" | .sku = "other" | .future = {a: 2, timestamp: 1}'
}

@test "a receipt that has nothing else in extra is unchanged as well" {
    delivers created 201 .
    delivers unchanged 200 '.timestamp = "10:01"'
    [[ $(row 'extra is null') == t ]]
    delivers revised 200 '.timestamp = "10:01" | .sku = "other"'
    delivers unchanged 200 '.sku = "other"'
}

@test "many at once, with a timestamp each, are one version" {
    local n bodies=()
    delivers created 201 .
    for n in {1..40}; do
        receipt "$unit" ".attempt = $n" >"$BATS_TEST_TMPDIR/$n"
        bodies+=(--next -sS --cacert "$RECEIPTD_CACERT" --noproxy '*' -H "X-Api-Key: $CLIENT_API_KEY" \
            -H 'Content-Type: application/json' --data-binary "@$BATS_TEST_TMPDIR/$n" -o /dev/null -w '%{http_code}\n' "$RECEIPTD_URL")
    done
    [[ $(curl --parallel --parallel-max 20 "${bodies[@]:1}" | sort | uniq -c) =~ ^\ *40\ 200$ ]]
    [[ $(row revision) == 0 ]]
}

@test "an older version that is delivered late replaces the newer one, and that is visible" {
    delivers created 201 '.merchant = "old"'
    delivers revised 200 '.merchant = "new"'
    [[ $(returned) == 0 ]]
    delivers revised 200 '.merchant = "old" | .attempt = 2'
    [[ $(row "merchant || revision") == old2 && $(returned) == 1 ]]
    delivers revised 200 '.merchant = "old" | .sku = "third"'
    # Its own extra has another attempt: only the setting of the service says that this is no content.
    [[ $(sql "select count(*) from inventory.returned_versions where unit_identifier = :'unit'" unit="$unit") == 0 ]]
    delivers revised 200 '.merchant = "new"'
    [[ $(sql "select revision || ' ' || same_as_revision from inventory.returned_versions where unit_identifier = :'unit'" \
        unit="$unit") == '4 1' ]]
    [[ $(returned) == 2 ]]
    delivers revised 200 '.merchant = "old" | .sku = "third" | .attempt = 3'
    [[ $(returned) == 3 ]]
    # The sixth is not compared.
    delivers revised 200 '.merchant = "new"'
    [[ $(returned) == 3 ]]
}

@test "with keep_newer, the newer version stays" {
    start_instance contradictions RECEIPTD_IGNORED_FIELDS=timestamp,attempt RECEIPTD_OLD_VERSIONS=keep_newer
    delivers created 201 '.merchant = "old"'
    delivers revised 200 '.merchant = "new"'
    delivers superseded 200 '.merchant = "old"'
    delivers superseded 200 '.merchant = "old" | .attempt = 2'
    delivers unchanged 200 '.merchant = "new" | .attempt = 2'
    [[ $(row "merchant || revision") == new1 ]]
    delivers revised 200 '.merchant = "third"'
    delivers superseded 200 '.merchant = "new"'
    delivers superseded 200 '.merchant = "old" | .attempt = 3'
    [[ $(counted 'receiptd_deliveries_total{answer="superseded"') == 4 && $(returned) == 0 ]]
    eventually grep -qE "request_id=$(header X-Request-Id) status=200 result=superseded " "$state"/log/worker-?.log
    delivers revised 200 '.merchant = "old" | .sku = "other"'
    [[ $(row "concat(merchant, sku, revision)") == oldother3 ]]
    start_instance contradictions RECEIPTD_IGNORED_FIELDS=timestamp,attempt
}
