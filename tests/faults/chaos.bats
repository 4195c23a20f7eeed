# Faults at random, from a seed, in rounds: SECS (12) seconds in all, SEED (1). After each round everything is healed,
# the load's retries come to their end, and what was told is compared with what is stored. All the while a reader follows
# the feed, and reports are counted: in the end its copy, and they, are what the table says.

readonly round_s=20

# Those that can be drawn, each with a random number as its argument.
readonly faults_to_draw=(
    kill_worker drain_worker restart_fast restart_immediately terminate_sessions cancel_statements read_only
    reload_nginx reload_keys cut_connections cut_after_commits hold_answer burst
    lock lock_revisions lock_rejections lock_some_rows fsync_off commit_unflushed commit_unflushed_for_role
    stall_log slow_clients by_hand
    triggers_off triggers_off_by_setting row_security warnings warnings_hidden no_standby wait_cancelled publish_all
)

setup() {
    load faults
    use_faulty_instance shared
    start_proxy
    log_through_readers "PGHOST=$proxy_folder" RECEIPTD_DEADLINE_MS=2000 RECEIPTD_QUEUE_MAX=32
    # So that the server's setting counts, also in sessions that are open.
    sql "alter role receiptd_writer reset synchronous_commit"
    # One that stands by would have work only while the other one is gone.
    share_requests
    feed=$root/tests/sql/include
    sql "$(<"$feed/begin_copy.sql")"
}

# What was found wrong can be looked into: the records and logs are kept.
teardown() {
    local kept
    if [[ -z ${BATS_TEST_COMPLETED-} ]]; then
        kept=$(mktemp -d "${E2E_SCRATCH%/*}/receiptd-chaos-seed-$seed.XXXXXX")
        cp -r "$BATS_TEST_TMPDIR" "$state/log" "$proxy_folder" "$kept"
        psql -Xq -f - >"$kept/rows" <<<'select to_json(r) from receipts r; select to_json(r) from receipt_revisions r;
            select to_json(r) from rejected_receipts r' || :
        say "records, logs and rows are kept in $kept"
    fi
    rm -f "$BATS_TEST_TMPDIR/following"
    heal
    spare_worker
    log_directly
    psql -Xq -c 'set client_min_messages = warning' -f "$root/sql/roles.sql"
}

# Shown at once when it was asked for, else only with a failure.
say() {
    printf '# %(%H:%M:%S)T %s\n' -1 "$*" >&"${CHAOS_OUTPUT:-1}"
}

kill_worker() { replace_worker $(($1 % 2 + 1)) KILL; }
drain_worker() { replace_worker $(($1 % 2 + 1)) TERM; }
restart_fast() { stop_postgresql fast && sleep $(($1 % 3)) && start_postgresql; }
restart_immediately() { stop_postgresql immediate && sleep $(($1 % 3)) && start_postgresql; }
terminate_sessions() { sql "select count(pg_terminate_backend(pid)) $of_workers" >/dev/null; }
cancel_statements() { sql "select count(pg_cancel_backend(pid)) $of_workers" >/dev/null; }
lock() { lock_other receipts "$1"; }
lock_revisions() { lock_other receipt_revisions "$1"; }
lock_rejections() { lock_other rejected_receipts "$1"; }
reload_keys() { kill -HUP "$(worker_pid 1)" "$(worker_pid 2)"; }
cut_connections() { kill -USR2 "$proxy"; }
hold_answer() { spoil_next "$( (($1 % 2)) && echo hold || echo half)"; }

read_only() {
    set_postgresql default_transaction_read_only on
    sleep $(($1 % 3 + 1))
    set_postgresql default_transaction_read_only off
}

# lock_other TABLE ARGUMENT
lock_other() {
    in_background sql "begin; lock table inventory.$1 in access exclusive mode;
        select pg_sleep($(($2 % 3)).$(($2 % 7 + 3))); commit"
}

# Of those that came in lately, which are delivered again and revised.
lock_some_rows() {
    in_background sql "begin;
        select from inventory.receipts where received_at > now() - interval '20 s' and program_identifier like 'load-%'
            order by md5(unit_identifier || '$1') limit $(($1 % 12 + 1)) for update;
        select pg_sleep($(($1 % 3)).$(($1 % 5 + 5))); commit"
}

fsync_off() {
    set_postgresql fsync off
    sleep "0.$(($1 % 9 + 1))"
    set_postgresql fsync on
}

# A crash would lose what is told meanwhile.
commit_unflushed() {
    set_postgresql synchronous_commit off
    crash_perhaps "$1"
    set_postgresql synchronous_commit on
}

commit_unflushed_for_role() {
    sql "alter role receiptd_writer set synchronous_commit = off"
    terminate_sessions
    crash_perhaps "$1"
    sql "alter role receiptd_writer reset synchronous_commit"
}

crash_perhaps() {
    sleep "0.$(($1 % 9 + 1))"
    (($1 % 2)) || { stop_postgresql immediate && start_postgresql; }
}

# What a DBA leaves behind for a moment. A lock that is not available is another draw's.
triggers_off() {
    sql "set lock_timeout = '2s'; alter table inventory.receipts disable trigger receipts_keep_revision" || return 0
    sleep "0.$(($1 % 9 + 1))"
    sql "alter table inventory.receipts enable trigger receipts_keep_revision"
    # Cursors from before it are refused.
    sql "$(<"$feed/begin_copy.sql")"
}

triggers_off_by_setting() {
    set_postgresql session_replication_role replica
    sleep "0.$(($1 % 9 + 1))"
    set_postgresql session_replication_role origin
}

row_security() {
    sql "set lock_timeout = '2s'; alter table inventory.receipts enable row level security" || return 0
    sleep "0.$(($1 % 9 + 1))"
    sql "alter table inventory.receipts disable row level security"
}

warnings() {
    sql "set lock_timeout = '2s';
        create or replace function public.warns() returns trigger language plpgsql as \$\$
            begin raise warning 'merchant of % is not in the list', new.unit_identifier; return new; end \$\$;
        create or replace trigger warns before insert or update on inventory.receipts
            for each row execute function public.warns()" || return 0
    sleep "$(($1 % 3)).5"
    sql "drop trigger warns on inventory.receipts"
}

warnings_hidden() {
    sql "alter role receiptd_writer set client_min_messages = error"
    terminate_sessions
    sleep "0.$(($1 % 9 + 1))"
    sql "alter role receiptd_writer set client_min_messages = warning"
    terminate_sessions
}

# Commits wait until the name is taken away.
no_standby() {
    set_postgresql synchronous_standby_names missing
    sleep "$(($1 % 4)).5"
    set_postgresql synchronous_standby_names ''
}

# Those that wait are cancelled: committed, and not acknowledged.
wait_cancelled() {
    set_postgresql synchronous_standby_names missing
    sleep "0.$(($1 % 9 + 1))"
    sql "select count(pg_cancel_backend(pid)) $of_workers and wait_event = 'SyncRep'" >/dev/null
    sleep "0.$(($1 % 9 + 1))"
    set_postgresql synchronous_standby_names ''
}

publish_all() {
    sql "set client_min_messages = error; create publication everything for all tables"
    sleep "$(($1 % 2)).5"
    sql "drop publication everything"
}

# Nobody reads what a worker logs.
stall_log() {
    local reader
    # It may be on its way, after its worker was killed.
    reader=$(log_reader $(($1 % 2 + 1))) && kill -STOP "$reader" || return 0
    sleep "$(($1 % 3)).5"
    kill -CONT "$reader"
}

slow_clients() {
    in_background python3 "$faults/crowd.py" "$state/run/worker-$(($1 % 2 + 1)).sock" slow $(($1 % 6 + 2)) $(($1 % 4 + 2))
}

# What a DBA does: rows that come, are corrected and go.
by_hand() {
    local some="unit_identifier in (select unit_identifier from inventory.receipts where program_identifier = 'by hand'
        order by md5(unit_identifier || '$1') limit 3)"
    sql "insert into inventory.receipts select (jsonb_populate_record(null::inventory.receipts, to_jsonb(r) - 'created_in'
            || jsonb_build_object('program_identifier', 'by hand', 'unit_identifier', '$1-' || n, 'revision', 0, 'created_in',
            pg_current_xact_id()::text))).* from (select * from inventory.receipts limit 1) as r, generate_series(1, 5) as n;
        update inventory.receipts set sku = 'S$1', initial_condition = 'A' where program_identifier = 'by hand' and $some;
        delete from inventory.receipts where program_identifier = 'by hand' and $some"
}

# Whatever becomes of the database: the next time it goes on from the cursor that it has kept.
follow() {
    while [[ -e $BATS_TEST_TMPDIR/following ]]; do
        psql -XAtq -v ON_ERROR_STOP=1 -v most=$((RANDOM % 50 + 1)) -f "$feed/follow.sql" || :
        psql -XAtq -c 'call inventory.refresh_totals()' || :
        sleep 0.1
    done
}

# Sets nothing and prints what is wrong: with the copy, and with what is counted for reports.
compare_readers() {
    psql -XAtq -v ON_ERROR_STOP=1 -v most=1000 -f "$feed/follow.sql" && psql -XAtq -v ON_ERROR_STOP=1 \
        -f "$feed/copy_differs.sql" -c "
        select 'asns', * from (
            (select program_identifier, asn_number, units from reporting.asns
                except select program_identifier, asn_number, count(*) from reporting.receipts group by 1, 2)
            union all
            (select program_identifier, asn_number, count(*) from reporting.receipts group by 1, 2
                except select program_identifier, asn_number, units from reporting.asns)) as asns
        union all
        select 'days', program_identifier, initial_condition, units from (
            (select day, program_identifier, initial_condition, sum(units) as units from reporting.receipts_by_day group by 1, 2, 3
                except select received_on, program_identifier, initial_condition, count(*) from reporting.receipts group by 1, 2, 3)
            union all
            (select received_on, program_identifier, initial_condition, count(*) from reporting.receipts group by 1, 2, 3
                except select day, program_identifier, initial_condition, sum(units) from reporting.receipts_by_day group by 1, 2, 3)
            ) as days"
}

cut_after_commits() {
    local n
    for ((n = 0; n < $1 % 5 + 1; n++)); do
        spoil_next cut
        sleep 0.1
    done
}

# More deliveries at a time than the queues take.
burst() {
    local record load
    load_in_background --deliveries 300 --connections 100 --new 2 --again 1 --revise 1 --invalid 1 --give-up 90 --complete \
        --seed "$1"
    bursts+=("$load $record")
}

# Sets fault: each of them comes before any comes again.
draw() {
    local n
    ((${#deck[@]} > 0)) || deck=("${faults_to_draw[@]}")
    n=$((RANDOM % ${#deck[@]}))
    fault=${deck[n]}
    deck=("${deck[@]:0:n}" "${deck[@]:n+1}")
}

# play SEED: one round.
play() {
    local ends=$((SECONDS + (SECS < round_s ? SECS : round_s))) fault argument pause follower differing
    bursts=() deck=()
    RANDOM=$1
    : >"$BATS_TEST_TMPDIR/following"
    in_background follow
    follower=$pid
    begin_load --seed "$1" --connections 12
    while ((SECONDS < ends)); do
        draw
        argument=$RANDOM pause=$((RANDOM % 50))
        say "$fault $argument"
        "$fault" "$argument"
        sleep "$(printf '0.%02d' "$pause")"
    done
    rm -f "$proxy_folder/next"
    end_sessions
    eventually serves
    rm "$BATS_TEST_TMPDIR/following"
    kill "$load"
    for load in "$load $record" "${bursts[@]}"; do
        read -r load record <<<"$load"
        finish_load >"$record.result" 2>&1 || fault=failed
        say "$(tr '\n' ' ' <"$record.result")"
    done
    [[ $fault != failed ]]
    eventually ended "$follower"
    differing=$(compare_readers)
    say "followed: $(sql "select count(*) || ' rows, ' || (select counted_at from inventory.totals_state) from reader.copy")"
    versions_are_kept || { say 'a version is missing in the history' && return 1; }
    [[ -z $differing ]] || { say "${differing:0:2000}" && return 1; }
    rm -f "$BATS_TEST_TMPDIR"/record.*
}

@test "faults at random: nothing is lost, doubled or made up" {
    local SECS=${SECS:-12} ends
    seed=${SEED:-1}
    ends=$((SECONDS + SECS))
    while ((SECONDS < ends)); do
        say "seed $seed"
        play "$seed"
        seed=$((seed + 1))
    done
}
