# The recipes of sql/README.md that are shell commands, as they stand there. tests/sql/readme.bash has the statements.

setup_file() {
    load common
    start_instance rejected
}

setup() {
    load common
    use_instance rejected
    project=$root/sql
    # shellcheck source=../sql/readme.bash
    source "$root/tests/sql/readme.bash"
    sql 'truncate inventory.rejected_receipts'
    unit=recipes-$BATS_TEST_NUMBER
    cd "$BATS_TEST_TMPDIR" || return
}

# follow WORDS [NAME=VALUE...]: the block that has the words, run in this folder.
follow() {
    local text
    text=$(block "$1")
    env CURL_CA_BUNDLE="$RECEIPTD_CACERT" PATH="$BATS_TEST_TMPDIR:$PATH" "${@:2}" bash -euo pipefail -c "$text"
}

# deliver_some: one of each answer; sets ids.
deliver_some() {
    ids=()
    local body
    for body in "$(receipt "$unit")" "$(receipt "$unit")" "$(receipt "$unit" '.sku = "status=500 result=lost"')" \
        "$(receipt "$unit" '.initial_condition = "Q"')" '{'; do
        post "$body"
        ids+=("$(header X-Request-Id)")
    done
    [[ $code == 400 ]]
}

# lines_at FILE: each delivery's line as if it were of 14:05; and again of a moment too early and one too late.
lines_at() {
    local id time
    for id in "${ids[@]}"; do
        eventually grep -hq "request_id=$id " "$@"
        for time in 13:59:59 14:05:00 14:10:00; do
            grep -h "request_id=$id " "$@" | sed "s/^time=[^ ]*T[^Z+]*/time=2026-11-28T$time/"
        done
    done
}

@test "what the workers answered between two times" {
    deliver_some
    lines_at "$state"/log/worker-[12].log >lines
    echo 'time=2026-11-28T14:05:00.000Z level=info msg=draining' >>lines
    printf '#!/bin/sh\ncat "%s/lines"\n' "$BATS_TEST_TMPDIR" >journalctl
    chmod +x journalctl
    run -0 follow 'journalctl -u'
    diff -b - <(tr -s ' ' <<<" $output") <<'END'
 1 200 revised
 1 200 unchanged
 1 201 created
 1 400
 1 422
END
}

@test "what nginx answered between two times" {
    deliver_some
    request -X GET "$RECEIPTD_URL"
    ids+=("$(header X-Request-Id)")
    lines_at "$state"/log/nginx-receiptd.log >lines
    text=$(block '/var/log/nginx/receiptd.log |')
    run -0 bash -euo pipefail -c "${text/'/var/log/nginx/receiptd.log'/lines}"
    diff -b - <(tr -s ' ' <<<" $output") <<'END'
 2 200
 1 201
 1 400
 1 422
END
}

@test "a list of rejections for the vendor" {
    post "$(receipt "$unit" '.initial_condition = "Q" | del(.sku)')" -H 'X-Optiturn-Id: 2f6c1d0a'
    first=$(header X-Request-Id)
    post '{'
    second=$(header X-Request-Id)
    post "$(receipt "$unit" 'del(.upc, .sku)')"
    sql "update inventory.rejected_receipts set resolved_at = now(), resolution = 'a test' where request_id = :'id'" id="$(header X-Request-Id)"
    follow 'csv -c'
    [[ $(wc -l <rejections.csv) == 3 ]]
    run -0 cut -d , -f 2- rejections.csv
    [[ ${lines[0]} == 'request_id,optiturn_id,program_identifier,asn_number,unit_identifier,status,message,errors' ]]
    [[ ${lines[1]} == "$first,2f6c1d0a,returns,SO00001234,$unit,422,Validation Failed,sku missing_field; initial_condition invalid_value" ]]
    [[ ${lines[2]} == "$second,,,,,400,"* ]]
}

@test "a rejected delivery is repaired and submitted" {
    post "$(receipt "$unit" 'del(.tracking_number) | .initial_condition = "Q"' | sed 's/}$/,"tracking_number":9400111899223197428490,"future":1.50}/')"
    expect 422
    id=$(header X-Request-Id)
    run -0 follow 'repaired.json' ID="$id" KEY="$CLIENT_API_KEY"
    [[ $output == *'"result":"created"'* ]]
    [[ $(sql "select concat_ws(' ', initial_condition, tracking_number, extra) from receipts where unit_identifier = :'unit'" unit="$unit") == 'N 9400111899223197428490 {"future": 1.50}' ]]
    follow 'repaired by hand' ID="$id"
    [[ $(sql "select resolution from inventory.rejected_receipts where request_id = :'id'" id="$id") == 'repaired by hand' ]]
    # A body that is still wrong is rejected once more, and the command fails.
    post "$(receipt "$unit" '.initial_condition = "Q" | del(.sku)')"
    run ! follow 'repaired.json' ID="$(header X-Request-Id)" KEY="$CLIENT_API_KEY"
}
