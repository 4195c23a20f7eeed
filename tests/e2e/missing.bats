# receiptd missing: what was told 503 and has not come since.

setup_file() {
    load common
    start_instance missing RECEIPTD_DEADLINE_MS=300
}

setup() {
    load common
    use_instance missing
    set_worker_env
    unit=missing-$BATS_TEST_NUMBER
    made=$BATS_TEST_TMPDIR/made
    logs=("$state/log/worker-1.log" "$state/log/worker-2.log" "$state/log/nginx-receiptd.log")
}

# missing ARGUMENT...: sets status, output and stderr.
missing() {
    run --separate-stderr "${worker_env[@]}" "$WORKER" missing "$@"
}

# line SECONDS-AGO STATUS UNIT [REQUEST-ID]: a line of a worker's.
line() {
    printf '<6>time=%s level=info msg=delivery request_id=%s status=%s program_identifier=p asn_number="A 1" unit_identifier=%s key=k ms=12.000\n' \
        "$(date -u -d "@$((EPOCHSECONDS - $1))" +%FT%T.000Z)" "${4-00000000000000000000000000000000}" "$2" "$3"
}

@test "an outage: what came again is not listed, what did not is, and what nginx answered is told" {
    local before=$EPOCHSECONDS
    post "$(receipt "$unit-old")"
    expect 201 created
    kill -INT "$(head -n 1 "$state/pgdata/postmaster.pid")"
    eventually 10 test ! -e "$state/pgdata/postmaster.pid"
    for name in lost back old "with \"quotes\" é"; do
        post "$(receipt "$unit-$name" '.sku = "newer"')"
        expect 503
    done
    post "$(receipt "$unit-lost")"
    expect 503
    lost=$(header X-Request-Id)
    local_instance missing start RECEIPTD_DEADLINE_MS=300
    eventually 10 post_is_stored "$unit-back"
    # nginx by itself: no worker is there.
    kill -STOP "$(<"$state/run/worker-1.supervisor.pid")" "$(<"$state/run/worker-2.supervisor.pid")"
    kill -KILL "$(worker_pid 1)" "$(worker_pid 2)"
    post "$(receipt "$unit-nobody")"
    [[ $code == 502 ]]
    kill -CONT "$(<"$state/run/worker-1.supervisor.pid")" "$(<"$state/run/worker-2.supervisor.pid")"
    eventually 10 post_is_stored "$unit-later"
    eventually 5 grep -q 'status=502' "$state/log/nginx-receiptd.log"

    missing "${logs[@]}"
    [[ $status == 1 && -z $stderr && ${#lines[@]} == 5 ]]
    [[ ${lines[0]} == "returns SO00001234 $unit-lost: told 503 2 times since 20"*", last as $lost; comes again by itself for 31 h 5"* ]]
    [[ ${lines[1]} == *"$unit-old: told 503 1 times since "*"; what is stored is older; comes again"* ]]
    [[ ${lines[2]} == *"$unit-with \"quotes\" é: told"* ]]
    [[ ${lines[3]} == 'Missing: 3 of 3 deliveries whose last answer was 503' ]]
    [[ ${lines[4]} == 'nginx answered '*' by itself, between 20'*'; whose they were is not known' ]]
    # In whatever order, and from standard input.
    missing "${logs[2]}" "${logs[1]}" "${logs[0]}"
    [[ $status == 1 && ${lines[3]} == 'Missing: 3 of 3 '* ]]
    run -1 "${worker_env[@]}" "$WORKER" missing < <(sort "${logs[@]:0:2}")
    [[ ${lines[3]} == 'Missing: 3 of 3 '* ]]
    missing --csv "${logs[@]}"
    [[ $status == 1 && ${#lines[@]} == 4 && $stderr == 'Missing: 3 of 3 '*'nginx answered '* ]]
    [[ ${lines[0]} == program_identifier,asn_number,unit_identifier,first_failed_at,* ]]
    [[ ${lines[2]} == "\"returns\",\"SO00001234\",\"$unit-old\",20"*",1,"*",older,20"*"Z,20"*Z$'\r' ]]
    python3 -c 'import csv, sys; assert [r["unit_identifier"] for r in csv.DictReader(sys.stdin)][2].endswith("with \"quotes\" é")' <<<"$output"

    # They come, and nothing is missing.
    for name in lost old "with \"quotes\" é"; do
        post "$(receipt "$unit-$name" '.sku = "newer"')"
        [[ $code == 20[01] ]]
    done
    missing "${logs[@]}"
    [[ $status == 0 && ${lines[0]} == 'Missing: 0 of 0 '* ]]
    ((EPOCHSECONDS - before < 120))
}

post_is_stored() {
    post "$(receipt "$1" '.sku = "newer"')"
    [[ $code == 20[01] ]]
}

@test "the database knows what the log does not; and how long there is time" {
    post "$(receipt "$unit")"
    {
        line 100 503 recent
        line $((40 * 3600)) 503 days
        line $((31 * 86400)) 503 over
        line 50 503 recent
        line 90 422 rejected
        line 95 503 rejected
        line 90 503 refused
        line 80 400 refused
        line 5 503 cut
        echo 'time=2026-01-01T00:00:00.000Z level=info msg="no delivery" unit_identifier="x'
        echo 'msg=delivery status=503'
        echo
        printf 'unit_identifier="'
    } >"$made"
    sql "insert into receipts select (jsonb_populate_record(r, '{\"program_identifier\": \"p\", \"asn_number\": \"A 1\",
        \"unit_identifier\": \"cut\"}')).* from receipts as r where unit_identifier = '$unit'"
    missing "$made"
    [[ $status == 1 && ${#lines[@]} == 4 ]]
    [[ ${lines[0]} == 'p A 1 over: '*'; is too old to be asked for' ]]
    [[ ${lines[1]} == 'p A 1 days: '*'; does not come by itself; can be asked for within 29 days' ]]
    [[ ${lines[2]} == 'p A 1 recent: told 503 2 times since '*'; comes again by itself for 31 h 58 min' ]]
    [[ ${lines[3]} == 'Missing: 3 of 4 '* ]]
    sql "delete from receipts where program_identifier = 'p'"
}

@test "what cannot be read, or asked, is no all-clear" {
    missing "$BATS_TEST_TMPDIR/none"
    [[ $status == 2 && $stderr == *"$BATS_TEST_TMPDIR/none: No such file"* && -z $output ]]
    missing "$BATS_TEST_TMPDIR"
    [[ $status == 2 ]]
    line 5 503 any >"$made"
    run -2 "${worker_env[@]}" PGHOST=/nowhere "$WORKER" missing "$made"
    [[ $output == *'/nowhere'* ]]
    run -2 "${worker_env[@]}" "$WORKER" --csv
    run -2 "${worker_env[@]}" "$WORKER" reprocess --csv
}
