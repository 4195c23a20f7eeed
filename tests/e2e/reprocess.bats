# receiptd reprocess: what was refused becomes a receipt when the rules allow it.

setup_file() {
    load common
    start_instance rejected
    use_instance rejected
    # Else the worker, which does so every minute, marks what these tests want to see.
    sql 'revoke execute on function inventory.mark_superseded() from receiptd_writer'
}

setup() {
    load common
    use_instance rejected
    set_worker_env
    sql 'truncate inventory.rejected_receipts'
    unit=reprocess-$BATS_TEST_NUMBER
    # What the service does not take, and the command below does.
    widened='.initial_condition = "Q"'
    reprocess=("${worker_env[@]}" PGAPPNAME=reprocess RECEIPTD_EXTRA_CONDITIONS=Q
        RECEIPTD_EXTRA_REFERENCE_TYPES=ReturnsPortalOrder "$WORKER" reprocess)
}

# refuse BODY [STATUS]: a delivery that is refused; sets id, its request id.
refuse() {
    post "$1"
    expect "${2:-422}"
    id=$(header X-Request-Id)
}

# resolutions: of all refused deliveries, oldest first.
resolutions() {
    sql "select string_agg(coalesce(resolution, 'open'), ' ' order by received_at) from inventory.rejected_receipts"
}

# row EXPRESSION [UNIT]: of a receipt.
row() {
    sql "select $1 from receipts where unit_identifier = :'unit'" unit="${2:-$unit}"
}

# rejection REQUEST_ID [EXPRESSION]
rejection() {
    sql "select ${2:-rejection_id} from inventory.rejected_receipts where request_id = :'id'" id="$1"
}

everything() {
    sql "select (select md5(string_agg(r::text, ',' order by r::text)) from inventory.rejected_receipts as r),
        (select count(*) from receipts), (select count(*) from receipt_revisions)"
}

@test "a dry run says what would happen and changes nothing" {
    local before
    refuse "$(receipt "$unit" "$widened")"
    refuse "$(receipt "$unit" 'del(.sku)')"
    refuse '{' 400
    before=$(everything)
    run -0 --separate-stderr "${reprocess[@]}" --dry-run
    [[ -z $stderr ]]
    [[ ${lines[0]} =~ ^[0-9a-f-]{36}\ received\ 20[0-9T:.-]+Z:\ valid$ ]]
    diff - <(tail -n +2 <<<"$output") <<'END'
Refused deliveries examined: 3 (a dry run: nothing was changed)
  would become receipts: 1
  would be superseded by a later delivery of the same key: 0
  still rejected: 2 (1 malformed, 1 invalid)
    sku missing_field: 1
END
    [[ $(everything) == "$before" ]]
    [[ $(count "$unit") == 0 ]]
}

@test "without another rule nothing becomes a receipt" {
    refuse "$(receipt "$unit" "$widened")"
    run -0 "${worker_env[@]}" "$WORKER" reprocess
    diff - <(cat <<<"$output") <<'END'
Refused deliveries examined: 1
  became receipts: 0 (0 created, 0 revised, 0 unchanged)
  superseded by a later delivery of the same key: 0
  still rejected: 1 (0 malformed, 1 invalid)
    initial_condition invalid_value: 1
END
    [[ $(resolutions) == open && $(count "$unit") == 0 ]]
}

@test "what is valid by now becomes a receipt, as it was delivered" {
    refuse "$(receipt "$unit" "$widened"' | .reference.type = "ReturnsPortalOrder" | .future = {"a": "é📦"}')"
    run -0 --separate-stderr "${reprocess[@]}"
    [[ -z $stderr ]]
    [[ $output == *"became receipts: 1 (1 created, 0 revised, 0 unchanged)"* ]]
    [[ $(row "concat_ws(',', request_id, api_key_name, revision, initial_condition,
        reference_type, extra, sku)") == "$id,local,0,Q,ReturnsPortalOrder,{\"future\": {\"a\": \"é📦\"}},S123456" ]]
    [[ $(rejection "$id" "resolution || (resolved_at between now() - interval '1 minute' and now())") == createdtrue ]]
    # Again: nothing is left to do.
    run -0 "${reprocess[@]}"
    [[ ${lines[0]} == 'Refused deliveries examined: 0' ]]
    # What the service takes from then on is the same receipt.
    post "$(receipt "$unit")"
    expect 200 revised
    [[ $(row revision) == 1 ]]
}

@test "a body that was refused for its content type becomes a receipt" {
    request -H "X-Api-Key: $CLIENT_API_KEY" -H 'Content-Type: text/plain' --data-binary "$(receipt "$unit")" \
        "$RECEIPTD_URL"
    expect 400
    run -0 "${reprocess[@]}"
    [[ $(resolutions) == created && $(count "$unit") == 1 ]]
}

@test "created, revised, unchanged and superseded are told apart" {
    # Refused, and never seen otherwise.
    refuse "$(receipt "$unit-created" "$widened")"
    # A receipt, and then refused.
    post "$(receipt "$unit-revised")"
    expect 201 created
    refuse "$(receipt "$unit-revised" "$widened")"
    # Refused twice with one content, in other bytes.
    refuse "$(receipt "$unit-unchanged" "$widened")"
    refuse "$(receipt "$unit-unchanged" "$widened") "
    # Refused, and then a receipt, or a newer version of one.
    refuse "$(receipt "$unit-superseded" "$widened")"
    post "$(receipt "$unit-superseded")"
    expect 201 created
    post "$(receipt "$unit-superseded-2")"
    refuse "$(receipt "$unit-superseded-2" "$widened")"
    post "$(receipt "$unit-superseded-2" '.sku = "newer"')"
    expect 200 revised
    refuse '[]' 400

    run -0 "${reprocess[@]}" --dry-run
    [[ $output == *'would become receipts: 4'$'\n'*'superseded by a later delivery of the same key: 2'* ]]
    run -0 "${reprocess[@]}"
    [[ $(resolutions) == 'created revised created unchanged superseded superseded open' ]]
    [[ $(grep -c ' received .*: superseded$' <<<"$output") == 2 ]]
    diff - <(tail -n 4 <<<"$output") <<'END'
Refused deliveries examined: 7
  became receipts: 4 (2 created, 1 revised, 1 unchanged)
  superseded by a later delivery of the same key: 2
  still rejected: 1 (1 malformed, 0 invalid)
END
    [[ $(row "initial_condition || revision" "$unit-superseded") == N0 ]]
    [[ $(row "sku || revision" "$unit-superseded-2") == newer1 ]]
}

@test "a later delivery is not overwritten, and an earlier one is kept as a revision" {
    local first second
    refuse "$(receipt "$unit" "$widened"' | .sku = "first"')"
    first=$(rejection "$id")
    refuse "$(receipt "$unit" "$widened"' | .sku = "second"')"
    second=$(rejection "$id")
    run -0 "${reprocess[@]}" --id "$second"
    [[ $(row "sku || revision") == second0 ]]
    run -0 "${reprocess[@]}" --id "$first"
    [[ $output == *': superseded'* && $(row "sku || revision") == second0 ]]
    [[ $(resolutions) == 'superseded created' ]]

    # In the order of arrival, each revises the one before it, though all arrived before the receipts were made.
    refuse "$(receipt "$unit-2" "$widened"' | .sku = "first"')"
    refuse "$(receipt "$unit-2" "$widened"' | .sku = "second"')"
    refuse "$(receipt "$unit-2" "$widened"' | .sku = "third"')"
    run -0 "${reprocess[@]}"
    [[ $(resolutions) == 'superseded created created revised revised' ]]
    [[ $(row "sku || revision" "$unit-2") == third2 ]]
}

@test "deliveries of one key that were refused in one batch are all kept" {
    refuse "$(receipt "$unit" "$widened"' | .sku = "one"')"
    refuse "$(receipt "$unit" "$widened"' | .sku = "other"')"
    sql 'update inventory.rejected_receipts set received_at = now()'
    run -0 "${reprocess[@]}"
    [[ $(sql 'select string_agg(resolution, $$ $$ order by resolution) from inventory.rejected_receipts') == \
        'created revised' ]]
    [[ $(row revision) == 1 ]]
}

@test "a correction by hand is not overwritten either" {
    local second
    refuse "$(receipt "$unit" "$widened")"
    sql "update inventory.rejected_receipts set received_at = now() - interval '1 hour'"
    run -0 "${reprocess[@]}"
    refuse "$(receipt "$unit" "$widened"' | .sku = "refused"')"
    sql "update receipts set sku = 'by hand' where unit_identifier = :'unit'" unit="$unit"
    run -0 "${reprocess[@]}"
    [[ $(row sku) == 'by hand' && $(resolutions) == 'created superseded' ]]
}

@test "--id examines one delivery, and says why it is still rejected" {
    local first second
    refuse "$(receipt "$unit" "$widened")"
    first=$(rejection "$id")
    refuse "$(receipt "$unit-2" "$widened"' | .sku = null')"
    second=$(rejection "$id")
    run -0 "${reprocess[@]}" --id "$second"
    [[ ${lines[0]} == "$second received "*'Z: still rejected: Validation Failed' ]]
    [[ ${lines[1]} == 'Refused deliveries examined: 1' && ${lines[-1]} == '    sku missing_field: 1' ]]
    [[ $(resolutions) == 'open open' ]]
    run -0 "${reprocess[@]}" --id "$first" --dry-run
    [[ $(resolutions) == 'open open' ]]
    run -0 "${reprocess[@]}" --id "${first^^}"
    [[ $(resolutions) == 'created open' ]]
    # What is resolved, or was never there.
    local none=00000000-0000-4000-8000-000000000000
    for second in "$first" "$none"; do
        run -1 "${reprocess[@]}" --id "$second"
        [[ $output == "receiptd: no rejected delivery with the rejection_id $second is unresolved" ]]
    done
}

@test "a repeated delivery is one, known by the request id of the first, in either form" {
    local first form
    refuse "$(receipt "$unit" "$widened")"
    first=$id
    refuse "$(receipt "$unit" "$widened")"
    for form in "$first" "${first//-/}" "${first^^}"; do
        run -0 "${reprocess[@]}" --id "$form" --dry-run
        [[ ${lines[1]} == 'Refused deliveries examined: 1 '* ]]
    done
    run -0 "${reprocess[@]}"
    [[ $(resolutions) == created && $(row "concat_ws(',', request_id, revision)") == "$first,0" ]]
    # Rejected still, for the service was not told.
    refuse "$(receipt "$unit" "$widened")"
    [[ $(resolutions) == created ]]
}

@test "what is invalid still, and was corrected since, is superseded" {
    refuse "$(receipt "$unit" 'del(.sku)')"
    refuse "$(receipt "$unit-2" 'del(.sku)')"
    post "$(receipt "$unit")"
    expect 201 created
    run -0 "${reprocess[@]}" --dry-run
    [[ $output == *'superseded by a later delivery of the same key: 1'*'rejected: 1 (0 malformed, 1 invalid)'* ]]
    [[ $(resolutions) == 'open open' ]]
    run -0 "${reprocess[@]}"
    [[ $(resolutions) == 'superseded open' ]]
}

@test "--since examines what arrived from then on" {
    refuse "$(receipt "$unit" "$widened")"
    sql "update inventory.rejected_receipts set received_at = '2026-01-02 03:04:05.678901+00'"
    refuse "$(receipt "$unit-2" "$widened")"
    run -0 "${reprocess[@]}" --since '2026-01-02 03:04:05.678902+00' --dry-run
    [[ ${lines[-4]} == 'Refused deliveries examined: 1'* ]]
    run -0 "${reprocess[@]}" --since '2026-01-02 03:04:05.678901+00' --dry-run
    [[ ${lines[-4]} == 'Refused deliveries examined: 2'* ]]
    [[ ${lines[0]} == *' received 2026-01-02T03:04:05.678901Z: valid' ]]
    run -0 "${reprocess[@]}" --since tomorrow
    [[ ${lines[0]} == 'Refused deliveries examined: 0' ]]
    run -0 "${reprocess[@]}" --since yesterday
    [[ $(sql "select string_agg(coalesce(resolution, 'open'), ' ' order by received_at)
        from inventory.rejected_receipts") =~ created$ ]]
}

@test "a slip on the command line is told, and nothing is done" {
    local before bad
    refuse "$(receipt "$unit" "$widened")"
    before=$(everything)
    for bad in '' x 1 "${id}0"; do
        run -1 "${reprocess[@]}" --id "$bad"
        [[ $output == "receiptd: --id: invalid input syntax for type uuid: \"$bad\"" ]]
    done
    for bad in '' 'last week' 2026-02-30 12; do
        run -1 "${reprocess[@]}" --since "$bad"
        [[ $output == 'receiptd: --since: '*"\"$bad\"" ]]
    done
    run -2 "${reprocess[@]}" --id "$id" --since today
    run -2 "${reprocess[@]}" --id
    run -2 "${reprocess[@]}" --until now
    run -2 "${reprocess[@]}" "$id"
    run -2 "${worker_env[@]}" "$WORKER" --dry-run
    run -2 "${worker_env[@]}" "$WORKER" --listen "$BATS_TEST_TMPDIR/socket" --since today
    run -1 "${worker_env[@]}" PGHOST=/nowhere "$WORKER" reprocess
    [[ $output == *'receiptd: PostgreSQL: '*'/nowhere'* && $output != *examined* ]]
    run -1 "${worker_env[@]}" RECEIPTD_EXTRA_CONDITION=Q "$WORKER" reprocess
    [[ $output == *RECEIPTD_EXTRA_CONDITION:* ]]
    [[ $(everything) == "$before" ]]
}

# many COUNT N: so many refused deliveries, of units with numbers; every Nth is refused for another reason too.
many() {
    sql "insert into inventory.rejected_receipts (request_id, api_key_name, status, message, body, received_at)
        select gen_random_uuid(), 'local', 422, 'Validation Failed',
            convert_to(replace(:'body', '@', case when n % :every = 0 then '' else :'unit' || n end), 'UTF8'),
            now() - n % 7 * interval '1 s'
        from generate_series(1, :count) as n" body="$(receipt @ "$widened")" unit="$unit-" count="$1" every="$2"
}

@test "hundreds of deliveries, of which some stay refused" {
    many 230 3
    run -0 "${reprocess[@]}"
    [[ $output == *'examined: 230'*'receipts: 154 (154 created, 0 revised, 0 unchanged)'*'rejected: 76 '* ]]
    [[ $(sql "select count(*) from receipts where unit_identifier like 'reprocess-$BATS_TEST_NUMBER-%'") == 154 ]]
    run -0 "${reprocess[@]}"
    [[ $output == *'examined: 76'*'receipts: 0 '* ]]
}

@test "one that the table refuses does not hold up the others, and is told" {
    refuse "$(receipt "$unit" "$widened"' | .sku = "refuse me"')"
    refuse "$(receipt "$unit-2" "$widened")"
    sql "alter table receipts add constraint receipts_test_check check (sku <> 'refuse me')"
    run -1 --separate-stderr "${reprocess[@]}"
    sql 'alter table receipts drop constraint receipts_test_check'
    [[ $stderr == *"receiptd: $(rejection "$(sql "select request_id from inventory.rejected_receipts
        order by received_at limit 1")") could not be stored: PostgreSQL failed 23514"* ]]
    [[ $output == *'valid, but the database does not take them: 1'* ]]
    [[ $(resolutions) == 'open created' ]]
    run -0 "${reprocess[@]}"
    [[ $(resolutions) == 'created created' ]]
}

# hold QUERY: a session that has what the query locks, until release.
hold() {
    psql -XAtq -c begin -c "$1" -c "select 'held'" -c 'select pg_sleep(61)' >"$BATS_TEST_TMPDIR/held" 2>&1 3>&- &
    holder=$!
    eventually grep -q held "$BATS_TEST_TMPDIR/held"
}

release() {
    sql "select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(61)'" >/dev/null
    wait "$holder" || :
}

@test "one that another session holds up does not keep the others from being reached" {
    local holder lock n resolutions options ids=()
    for n in 1 2 3; do
        post "$(receipt "$unit-$n")"
        refuse "$(receipt "$unit-$n" "$widened")"
        ids+=("$id")
    done
    while IFS='|' read -r lock resolutions options; do
        hold "$lock"
        run -1 --separate-stderr "${worker_env[@]}" "PGOPTIONS=$options" "${reprocess[@]:${#worker_env[@]}}"
        release
        echo "$output $stderr $(resolutions)"
        [[ $stderr == *"$(rejection "${ids[1]}")"* && $output == *'examined: '*'held up by other sessions: 1; run this again'* ]]
        [[ $(resolutions) == "$resolutions" ]]
    done <<END
select from receipts where unit_identifier = '$unit-2' for update|revised open revised
select from inventory.rejected_receipts where request_id = '${ids[1]}' for update|revised open revised
select from inventory.rejected_receipts where request_id = '${ids[1]}' for update|revised open revised|-c lock_timeout=0
END
    run -0 "${reprocess[@]}"
    [[ $(resolutions) == 'revised revised revised' && $(row revision "$unit-2") == 1 ]]
}

# conflicts COUNT COMMAND...: PostgreSQL answers so many upserts with a serialization failure meanwhile.
conflicts() {
    sql "create schema test; grant usage on schema test to public;
        create sequence test.conflicts; grant usage on sequence test.conflicts to public;
        create function test.conflict() returns trigger language plpgsql as \$\$ begin
            if nextval('test.conflicts') <= $1 then raise sqlstate '40001'; end if;
            return null; end \$\$;
        create trigger test before insert on receipts for each statement execute function test.conflict()"
    "${@:2}"
    met=$(sql 'select last_value from test.conflicts')
    sql 'set client_min_messages = warning; drop schema test cascade'
}

@test "one conflict after the other ends it, with words; a few are not even noticed" {
    local began=$SECONDS
    refuse "$(receipt "$unit" "$widened")"
    conflicts 1000000 run -1 --separate-stderr "${reprocess[@]}"
    ((SECONDS - began < 20 && met > 5 && met < 20))
    [[ $stderr == *"receiptd: $(rejection "$id") could not be stored, tried $met times: PostgreSQL failed 40001"* ]]
    [[ $output == *'examined: 1'*'became receipts: 0 '* && $(resolutions) == open && $(count "$unit") == 0 ]]
    conflicts 3 run -0 "${reprocess[@]}"
    [[ $met == 4 && $(resolutions) == created ]]
}

waits_for_lock() {
    [[ $(sql "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'update %'") == 1 ]]
}

# kill_before_resolving REQUEST_ID: runs the command, and kills it when it has made a receipt of that delivery and is
# about to say so in rejected_receipts: another session has the row until then.
kill_before_resolving() {
    local holder pid
    psql -XAtq -c begin -c "select 'held' from inventory.rejected_receipts where request_id = '$1' for update" \
        -c 'select pg_sleep(60)' >"$BATS_TEST_TMPDIR/held" 2>&1 3>&- &
    holder=$!
    eventually grep -q held "$BATS_TEST_TMPDIR/held"
    "${reprocess[@]}" >/dev/null 2>&1 3>&- &
    pid=$!
    eventually waits_for_lock
    kill -9 "$pid"
    # Its session first, which would get the lock and go on, not knowing that nobody listens any more.
    sql "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where wait_event_type = 'Lock' and query like 'update %'" >/dev/null
    sql "select count(pg_terminate_backend(pid)) from pg_stat_activity where query = 'select pg_sleep(60)'" >/dev/null
    wait "$pid" "$holder" || :
    [[ $(rejection "$1" 'resolved_at is null') == t ]]
}

@test "killed in between and run again, nothing is lost or doubled" {
    local n ids=()
    for n in 1 2 3; do
        refuse "$(receipt "$unit-$n" "$widened")"
        ids+=("$id")
    done
    post "$(receipt "$unit-4")"
    refuse "$(receipt "$unit-4" "$widened")"
    ids+=("$id")
    # Each time it is killed after a receipt was made, and before that was marked.
    for n in 2 4; do
        kill_before_resolving "${ids[n - 1]}"
        [[ $(row "coalesce(revised_request_id, request_id)" "$unit-$n") == "${ids[n - 1]}" ]]
    done
    run -0 "${reprocess[@]}"
    [[ $output == *'examined: 1'$'\n'*'receipts: 1 (0 created, 1 revised, 0 unchanged)'* ]]
    [[ $(resolutions) == 'created created created revised' ]]
    [[ $(sql "select string_agg(revision::text, ' ' order by unit_identifier) from receipts
        where unit_identifier like 'reprocess-$BATS_TEST_NUMBER-%'") == '0 0 0 1' ]]
    [[ $(sql "select count(*) from receipt_revisions
        where unit_identifier like 'reprocess-$BATS_TEST_NUMBER-%'") == 1 ]]
}

@test "a receipt that was made before it was killed, and revised since, is not touched" {
    refuse "$(receipt "$unit" "$widened")"
    kill_before_resolving "$id"
    post "$(receipt "$unit")"
    expect 200 revised
    run -0 "${reprocess[@]}"
    [[ $(resolutions) == superseded && $(row "initial_condition || revision") == N1 ]]
}

@test "two at once, while the service runs under load" {
    local pids=()
    many 200 201
    load_in_background --connections 16 --new 2 --again 1 --revise 1 --invalid 1 --malformed 1 --complete
    load_goes_on 20
    "${reprocess[@]}" >"$BATS_TEST_TMPDIR/1" 2>&1 3>&- &
    pids+=($!)
    "${reprocess[@]}" >"$BATS_TEST_TMPDIR/2" 2>&1 3>&- &
    pids+=($!)
    wait "${pids[0]}"
    wait "${pids[1]}"
    load_goes_on 20
    end_load
    [[ $(sql "select count(*) from receipts where unit_identifier like 'reprocess-$BATS_TEST_NUMBER-%'
        and revision = 0") == 200 ]]
    [[ $(sql "select string_agg(distinct resolution, ' ') from inventory.rejected_receipts") == created ]]
    [[ $(sql "select count(*) from inventory.rejected_receipts where resolution is not null") == 200 ]]
}

# upsert_waits APPLICATION: whether an upsert of that application's, a pattern of like, waits for a lock.
upsert_waits() {
    [[ $(sql "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into %'
        and application_name like :'application')" application="$1") == t ]]
}

@test "a delivery that arrives while an older one is reprocessed is not overwritten" {
    refuse "$(receipt "$unit" "$widened"' | .sku = "older"')"
    psql -XAtq -c begin -c 'lock table inventory.receipts in share mode' -c "select 'locked'" -c 'select pg_sleep(61)' \
        >"$BATS_TEST_TMPDIR/held" 2>&1 3>&- &
    local holder=$! poster pid
    eventually grep -q locked "$BATS_TEST_TMPDIR/held"
    { post "$(receipt "$unit")"; echo "$code" >"$BATS_TEST_TMPDIR/told"; } &
    poster=$!
    eventually upsert_waits 'receiptd %'
    # It has looked at receipts when it waits, and found nothing.
    "${reprocess[@]}" >"$BATS_TEST_TMPDIR/output" 2>&1 3>&- &
    pid=$!
    eventually upsert_waits reprocess
    sql "select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(61)'" >/dev/null
    wait "$holder" || :
    wait "$poster" "$pid"
    echo "told: $(<"$BATS_TEST_TMPDIR/told"), stored: $(row "sku || revision") $(resolutions)"
    # Whichever gets there first: the delivery is what counts.
    [[ "$(<"$BATS_TEST_TMPDIR/told") $(row "sku || revision") $(resolutions)" == \
        @("201 S1234560 superseded"|"200 S1234561 created") ]]
}
