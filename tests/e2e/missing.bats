# receiptd missing: deliveries that got 503 and were not redelivered since; and those that were acknowledged and are lost.

setup_file() {
    load common
    start_instance missing
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
    post "$(receipt "$unit-old")"
    expect 201 created
    # Soon over for each that is told 503.
    start_instance missing RECEIPTD_DEADLINE_MS=300
    kill -INT "$(head -n 1 "$state/pgdata/postmaster.pid")"
    eventually test ! -e "$state/pgdata/postmaster.pid"
    for name in lost back old "with \"quotes\" é"; do
        post "$(receipt "$unit-$name" '.sku = "newer"')"
        expect 503
    done
    post "$(receipt "$unit-lost")"
    expect 503
    lost=$(header X-Request-Id)
    start_instance missing
    eventually post_is_stored "$unit-back"
    # nginx by itself: no worker is there.
    kill -STOP "$(<"$state/run/worker-1.supervisor.pid")" "$(<"$state/run/worker-2.supervisor.pid")"
    kill -KILL "$(worker_pid 1)" "$(worker_pid 2)"
    post "$(receipt "$unit-nobody")"
    [[ $code == 502 ]]
    kill -CONT "$(<"$state/run/worker-1.supervisor.pid")" "$(<"$state/run/worker-2.supervisor.pid")"
    eventually post_is_stored "$unit-later"
    eventually grep -q 'status=502' "$state/log/nginx-receiptd.log"

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
        eventually post_is_stored "$unit-$name"
    done
    missing "${logs[@]}"
    [[ $status == 0 && ${lines[0]} == 'Missing: 0 of 0 '* ]]
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
    [[ ${lines[2]} == 'p A 1 recent: told 503 2 times since '*'; comes again by itself for 31 h 5'*' min' ]]
    [[ ${lines[3]} == 'Missing: 3 of 4 '* ]]
    sql "delete from receipts where program_identifier = 'p'"
}

# stop_postgresql: cleanly.
stop_postgresql() {
    kill -INT "$(head -n 1 "$state/pgdata/postmaster.pid")"
    eventually test ! -e "$state/pgdata/postmaster.pid"
}

start_postgresql() {
    local_instance missing start
}

# is_logged: the last answer has its line in the log.
is_logged() {
    grep -qs "request_id=$(header X-Request-Id)" "${logs[@]:0:2}"
}

# lost NAME: the line of the output about the receipt, or of the rejected delivery with that request id.
lost() {
    grep -E -- "^returns SO00001234 $unit-$1: |^[^:]*: answered 4.* as $1;" <<<"$output"
}

@test "--acknowledged: what a database that went back in time has lost, and nothing else" {
    local since name malformed invalid
    post "$(receipt "$unit-kept")"
    expect 201 created
    post "$(receipt "$unit-changed")"
    expect 201 created
    # Each version that was replaced is in the history alone.
    for name in 1 2 3 4; do
        post "$(receipt "$unit-kept" ".sku = \"$name\"")"
        expect 200 revised
    done
    post '{"sku": tru'
    expect 400
    stop_postgresql
    cp -a "$state/pgdata" "$state/pgdata.before"
    start_postgresql
    since=$(date -u +%FT%T.%NZ)

    post "$(receipt "$unit-gone")"
    expect 201 created
    gone=$(header X-Request-Id)
    post "$(receipt "$unit-gone" '.sku = "newer"')"
    expect 200 revised
    post "$(receipt "$unit-gone" '.sku = "newer"')"
    expect 200 unchanged
    post "$(receipt "$unit-kept" '.sku = "4"')"
    expect 200 unchanged
    post "$(receipt "$unit-changed" '.sku = "newer"')"
    expect 200 revised
    post "$(receipt "$unit-changed" '.sku = "newer"')"
    expect 200 unchanged
    post "$(receipt "$unit-replaced")"
    expect 201 created
    post "$(receipt "$unit-with, \"quotes\" é")"
    expect 201 created
    post '{"sku": tru'
    expect 400
    malformed=$(header X-Request-Id)
    post "$(receipt "$unit-invalid" '.sku = ""')"
    expect 422
    invalid=$(header X-Request-Id)
    eventually is_logged
    missing --acknowledged "${logs[@]}"
    [[ $status == 0 && ${#lines[@]} == 1 && $output == 'Missing: 0 of '* ]]

    stop_postgresql
    mv "$state/pgdata" "$state/pgdata.lost"
    mv "$state/pgdata.before" "$state/pgdata"
    start_postgresql
    post "$(receipt "$unit-replaced" '.sku = "newer"')"
    expect 201 created
    eventually is_logged

    missing --acknowledged "${logs[@]}"
    echo "$output $stderr"
    [[ $status == 1 && -z $stderr && ${#lines[@]} == 11 ]]
    [[ $(lost gone) == *': answered 201 created at 20'*"Z as $gone; not in the database; can be resent for 29 more days
"*': answered 200 revised at '*'; not in the database; '*'
'*': answered 200 unchanged at '*'; not in the database; '* ]]
    [[ $(lost changed) == *': answered 200 revised at '*'; the database has an older version of the receipt; can be '*'
'*': answered 200 unchanged at '*'; the database has an older version of the receipt; can be '* ]]
    [[ $(lost replaced) == *': answered 201 created at '*'; replaced: the database has a later delivery of the receipt' ]]
    [[ $(lost 'with, "quotes" é') == *'; not in the database; '* ]]
    [[ $(lost "$malformed") == "(no key): answered 400 at "*'; not in the database; '* ]]
    [[ $(lost "$invalid") == "returns SO00001234 $unit-invalid: answered 422 at "*'; not in the database; '* ]]
    [[ ${lines[0]} == *"$gone"* && ${lines[9]} =~ ^'Missing: 8 of '[0-9]+' acknowledged deliveries, answered from 20'.*' to 20' ]]
    [[ ${lines[10]} == 'Replaced by later deliveries of the same receipts: 1' ]]
    # In whatever order, twice, compressed, from standard input, and by time.
    gzip -k "${logs[0]}"
    missing --acknowledged "${logs[1]}" "${logs[0]}.gz" "${logs[0]}" "${logs[2]}"
    [[ $status == 1 && ${#lines[@]} == 11 && ${lines[9]} == 'Missing: 8 of '* ]]
    run -1 "${worker_env[@]}" "$WORKER" missing --acknowledged < <(sort -r "${logs[@]:0:2}" | gzip)
    [[ ${lines[9]} == 'Missing: 8 of '* ]]
    rm "${logs[0]}.gz"
    missing --acknowledged --since "$since" "${logs[@]}"
    [[ $status == 1 && ${lines[9]} == 'Missing: 8 of 11 '* ]]
    missing --acknowledged --until "$since" "${logs[@]}"
    [[ $status == 0 && ${#lines[@]} == 1 ]]
    missing --acknowledged --since "$since" --until "$since" "${logs[@]}"
    [[ $status == 2 && $stderr == *'no acknowledged delivery was found in these logs, in that span of time' ]]
    missing --acknowledged --csv "${logs[@]}"
    [[ $status == 1 && ${#lines[@]} == 9 && $stderr == 'Missing: 8 of '*'Replaced by later '* ]]
    [[ ${lines[0]} == program_identifier,asn_number,unit_identifier,answered_at,status,result,request_id,stored,can_be_resent_until$'\r' ]]
    [[ ${lines[1]} =~ ^\"returns\",\"SO00001234\",\"$unit-gone\",20[^,]*Z,201,created,$gone,no,20[^,]*Z$'\r'$ ]]
    [[ $(python3 -c 'import csv, sys
print(*[(r["unit_identifier"], r["status"], r["stored"]) for r in csv.DictReader(sys.stdin)], sep="\n")' <<<"$output") == "('$unit-gone', '201', 'no')
('$unit-gone', '200', 'no')
('$unit-gone', '200', 'no')
('$unit-changed', '200', 'older')
('$unit-changed', '200', 'older')
('$unit-with, \"quotes\" é', '201', 'no')
('', '400', 'no')
('$unit-invalid', '422', 'no')" ]]

    # They are sent again, and nothing is missing.
    for name in gone changed "with, \"quotes\" é"; do
        post "$(receipt "$unit-$name" '.sku = "newer"')"
        [[ $code == 20[01] ]]
    done
    missing --acknowledged --until "$(date -u +%FT%T.%NZ)" "${logs[@]}"
    echo "$output $stderr"
    [[ $status == 1 && ${#lines[@]} == 9 && ${lines[7]} == 'Missing: 2 of '* && ${lines[8]} == 'Replaced '*': 5' ]]
    sql "insert into inventory.rejected_receipts (request_id, api_key_name, status, message, body)
        select id, 'local', 400, '', '' from unnest(array['$malformed', '$invalid']::uuid[]) as id"
    missing --acknowledged "${logs[@]}"
    [[ $status == 0 && ${lines[5]} == 'Missing: 0 of '* ]]
}

@test "--acknowledged: a log that does not show all deliveries is no all-clear" {
    local name
    post "$(receipt "$unit")"
    expect 201 created
    eventually is_logged
    grep -h "unit_identifier=$unit " "${logs[@]:0:2}" >"$made"
    missing --acknowledged "$made"
    [[ $status == 0 && -z $stderr ]]
    for name in RECEIPTD_LOG_DELIVERIES=failures RECEIPTD_LOG_DELIVERIES=1/100 RECEIPTD_LOG_LEVEL=warning; do
        run -2 --separate-stderr "${worker_env[@]}" "$name" "$WORKER" missing --acknowledged "$made"
        [[ $stderr == *"$name leaves acknowledged deliveries out of the logs"*'so others may be missing'* ]]
    done
    run -0 "${worker_env[@]}" RECEIPTD_LOG_DELIVERIES=all "$WORKER" missing --acknowledged "$made"
    # Whatever the settings are by now: what the log itself shows.
    start_worker "$BATS_TEST_TMPDIR/sampled" RECEIPTD_LOG_DELIVERIES=1/7 -- --listen "$BATS_TEST_TMPDIR/socket"
    end_worker
    missing --acknowledged "$made" "$BATS_TEST_TMPDIR/sampled"
    [[ $status == 2 && $stderr == *'a worker was started with RECEIPTD_LOG_DELIVERIES'* ]]
    for name in '<4>time=2026-11-28T10:00:00.000Z level=warning msg="lines of this log were dropped" dropped=7' \
        'time=2026-11-28T10:00:00.000Z level=info msg=delivery request_id=00000000000000000000000000000001 status=201 res'; do
        missing --acknowledged "$made" <(printf '%s\n' "$(<"$made")" "$name")
        [[ $status == 2 && $output == 'Missing: 0 of 1 '* && $stderr == *'; which deliveries they show'*' is unknown'* ]]
    done
    # No line is cut so that it is another one's.
    sed -E 's/(unit_identifier=[^ ]*)[^ ] key=.*/\1/' "$made" >"$made.cut"
    missing --acknowledged "$made" "$made.cut"
    [[ $status == 2 && $output == 'Missing: 0 of 1 '* && $stderr == *'1 lines of these logs are cut off or damaged'* ]]
    missing --acknowledged <(head -c -1 "$made.cut" | cat - "$made") "$made"
    [[ $status == 2 && $output == 'Missing: 0 of 1 '* && $stderr == *'1 lines of these logs are cut off or damaged'* ]]
}

@test "--acknowledged: a key as long as it may be is found" {
    post "$(receipt "$unit$(printf '\U1F600%.0s' {1..200})" ".asn_number = \"$(printf '\\u0001%.0s' {1..255})\"")"
    expect 201 created
    eventually is_logged
    grep -h "request_id=$(header X-Request-Id)" "${logs[@]:0:2}" >"$made"
    missing --acknowledged "$made"
    [[ $status == 0 && $output == 'Missing: 0 of 1 '* ]]
    sql "delete from receipts where unit_identifier like '$unit%'"
    missing --acknowledged "$made"
    [[ $status == 1 && ${#lines[@]} == 2 && $output == 'returns ???'*'Missing: 1 of 1 '* ]]
}

@test "a compressed log is read, and what is no log is no all-clear" {
    local options
    line 5 503 any >"$made"
    gzip <"$made" >"$made.gz"
    missing "$made.gz"
    [[ $status == 1 && ${lines[1]} == 'Missing: 1 of 1 '* ]]
    cat "$made.gz" "$made.gz" >"$made.2.gz"
    missing "$made.2.gz"
    [[ $status == 1 && $output == *' told 503 2 times '* ]]
    head -c -9 "$made.gz" >"$made.cut.gz"
    printf '\xfd7zXZ\0\0\4' >"$made.xz"
    printf '\x28\xb5\x2f\xfd\4' >"$made.zst"
    printf 'BZh91AY' >"$made.bz2"
    printf '\x04\x22\x4d\x18d' >"$made.lz4"
    head -c 100000 /dev/urandom >"$made.random"
    echo 'another log' >"$made.other"
    : >"$made.empty"
    for options in '' --acknowledged; do
        for name in cut.gz xz zst bz2 lz4 random other; do
            # shellcheck disable=SC2086 # none or one
            missing $options "$made" "$made.$name"
            echo "$name: $status $output $stderr"
            [[ $status == 2 && -z $output && $stderr == *"$made.$name"* ]]
        done
        # shellcheck disable=SC2086
        missing $options "$made.empty"
        [[ $status == 2 ]]
    done
    [[ $stderr == *'no acknowledged delivery was found in these logs'*'these logs are empty'* ]]
    missing "$made.xz"
    [[ $stderr == *"is compressed by xz; decompress it"* ]]
    missing --acknowledged "$made"
    [[ $status == 2 && $stderr == *'no acknowledged delivery was found in these logs' ]]
    # One of two workers had nothing to do.
    missing "$made" "$made.empty"
    [[ $status == 1 && -z $stderr ]]
}

@test "what cannot be read, or asked, is no all-clear" {
    missing "$BATS_TEST_TMPDIR/none"
    [[ $status == 2 && $stderr == *"$BATS_TEST_TMPDIR/none: No such file"* && -z $output ]]
    missing "$BATS_TEST_TMPDIR"
    [[ $status == 2 ]]
    line 5 503 any >"$made"
    run -2 "${worker_env[@]}" PGHOST=/nowhere "$WORKER" missing "$made"
    [[ $output == *'/nowhere'* ]]
    missing --acknowledged --since nonsense "$made"
    [[ $status == 2 && $stderr == *'--since or --until: '*nonsense* ]]
    run -2 "${worker_env[@]}" "$WORKER" missing --since 2026-01-01 "$made"
    run -2 "${worker_env[@]}" "$WORKER" missing --until 2026-01-01 "$made"
    run -2 "${worker_env[@]}" "$WORKER" doctor --acknowledged
    run -2 "${worker_env[@]}" "$WORKER" reprocess --until 2026-01-01
    run -2 "${worker_env[@]}" "$WORKER" --csv
    run -2 "${worker_env[@]}" "$WORKER" reprocess --csv
}
