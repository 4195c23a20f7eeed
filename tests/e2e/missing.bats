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

# line SECONDS-AGO STATUS UNIT [MORE]: a line of a worker's.
line() {
    printf '<6>time=%s level=info msg=delivery request_id=%s status=%s%s program_identifier=p asn_number="A 1" unit_identifier=%s key=k ms=12.000\n' \
        "$(utc "$1")" "$(new_id)" "$2" "${4-}" "$3"
}

# utc SECONDS-AGO
utc() {
    date -u -d "@$((EPOCHSECONDS - $1))" +%FT%T.000Z
}

new_id() {
    cat /proc/sys/kernel/random/uuid
}

# by_nginx STATUS WORKER-STATUS [REQUEST]: a line of nginx's, which is ten seconds old, in the time of another zone.
by_nginx() {
    printf 'time=%s request_id=%s client=::1 request="%s" status=%s bytes=7 seconds=0.1 worker="unix:a" worker_status="%s" worker_seconds="-"\n' \
        "$(TZ=UTC-5 date -d "@$((EPOCHSECONDS - 10))" +%FT%T+05:00)" "$(new_id)" "${3-POST /inventory_receipt}" "$1" "$2"
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
    [[ $code == 503 ]]
    kill -CONT "$(<"$state/run/worker-1.supervisor.pid")" "$(<"$state/run/worker-2.supervisor.pid")"
    eventually post_is_stored "$unit-later"
    eventually grep -q ' status=503 .* worker_status="502' "$state/log/nginx-receiptd.log"

    missing "${logs[@]}"
    echo "$output $stderr"
    [[ $status == 1 && ${#lines[@]} == 4 ]]
    [[ ${lines[0]} == "returns SO00001234 $unit-lost: got 503 2 times since 20"*", last as $lost; will be retried for 31 h 5"* ]]
    [[ ${lines[1]} == *"$unit-old: got 503 1 times since "*"; the database has an older version; will be retried"* ]]
    [[ ${lines[2]} == *" \"$unit-with \\\"quotes\\\" é\": got 503 1 "* ]]
    [[ ${lines[3]} == 'Missing: 3 of 4 deliveries that got 503' ]]
    [[ $stderr == *' requests were answered by nginx itself, which does not know the key (503: '*'), from 20'*'so more may be missing' ]]
    # In whatever order, and from standard input.
    missing "${logs[2]}" "${logs[1]}" "${logs[0]}"
    [[ $status == 1 && ${lines[3]} == 'Missing: 3 of 4 '* ]]
    run -1 --separate-stderr "${worker_env[@]}" "$WORKER" missing < <(sort "${logs[@]:0:2}")
    [[ ${lines[3]} == 'Missing: 3 of 4 '* && -z $stderr ]]
    run -1 "${worker_env[@]}" "$WORKER" missing "${logs[0]}" - <"${logs[1]}"
    [[ ${lines[3]} == 'Missing: 3 of 4 '* ]]
    missing --csv "${logs[@]}"
    [[ $status == 1 && ${#lines[@]} == 4 && $stderr == 'Missing: 3 of 4 '*' answered by nginx itself'* ]]
    [[ ${lines[0]} == program_identifier,asn_number,unit_identifier,first_failed_at,* ]]
    [[ ${lines[2]} == "\"returns\",\"SO00001234\",\"$unit-old\",20"*",1,"*",older,20"*"Z,20"*Z$'\r' ]]
    python3 -c 'import csv, sys; assert [r["unit_identifier"] for r in csv.DictReader(sys.stdin)][2].endswith("with \"quotes\" é")' <<<"$output"

    # They come, and nothing is missing.
    for name in lost old "with \"quotes\" é"; do
        eventually post_is_stored "$unit-$name"
    done
    missing "${logs[@]:0:2}"
    [[ $status == 0 && $output == 'Missing: 0 of 4 '* && -z $stderr ]]
    # But who knows whom nginx answered.
    missing "${logs[@]}"
    [[ $status == 3 && $output == 'Missing: 0 of 4 '* && $stderr == *'so deliveries may be missing' ]]
}

post_is_stored() {
    post "$(receipt "$1" '.sku = "newer"')"
    [[ $code == 20[01] ]]
}

# store UNIT SECONDS-AGO [COLUMN=VALUE]: a receipt of program p and ASN "A 1", which was stored then.
store() {
    sql "insert into receipts (program_identifier, asn_number, unit_identifier, request_id, received_at, api_key_name, from_identifier,
            from_type, to_identifier, to_type, to_original_identifier, sku, initial_condition, initial_channel, ot_user_login)
        values ('p', 'A 1', :'unit', gen_random_uuid(), now() - :'age' * interval '1 second', '', '', '', 1, '', '', '', 'N', '', '')" \
        unit="$1" age="$2"
}

# reject UNIT SECONDS-AGO: a rejected delivery of it.
reject() {
    sql "insert into inventory.rejected_receipts (request_id, received_at, last_received_at, api_key_name, status, message,
            body, program_identifier, asn_number, unit_identifier)
        values (gen_random_uuid(), now() - interval '1 day', now() - :'age' * interval '1 second', '', 422, '', '', 'p', 'A 1',
            :'unit')" unit="$1" age="$2"
}

@test "the database decides: what the log does not show is found there, and what the log claims is looked up" {
    local id
    {
        line 100 503 recent
        line $((40 * 3600)) 503 days
        line $((31 * 86400)) 503 over
        line 50 503 recent
        # Stored since, of which the log has no line.
        line 60 503 later
        # A version of before, and a later one that was found unchanged, which leaves no trace but a line.
        line 60 503 older
        line 60 503 found
        line 20 200 found ' result=unchanged'
        # Stored, then sent in another version, which failed.
        line 60 503 changed
        line 40 201 changed ' result=created'
        line 30 503 changed
        # Rejected for good; and what only the log claims.
        line 60 503 rejected
        line 60 503 claimed
        line 20 422 claimed
        line 60 503 lost
        line 20 200 lost ' result=unchanged'
        line 10 201 lost ' result=created'
        # Stored by the delivery that got 503, whose commit came to light later.
        line 60 503 doubtful
    } >"$made"
    store later 30
    store older 100
    store found 100
    store changed 40
    store doubtful 62
    id=$(sed -n 's/.*request_id=\([0-9a-f-]*\) .*=doubtful .*/\1/p' "$made")
    sql "update receipts set request_id = '$id' where unit_identifier = 'doubtful'"
    reject rejected 30
    reject older 100
    missing "$made"
    echo "$output $stderr"
    # Of a sender that gives up after two attempts; "recent" has had them.
    run --separate-stderr "${worker_env[@]}" RECEIPTD_SENDER_RETRIES=2 "$WORKER" missing "$made"
    [[ ${lines[2]} == 'p "A 1" recent: got 503 2 times since '*'; no longer retried; can be resent for 29 more days' ]]
    [[ $output == *'p "A 1" lost: got 503 1 times since '*'; can be retried 1 more times'* ]]
    run --separate-stderr "${worker_env[@]}" RECEIPTD_SENDER_RETRIES=2 "$WORKER" missing --csv "$made"
    [[ $output =~ recent[^$'\n']*,no,,20 ]]
    run --separate-stderr "${worker_env[@]}" RECEIPTD_SENDER_RETRIES=soon "$WORKER" missing "$made"
    [[ $status == 2 && $stderr == 'RECEIPTD_SENDER_RETRIES=soon: expected hours, such as 32h, or a number of attempts, such as 5' ]]
    missing "$made"
    sql "delete from receipts where program_identifier = 'p'; truncate inventory.rejected_receipts"
    [[ $status == 1 && -z $stderr && ${#lines[@]} == 8 ]]
    [[ ${lines[0]} == 'p "A 1" over: '*'; too old to be resent' ]]
    [[ ${lines[1]} == 'p "A 1" days: '*'; no longer retried; can be resent for 28 more days' ]]
    [[ ${lines[2]} == 'p "A 1" recent: got 503 2 times since '*'; will be retried for 31 h 5'*' min' ]]
    [[ $(sed -nE 's/^p "A 1" (older|changed|claimed|lost): .*(as [0-9a-f-]*; [a-z ]*; |; )will be retried.*/\1/p' <<<"$output" | sort) == \
        $'changed\nclaimed\nlost\nolder' ]]
    [[ $(grep -c '; the database has an older version; ' <<<"$output") == 2 ]]
    [[ ${lines[7]} == 'Missing: 7 of 11 deliveries that got 503' ]]
}

@test "what is unknown is counted, and is no all-clear" {
    local name reason count
    # Each of these alone.
    line 5 201 other ' result=created' >"$made.known"
    while IFS='|' read -r name reason; do
        { cat "$made.known"; printf '%b\n' "$name"; } >"$made"
        missing "$made"
        echo "$name: $status $output $stderr"
        [[ $status == 3 && $output == 'Missing: 0 of 0 '* && $stderr == *"receiptd: 1 $reason"*'so deliveries may be missing' ]]
    done <<END
$(line 5 503 x | sed 's/ program_identifier.* key=/ key=/')|deliveries got 503 before their key was read, from $(utc 5 | cut -c 1-10)
$(line 5 503 x | sed 's/ unit_identifier=[^ ]*//')|deliveries got 503 before their key was read
$(line 5 503 x | sed 's/ key=/ cut=yes key=/')|deliveries got 503 and have a key that is too long for the log
$(line 5 413 x | sed 's/ program_identifier.* key=/ key=/')|deliveries were too large (413)
$(line 5 503 x | cut -c 1-150)|lines of these logs are cut off or damaged
$(line 5 503 x | sed 's/A 1/A \\\\xff/')|lines of these logs are cut off or damaged
$(by_nginx 502 502)|requests were answered by nginx itself, which does not know the key (502: 1), from $(utc 10 | cut -c 1-13)
$(by_nginx 502 '502, 502')|requests were answered by nginx itself, which does not know the key (502: 1)
$(by_nginx 504 '502, 504')|requests were answered by nginx itself, which does not know the key (504: 1)
$(by_nginx 503 502)|requests were answered by nginx itself, which does not know the key (503: 1)
$(by_nginx 503 '502, 504')|requests were answered by nginx itself, which does not know the key (503: 1)
$(by_nginx 503 -)|requests were answered by nginx itself, which does not know the key (503: 1)
$(by_nginx 499 -)|requests were answered by nginx itself, which does not know the key (499: 1)
$(by_nginx 413 '')|requests were answered by nginx itself, which does not know the key (413: 1)
$(by_nginx 503 502 'POST //inventory_receipt')|requests were answered by nginx itself, which does not know the key (503: 1)
$(by_nginx 503 502 'POST /./inventory_receipt//')|requests were answered by nginx itself, which does not know the key (503: 1)
$(by_nginx 503 - 'POST /Inventory_Receipt')|requests were answered by nginx itself, which does not know the key (503: 1)
$(by_nginx 413 - 'POST /inventory_receipt#a')|requests were answered by nginx itself, which does not know the key (413: 1)
$(by_nginx 503 - -)|requests were answered by nginx itself, which does not know the key (503: 1)
$(by_nginx 503 - | sed 's/.* client=/client=/')|lines of these logs are cut off or damaged
$(by_nginx 503 - | jq -Rc '{message: .}')|lines of these logs are cut off or damaged
END
    # What journald and rsyslog report; journald names whose lines it has dropped.
    while IFS='|' read -r count name; do
        { cat "$made.known" && printf 'Nov 28 10:00:00 host %s\n' "$name"; } >"$made"
        missing "$made"
        echo "$name: $status $stderr"
        [[ $status == 3 && $stderr == *"receiptd: $count lines of these logs were dropped"* ]]
    done <<'END'
1200|systemd-journald[300]: Suppressed 1200 messages from receiptd@1.service
70|rsyslogd: imjournal: 70 messages lost due to rate-limiting (20000 allowed within 600 seconds)
1|rsyslogd: imuxsock[pid 7]: begin to drop messages due to rate-limiting
END
    # The worker's own answers, which its log has, and what is no delivery.
    {
        cat "$made.known"
        by_nginx 201 201
        by_nginx 201 '502, 201'
        by_nginx 503 503
        by_nginx 503 '502, 503'
        by_nginx 422 '504, 422'
        by_nginx 499 201
        by_nginx 401 -
        by_nginx 502 502 'POST /inventory_receipts'
        by_nginx 502 502 'GET /inventory_receipt'
        by_nginx 502 502 'GET //inventory_receipt'
        by_nginx 404 - 'POST /Inventory_Receipt'
        by_nginx 201 '502, 201' -
        by_nginx 400 - -
        echo 'Nov 28 10:00:00 host systemd-journald[300]: Suppressed 9 messages from ssh.service'
    } >"$made"
    missing "$made"
    echo "$stderr"
    [[ $status == 0 && -z $stderr ]]
    # The same line in two logs is one, and a file that is named twice too.
    by_nginx 502 502 >"$made.nginx"
    line 5 503 twice >"$made"
    cp "$made.nginx" "$made.copy"
    cat "$made" >>"$made.copy"
    missing "$made" "$made.nginx" "$made.copy" "$made.nginx"
    [[ $status == 1 && $output == *'twice: got 503 1 times'*'Missing: 1 of 1 '* && $stderr == *'receiptd: 1 requests were answered by nginx itself'* ]]
}

@test "what a sender wrote is shown harmlessly, on one line" {
    local text
    {
        for text in '\u001b[2J' 'x\nMissing: 0 of 0' 'c1\u009b31m' 'ls\u2028p' 'rtl\u202e' 'del\u007f' "$(printf 'raw\x7f')"; do
            line 5 503 "\"$text\""
        done
    } >"$made"
    for text in '' --csv; do
        # shellcheck disable=SC2086 # none or one
        missing $text "$made"
        echo "$output"
        [[ $status == 1 && ${#lines[@]} == 8 ]]
        run -1 grep -P '[\x00-\x09\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{9f}\x{2028}\x{2029}\x{202e}]' <<<"$output"
        [[ $output == '' ]]
    done
    missing "$made"
    [[ $output == *'p "A 1" "x\u000aMissing: 0 of 0": got 503'* && $output == *'"\u001b[2J"'* && $output == *'"rtl\u202e"'* ]]
}

@test "as journalctl and others write a log, and with Windows' line ends" {
    local plain
    plain=$(line 5 503 any | sed 's/^<6>//')
    printf '%s\r\n' "$plain" >"$made.crlf"
    printf '__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1\nPRIORITY=4\nMESSAGE=%s\n_PID=7\n\n' "$plain" >"$made.export"
    jq -cn --arg message "$plain" '{__CURSOR: "s=1", MESSAGE: $message, _PID: "7"}' >"$made.json"
    printf 'Nov 28 10:00:00 host receiptd[7]: %s\n' "$plain" >"$made.syslog"
    printf '2026-11-28T10:00:00.000000000Z stderr F %s\n' "$plain" >"$made.container"
    for name in crlf export json syslog container; do
        missing "$made.$name"
        echo "$name: $output $stderr"
        [[ $status == 1 && -z $stderr && ${lines[0]} == 'p "A 1" any: got 503 1 times '* ]]
    done
    missing "$made".*
    [[ $status == 1 && ${lines[0]} == 'p "A 1" any: got 503 1 times '* ]]
    # Which leave a message out.
    printf '{"MESSAGE":null}\n' >>"$made.json"
    printf 'Nov 28 10:00:00 host receiptd[7]: [512B blob data]\n' >>"$made.syslog"
    for name in json syslog; do
        missing "$made.$name"
        [[ $status == 1 && $stderr == *'1 lines of these logs are cut off or damaged'* ]]
    done
}

# many LINES: of failed deliveries, compressed; every fourth one is another try for a receipt.
many() {
    python3 - "$1" <<'END' | gzip -1
import sys
for n in range(int(sys.argv[1])):
    print(f"time=2026-11-28T10:00:00.000Z level=warning msg=delivery request_id={n:032x} status=503 program_identifier=p "
          f"asn_number=a unit_identifier={n % (int(sys.argv[1]) * 3 // 4):0200d} key=k ms=12.000")
END
}

# peak_mb LOG: how much memory it takes at most to list what is missing in that log. The list is in the file made.
# shellcheck disable=SC2069 # its standard error is what is wanted
peak_mb() {
    "${worker_env[@]}" TMPDIR="$BATS_TEST_TMPDIR" python3 -c '
import resource, subprocess, sys
if subprocess.run(sys.argv[1:]).returncode != 1: sys.exit("not 1")
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, file=sys.stderr)' "$WORKER" missing "$1" 2>&1 >"$made"
}

@test "a log of any size is read in the same memory; how far it is, only a terminal is shown" {
    local small large
    many 80000 >"$made.small"
    many 240000 >"$made.large"
    small=$(peak_mb "$made.small")
    large=$(peak_mb "$made.large")
    echo "$small MB and $large MB"
    ((large < small + 10))
    [[ $(wc -l <"$made") == 180001 && $(tail -n 1 "$made") == 'Missing: 180000 of 180000 '* ]]
    [[ $(cut -d ' ' -f 3 "$made" | sort -u | wc -l) == 180001 && $(grep -c ' got 503 2 times' "$made") == 60000 ]]
    "${worker_env[@]}" TMPDIR="$BATS_TEST_TMPDIR" script -qefc "'$WORKER' missing --csv '$made.small' >'$made.csv'" /dev/null \
        </dev/null >"$made.terminal" 3>&- || [[ $? == 1 ]]
    grep -q 'reading \[[# ]*\] [0-9]* MB' "$made.terminal"
    grep -q 'comparing with the database' "$made.terminal"
    run ! grep -q reading "$made.csv"
    run -2 --separate-stderr "${worker_env[@]}" TMPDIR=/nonexistent "$WORKER" missing "$made.small"
    [[ $stderr == *'temporary file: No such file or directory; set TMPDIR'* && -z $output ]]
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
    grep -E -- "^returns SO00001234 \"?$unit-$1\"?: |^[^:]*: answered 4.* as $1;" <<<"$output"
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
    post '{"sku": fals'
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
    [[ $(lost 'with, \\"quotes\\" é') == *'; not in the database; '* ]]
    [[ $(lost "$malformed") == "(no key): answered 400 at "*'; not in the database; '* ]]
    [[ $(lost "$invalid") == "returns SO00001234 $unit-invalid: answered 422 at "*'; not in the database; '* ]]
    [[ ${lines[0]} == *"$gone"* && ${lines[9]} =~ ^'Missing: 8 of '[0-9]+' acknowledged deliveries, answered from 20'.*' to 20' ]]
    [[ ${lines[10]} == 'Replaced by later deliveries of the same receipts: 1' ]]
    # In whatever order, twice, compressed, from standard input, and by time.
    gzip -k "${logs[0]}"
    missing --acknowledged "${logs[1]}" "${logs[0]}.gz" "${logs[0]}" "${logs[2]}"
    [[ $status == 1 && ${#lines[@]} == 11 && ${lines[9]} == 'Missing: 8 of '* ]]
    run -1 "${worker_env[@]}" "$WORKER" missing --acknowledged < <(sort -r "${logs[@]:0:2}" | zstd -q)
    [[ ${lines[9]} == 'Missing: 8 of '* ]]
    rm "${logs[0]}.gz"
    missing --acknowledged --since "$since" "${logs[@]}"
    [[ $status == 1 && ${lines[9]} == 'Missing: 8 of 11 '* ]]
    missing --acknowledged --until "$since" "${logs[@]}"
    [[ $status == 0 && ${#lines[@]} == 1 ]]
    missing --acknowledged --since "$since" --until "$since" "${logs[@]}"
    [[ $status == 3 && $stderr == *'no acknowledged delivery was found in these logs, in that span of time' ]]
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
        run -3 --separate-stderr "${worker_env[@]}" "$name" "$WORKER" missing --acknowledged "$made"
        [[ $stderr == *"$name leaves acknowledged deliveries out of the logs"*'so deliveries may be missing'* ]]
    done
    run -0 "${worker_env[@]}" RECEIPTD_LOG_DELIVERIES=all "$WORKER" missing --acknowledged "$made"
    # Whatever the settings are by now: what the log itself shows.
    start_worker "$BATS_TEST_TMPDIR/sampled" RECEIPTD_LOG_DELIVERIES=1/7 -- --listen "$BATS_TEST_TMPDIR/socket"
    end_worker
    missing --acknowledged "$made" "$BATS_TEST_TMPDIR/sampled"
    [[ $status == 3 && $stderr == *'a worker was started with RECEIPTD_LOG_DELIVERIES'* ]]
    for name in '<4>time=2026-11-28T10:00:00.000Z level=warning msg="lines of this log were dropped" dropped=7' \
        'time=2026-11-28T10:00:00.000Z level=info msg=delivery request_id=00000000000000000000000000000001 status=201 res'; do
        missing --acknowledged "$made" <(printf '%s\n' "$(<"$made")" "$name")
        [[ $status == 3 && $output == 'Missing: 0 of 1 '* && $stderr == *'; which deliveries they show'*' is unknown'* ]]
    done
    # No line is cut so that it is another one's.
    sed -E 's/(unit_identifier=[^ ]*)[^ ] key=.*/\1/' "$made" >"$made.cut"
    missing --acknowledged "$made" "$made.cut"
    [[ $status == 3 && $output == 'Missing: 0 of 1 '* && $stderr == *'1 lines of these logs are cut off or damaged'* ]]
    missing --acknowledged <(head -c -1 "$made.cut" | cat - "$made") "$made"
    [[ $status == 3 && $output == 'Missing: 0 of 1 '* && $stderr == *'1 lines of these logs are cut off or damaged'* ]]
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
    [[ $status == 1 && ${#lines[@]} == 2 && $output == 'returns "\u0001\u0001'*'Missing: 1 of 1 '* ]]
}

@test "compressed logs are read, and what is no log, or not whole, is no all-clear" {
    local options name
    line 5 503 any >"$made"
    gzip <"$made" >"$made.gz"
    zstd -q <"$made" >"$made.zst"
    line 4 503 any | gzip >"$made.later.gz"
    for name in gz zst; do
        missing "$made.$name"
        [[ $status == 1 && -z $stderr && ${lines[1]} == 'Missing: 1 of 1 '* ]]
    done
    cat "$made.gz" "$made.zst" "$made.later.gz" "$made" >"$made.all"
    missing "$made.all"
    [[ $status == 1 && -z $stderr && $output == *' got 503 2 times '* ]]
    head -c -9 "$made.gz" >"$made.cut.gz"
    head -c -3 "$made.zst" >"$made.cut.zst"
    printf '\xfd7zXZ\0\0\4' >"$made.xz"
    printf 'BZh91AY' >"$made.bz2"
    printf '\x04\x22\x4d\x18d' >"$made.lz4"
    head -c 100000 /dev/urandom >"$made.random"
    echo 'another log' >"$made.other"
    : >"$made.empty"
    line 5 201 known ' result=created' >"$made.known"
    store known 5
    sql "update receipts set request_id = '$(sed 's/.*request_id=\([0-9a-f-]*\).*/\1/' "$made.known")' where unit_identifier = 'known'"
    for options in '' --acknowledged; do
        for name in xz bz2 lz4 random other none; do
            # The others are still read.
            # shellcheck disable=SC2086 # none or one
            missing $options "$made.$name" "$made.known"
            echo "$name: $status $output $stderr"
            [[ $status == 3 && $output == 'Missing: 0 of '* && $stderr == *"receiptd: $made.$name: "*'1 files could not be read completely'* ]]
        done
        # shellcheck disable=SC2086
        missing $options "$made.empty"
        [[ $status == 3 ]]
        # shellcheck disable=SC2086
        missing $options "$BATS_TEST_TMPDIR" "$made.known"
        [[ $status == 3 && $stderr == *"$BATS_TEST_TMPDIR: Is a directory"* ]]
    done
    sql "delete from receipts where unit_identifier = 'known'"
    for name in gz zst; do
        missing "$made.cut.$name"
        [[ $status == [13] && $stderr == *"$made.cut.$name: its end is missing"* ]]
    done
    missing --acknowledged "$made.empty"
    [[ $stderr == *'no acknowledged delivery was found in these logs'*'these logs are empty'* ]]
    missing "$made.xz"
    [[ $stderr == *"it is compressed by xz; decompress it"* ]]
    missing --acknowledged "$made"
    [[ $status == 3 && $stderr == *'no acknowledged delivery was found in these logs' ]]
    # One of two workers had nothing to do.
    missing "$made" "$made.empty"
    [[ $status == 1 && -z $stderr ]]
}

@test "what cannot be read, or asked, is no all-clear" {
    missing "$BATS_TEST_TMPDIR/none"
    [[ $status == 3 && $stderr == *"$BATS_TEST_TMPDIR/none: No such file"* ]]
    line 5 201 any ' result=created' >"$made"
    run -3 "${worker_env[@]}" RECEIPTD_LOG_LEVEL=error "$WORKER" missing "$made"
    [[ $output == *'RECEIPTD_LOG_LEVEL=error leaves deliveries that get 503 out of the logs'* ]]
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
