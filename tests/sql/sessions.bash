# Sessions of the service that compete for a row; sourced by run.
# shellcheck shell=bash disable=SC2154 # here and scratch are run's

declare -A to=() from=()

# open NAME USER: a session that takes statements from `tell` and whose lines `hear` gets.
open() {
    local name=$1 in out
    mkfifo "$scratch/$name.in" "$scratch/$name.out"
    # Opened for reading and writing, so that neither side waits for the other to open it.
    exec {in}<>"$scratch/$name.in" {out}<>"$scratch/$name.out"
    to[$name]=$in from[$name]=$out
    psql -XqAt -U "$2" <"$scratch/$name.in" >"$scratch/$name.out" 2>&1 {in}>&- {out}>&- &
    # Longer than the service waits for a lock: here it is seen waiting, and then goes on.
    tell "$name" "set lock_timeout = '10min';" 'set statement_timeout = 0;' "set test.program = 'concurrency';" "\\i $here/include/deliver.psql"
}

tell() {
    local name=$1
    shift
    printf '%s\n' "$@" >&"${to[$name]}"
}

# Prints the next line that a session says; fails when it says nothing for minutes.
hear() {
    read -r -t 300 -u "${from[$1]}" || return 1
    echo "$REPLY"
}

hears() {
    local line
    line=$(hear "$1") || line='nothing'
    [[ $line == "$2" ]] || {
        echo "heard: $line, not: $2"
        return 1
    }
}

# Waits until a session of the database waits for another one's lock.
wait_for_lock() {
    await 300 is_locked_out || { echo 'nobody waits for a lock' && return 1; }
}

is_locked_out() {
    [[ $(sql -c "select count(*) from pg_stat_activity where wait_event_type = 'Lock'") != 0 ]]
}

deliver() {
    echo "select pg_temp.deliver('$1');"
}

request() {
    printf '00000000-0000-4000-8000-%012d\n' "$1"
}

reject() {
    echo "execute reject_1('$(request 1)', 'local', 400, '$1', null, '', null, null, null, null, '$(request 1)', 1, null);"
}

# compete WHAT FIRST ITS-OUTCOME END SECOND ITS-OUTCOME: one session delivers FIRST and does not end its transaction;
# the other one's SECOND waits for it; END ends the first transaction; then the other one has its outcome.
compete() {
    # Sessions that are out of step would only wait for each other from here on.
    ((failed == failed_before)) || return 0
    tell one 'begin;' "$(deliver "$2")"
    check "$1: the first is ${3//[\{\}]/}" hears one "$3"
    tell two "$(deliver "$5")"
    check "$1: the second waits" wait_for_lock
    tell one "$4;"
    check "$1: the second is ${6//[\{\}]/} after $4" hears two "$6"
}

test_two_sessions() {
    local failed_before=$failed
    open one receiptd_writer
    open two receiptd_writer
    compete 'two create the same' \
        '{"request": 1, "unit_identifier": "U1"}' '{created}' commit \
        '{"request": 2, "unit_identifier": "U1"}' '{unchanged}'
    compete 'two create one key with other content' \
        '{"request": 3, "unit_identifier": "U2"}' '{created}' commit \
        '{"request": 4, "unit_identifier": "U2", "sku": "S2"}' '{revised}'
    compete 'the one that created is undone' \
        '{"request": 5, "unit_identifier": "U3"}' '{created}' rollback \
        '{"request": 6, "unit_identifier": "U3", "sku": "S2"}' '{created}'
    compete 'two revise' \
        '{"request": 7, "unit_identifier": "U1", "sku": "S2"}' '{revised}' commit \
        '{"request": 8, "unit_identifier": "U1", "sku": "S3"}' '{revised}'
    compete 'two revise to the same' \
        '{"request": 9, "unit_identifier": "U3"}' '{revised}' commit \
        '{"request": 10, "unit_identifier": "U3"}' '{unchanged}'
    compete 'the same delivery by two workers' \
        '{"request": 11, "unit_identifier": "U4"}' '{created}' commit \
        '{"request": 11, "unit_identifier": "U4"}' '{"created before"}'

    # Of a revision the acknowledgement was lost: the delivery is tried again under its request id.
    tell one "$(deliver '{"request": 20, "unit_identifier": "U5"}')"
    check 'a receipt to revise twice' hears one '{created}'
    tell one "$(deliver '{"request": 21, "unit_identifier": "U5", "sku": "S2"}')"
    check 'the first revision' hears one '{revised}'
    compete 'a revision again while another one replaces it' \
        '{"request": 22, "unit_identifier": "U5", "sku": "S3"}' '{revised}' commit \
        '{"request": 21, "unit_identifier": "U5", "sku": "S2"}' '{"revised before"}'
    compete 'again while yet another one does' \
        '{"request": 23, "unit_identifier": "U5", "sku": "S4"}' '{revised}' commit \
        '{"request": 21, "unit_identifier": "U5", "sku": "S2"}' '{"revised before"}'
    compete 'again while another one is undone' \
        '{"request": 24, "unit_identifier": "U5", "sku": "S5"}' '{revised}' rollback \
        '{"request": 23, "unit_identifier": "U5", "sku": "S4"}' '{"revised before"}'
    compete 'the same revision by two workers' \
        '{"request": 25, "unit_identifier": "U5", "sku": "S6"}' '{revised}' commit \
        '{"request": 25, "unit_identifier": "U5", "sku": "S6"}' '{"revised before"}'
    compete 'a first try that is undone' \
        '{"request": 26, "unit_identifier": "U5", "sku": "S7"}' '{revised}' rollback \
        '{"request": 26, "unit_identifier": "U5", "sku": "S7"}' '{revised}'

    ((failed == failed_before)) || return 0
    open hand postgres
    tell hand 'begin;' "update inventory.receipts set sku = 'by hand' where unit_identifier = 'U4';" '\echo done'
    check 'a correction by hand is under way' hears hand 'done'
    tell two "$(deliver '{"request": 12, "unit_identifier": "U4", "sku": "S2"}')"
    check 'a delivery waits for it' wait_for_lock
    tell hand 'commit;'
    check 'and revises it' hears two '{revised}'
    tell hand 'begin;' "update inventory.receipts set sku = 'by hand' where unit_identifier = 'U5';" '\echo done'
    check 'another correction by hand is under way' hears hand 'done'
    tell two "$(deliver '{"request": 26, "unit_identifier": "U5", "sku": "S7"}')"
    check 'the revision that it corrects, tried again, waits for it' wait_for_lock
    tell hand 'commit;'
    check 'and does not come back over it' hears two '{"revised before"}'

    tell one 'begin;' "$(reject first)"
    check 'a refused delivery is kept' hears one "$(request 1)|t"
    tell two "$(reject second)"
    check 'the same one waits for it' wait_for_lock
    tell one 'commit;'
    check 'and is told that it is kept' hears two "$(request 1)|t"
    check 'which it is once, and counted once' \
        test "$(sql -c "delete from rejected_receipts returning deliveries || ' ' || message")" == '1 second'

    check 'the history of all of them is exact' test "$(sql -c "
        select unit_identifier, array_agg(revision || ' ' || sku order by revision)
        from (
            select unit_identifier, revision, sku from receipts where program_identifier = 'concurrency'
            union all
            select unit_identifier, revision, sku from receipt_revisions where program_identifier = 'concurrency'
        ) as version
        group by unit_identifier
        order by unit_identifier")" == "\
U1|{\"0 S123456\",\"1 S2\",\"2 S3\"}
U2|{\"0 S123456\",\"1 S2\"}
U3|{\"0 S2\",\"1 S123456\"}
U4|{\"0 S123456\",\"1 by hand\",\"2 S2\"}
U5|{\"0 S123456\",\"1 S2\",\"2 S3\",\"3 S4\",\"4 S6\",\"5 S7\",\"6 by hand\"}"
}

# Four sessions deliver batches of the same two keys, each with content of its own, as fast as they can.
test_many_sessions() {
    local session batch request pids=() each=50
    for session in 1 2 3 4; do
        {
            echo "set lock_timeout = '10min'; set statement_timeout = 0;"
            echo "set test.program = 'many';"
            echo "\\i $here/include/deliver.psql"
            for ((batch = 0; batch < each; batch++)); do
                request=$((1000 * session + 2 * batch))
                echo "select unnest(pg_temp.deliver(
                    '{\"request\": $request, \"unit_identifier\": \"U1\", \"sku\": \"$request\"}',
                    '{\"request\": $((request + 1)), \"unit_identifier\": \"U2\", \"sku\": \"$request\"}'));"
            done
        } >"$scratch/session-$session.sql"
        sql -U receiptd_writer -f "$scratch/session-$session.sql" >"$scratch/session-$session.out" 2>&1 &
        pids+=($!)
    done
    for session in 1 2 3 4; do
        check "session $session of four at once has no error" wait "${pids[session - 1]}"
    done
    check 'each key was created once and revised by every other delivery' \
        test "$(cat "$scratch"/session-?.out | sort | uniq -c | tr -s ' \n' ' ')" \
        == " 2 created $((2 * (4 * each - 1))) revised "
    check 'the revisions have no gap and the history is complete' test "$(sql -c "
        select
            unit_identifier,
            max(r.revision),
            count(h.*),
            count(distinct h.request_id),
            count(distinct h.sku),
            min(h.revision),
            max(h.revision)
        from receipts as r
        join receipt_revisions as h using (program_identifier, asn_number, unit_identifier)
        where program_identifier = 'many'
        group by unit_identifier
        order by unit_identifier")" == "\
U1|199|199|199|199|0|198
U2|199|199|199|199|0|198"
}

# is_told SESSION WHAT STATEMENT: what the session says to it.
is_told() {
    tell "$1" "$3"
    hears "$1" "$2"
}

older() {
    echo "select (pg_temp.deliver('{\"request\": $1, \"unit_identifier\": \"$2\", \"extra\": {\"color\": \"$3\"}}'))[1];"
}

newer() {
    echo "select pg_temp.deliver_newer($1, '$2', '$3');"
}

# race WHAT SESSION ITS-STATEMENT ITS-OUTCOME END SESSION ITS-STATEMENT ITS-OUTCOME
race() {
    ((failed == failed_before)) || return 0
    tell "$2" 'begin;' "$3"
    check "$1: the first is $4" hears "$2" "$4"
    tell "$6" "$7"
    check "$1: the second waits" wait_for_lock
    tell "$2" "$5;"
    check "$1: the second is $8 after $5" hears "$6" "$8"
}

as_owner() {
    sql -U receiptd_migrator -c begin -c 'set local role receiptd_owner' "${@/#/-c}" -c commit
}

# deliver_both COUNT NAME: sessions of both programs, whose ids go into beside, deliver what is stored, over and over; what
# they are told is in NAME-*.out.
deliver_both() {
    local program i
    for program in older newer; do
        {
            printf '%s\n' "set lock_timeout = '10s';" "set test.program = 'concurrency';" "\\i $here/include/deliver.psql" \
                "\\i $here/include/newer.psql"
            for ((i = 0; i < $1; i++)); do
                "$program" $((700000 + RANDOM)) "L$((i % 40))" red
            done
        } >"$scratch/$2-$program.sql"
        sql -U receiptd_writer -f "$scratch/$2-$program.sql" >"$scratch/$2-$program.out" 2>&1 &
        beside+=($!)
    done
}

# A field that is moved out of extra and back, while programs with and without it deliver.
test_moved_field() {
    local failed_before=$failed i beside=()
    open old receiptd_writer
    open new receiptd_writer
    open older receiptd_writer
    tell new "\\i $here/include/newer.psql"
    for ((i = 0; i < 40; i++)); do
        tell old "$(older $((600 + i)) "L$i" red)"
        check "a receipt from before the field: L$i" hears old created
    done
    check 'a field is added' as_owner 'alter table inventory.receipts add column color text' \
        'alter table inventory.receipt_revisions add column color text' "select inventory.add_field('color', '{color}')"
    race 'an older program creates, a newer one delivers the same' old "$(older 501 M1 red)" created commit new "$(newer 502 M1 red)" unchanged
    race 'a newer one creates, an older one delivers the same' new "$(newer 503 M2 red)" created commit old "$(older 504 M2 red)" unchanged
    race 'an older one revises, a newer one to the same' old "$(older 505 M2 blue)" revised commit new "$(newer 506 M2 blue)" unchanged
    race 'that is undone' old "$(older 507 M2 green)" revised rollback new "$(newer 508 M2 green)" revised
    race 'a newer one revises, an older one to the same' new "$(newer 509 M1 blue)" revised commit old "$(older 510 M1 blue)" unchanged
    race 'and to something else' new "$(newer 511 M1 red)" revised commit old "$(older 512 M1 green)" revised

    tell old 'begin;' "$(older 513 L7 blue)"
    check 'a transaction has a row locked' hears old revised
    deliver_both 200 there
    sql -U receiptd_migrator -c "call inventory.move_field('color', 10)" &
    beside+=($!)
    check 'all others are moved beside it' await 20 are_moved 1
    check 'which is not the end' test -z "$(sql -c 'select from inventory.moved_fields where moved_at is not null')"
    tell older "$(older 518 K1 red)" 'begin;' "$(older 519 K1 blue)"
    check 'meanwhile an older program creates a receipt' hears older created
    check 'and has it locked' hears older revised
    tell old 'commit;'
    check 'then the first one is moved too' await 20 are_moved 0
    check 'and that is the end: it does not wait for receipts that are newer than it' await 20 is_moved
    tell older 'commit;'
    check 'nobody had an error meanwhile' wait "${beside[@]}"
    check 'nor was told anything but unchanged, except of the row that differs' \
        test "$(cat "$scratch"/there-*.out | sort | uniq -c | tr -s ' \n' ' ')" == ' 1 revised 399 unchanged '
    check 'which is in its place' test "$(sql -c "select count(*) from inventory.receipts
        where program_identifier = 'concurrency' and unit_identifier like 'L%' and color = 'red' and extra is null")" = 40

    check 'the field returns' as_owner "select inventory.return_field('color', '{color}')"
    beside=()
    deliver_both 200 back
    check 'its values move back' sql -U receiptd_migrator -c "call inventory.move_field('color', 10)"
    check 'nobody had an error then' wait "${beside[@]}"
    check 'nor was told anything but unchanged' test "$(sort -u "$scratch"/back-*.out)" = unchanged
    check 'the column is dropped' as_owner "select inventory.remove_field('color')"
    check 'the older program finds its receipts' is_told old unchanged "$(older 514 L1 red)"
    check 'and that of the newer one' is_told old unchanged "$(older 515 M2 green)"
    check 'the history is exact' test "$(sql -c "
        select unit_identifier, string_agg(revision || ' ' || (extra ->> 'color'), ',' order by revision)
        from (
            select unit_identifier, revision, extra from receipts where program_identifier = 'concurrency'
            union all
            select unit_identifier, revision, extra from receipt_revisions where program_identifier = 'concurrency'
        ) as version
        where unit_identifier like 'M%'
        group by unit_identifier
        order by unit_identifier")" == "\
M1|0 red,1 blue,2 red,3 green
M2|0 red,1 blue,2 green"
    check 'and no receipt that was delivered over and over has one' test "$(sql -c "select count(*) from receipt_revisions
        where program_identifier = 'concurrency' and unit_identifier like 'L%' and unit_identifier <> 'L7'")" = 0
    check 'the move ends' as_owner "select inventory.end_move('color')"
    sql -c "delete from inventory.receipts where program_identifier = 'concurrency' and unit_identifier ~ '^[LM]'"
}

# are_moved LEFT: all but so many of those from before the field are.
are_moved() {
    [[ $(sql -c "select count(*) from inventory.receipts
        where program_identifier = 'concurrency' and unit_identifier like 'L%' and extra is not null") == "$1" ]]
}

is_moved() {
    [[ $(sql -c 'select count(*) from inventory.moved_fields where moved_at is not null') == 1 ]]
}
