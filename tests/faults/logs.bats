# Standard error takes nothing: nobody reads it, or the disk is full. Then lines are lost, and nothing else is.

setup() {
    load faults
    use_faulty_instance shared
    folder=$(mktemp -d "$E2E_SCRATCH/logs.XXXXXX")
    chmod 755 "$folder"
    log=$folder/log
}

teardown() {
    workers_with
    heal
    ! mountpoint -q "$folder" || umount --lazy "$folder"
}

# The workers' standard error is the file log from now on. They are no other ones when the test is over, but for that.
log_to_file() {
    workers_with sh -c "exec \"\$0\" \"\$@\" 2>>'$log'"
}

# deliver_long COUNT: so many deliveries of one receipt, each with a line of 4 KB in the log; all are answered. Sets long,
# which these lines have in them.
deliver_long() {
    local codes
    new_unit
    long=$unit
    # shellcheck disable=SC2016 # a variable of jq's
    receipt "$unit" '("\u0001" * 230 + .unit_identifier) as $long | .unit_identifier = $long | .asn_number = $long |
        .program_identifier = $long' >"$BATS_TEST_TMPDIR/long"
    codes=$(curl -q -sS --noproxy '*' --max-time "$patience_s" --cacert "$RECEIPTD_CACERT" -o /dev/null -w '%{http_code}\n' \
        -H "X-Api-Key: $CLIENT_API_KEY" -H 'Content-Type: application/json' -H 'Expect:' \
        --data-binary "@$BATS_TEST_TMPDIR/long" "$RECEIPTD_URL?[1-$1]" 3>&- | sort | uniq -c | xargs)
    [[ $codes == "$(($1 - 1)) 200 1 201" ]] || { echo "answered: $codes"; return 1; }
}

# The sum of what the log says was dropped.
dropped() {
    local number sum=0
    while read -r number; do
        sum=$((sum + number))
    done < <(sed -n 's/^time=[^ ]* level=warning msg="lines of this log were dropped" dropped=//p' "$1")
    echo "$sum"
}

# knows_all FILE COUNT: every one of so many long deliveries has its line, or is among the dropped.
knows_all() {
    local lines
    lines=$(grep -c "$long.* ms=[0-9.]*\$" "$1" || :)
    echo "$lines lines, $(dropped "$1") dropped, of $2"
    ((lines > 0 && lines < $2 && lines + $(dropped "$1") == $2))
}

@test "nobody reads the log: every delivery is answered; when it is read again, it says how many lines were dropped" {
    local reader
    mkfifo -m 666 "$log"
    exec {reader}<>"$log"
    log_to_file
    deliver_long 1000
    in_background sh -c "cat <'$log' >'$folder/read'"
    eventually grep -q dropped= "$folder/read"
    knows_all "$folder/read" 1000
    serves
    eventually grep -q "$unit" "$folder/read"
    run -1 grep -v '^time=[^ ]* level=[a-z]* msg=' "$folder/read"
}

@test "nobody reads the log: under load nothing is lost or doubled, and a worker ends when it is told to" {
    local reader
    mkfifo -m 666 "$log"
    exec {reader}<>"$log"
    log_to_file
    deliver_long 1000
    begin_load --flawless
    sleep "$(lasts 1 60)"
    replace_worker 1 TERM
    end_load
}

@test "the log's disk is full: every delivery is answered; when there is room again, lines begin where they have to" {
    ((EUID == 0)) || skip 'only root can mount a small file system'
    mount -t tmpfs -o size=256k,mode=777 tmpfs "$folder"
    head -c 64k /dev/zero >"$folder/other"
    log_to_file
    deliver_long 100
    [[ $(df --output=avail "$folder" | tail -n 1) == *' 0' ]]
    rm "$folder/other"
    serves
    eventually grep -q "$unit" "$log"
    knows_all "$log" 100
    # Of one line a part was written, and what came next is not behind it.
    [[ $(grep 'msg=delivery' "$log" | grep -c -v ' ms=[0-9.]*$') == 1 ]]
    run -1 grep -v '^time=[^ ]* level=[a-z]* msg=' "$log"
}
