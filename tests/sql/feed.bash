# Readers of the feed beside those who write; sourced by run, after sessions.bash.
# shellcheck shell=bash disable=SC2154 # here and scratch are run's

# follow [MOST]: a reader that keeps a copy: takes pages until there are no more.
follow() {
    sql -v most="${1:-1000}" -f "$here/include/follow.sql"
}

# The copy has exactly what the table has.
is_exact() {
    local differing
    differing=$(sql -f "$here/include/copy_differs.sql")
    [[ -z $differing ]] || { echo "$differing" | head -n 5; return 1; }
}

begin_copy() {
    sql -f "$here/include/begin_copy.sql"
}

newest() {
    sql -c "select coalesce(max(received_at), '-infinity') from inventory.receipts where program_identifier = 'concurrency'"
}

# A transaction that began earlier is committed later: who loads what is newer than the newest that he has never sees it.
test_watermark() {
    local watermark loaded
    open early receiptd_writer
    open late receiptd_writer
    begin_copy
    tell early 'begin;' "$(deliver '{"request": 101, "unit_identifier": "early"}')"
    check 'one transaction is open' hears early '{created}'
    tell late "$(deliver '{"request": 102, "unit_identifier": "late"}')"
    check 'one that began later is committed' hears late '{created}'
    watermark=$(newest)
    follow
    check 'the feed does not yet tell what is not certain' test -z \
        "$(sql -c "select unit_identifier from reader.copy where unit_identifier in ('early', 'late')")"
    tell early 'commit;' '\echo done'
    check 'now the first one is committed' hears early 'done'
    loaded=$(sql -c "select unit_identifier from inventory.receipts
        where program_identifier = 'concurrency' and received_at > '$watermark'")
    check 'a load by received_at never sees it' test -z "$loaded"
    follow 1
    check 'the feed tells both' is_exact
}

# A transaction that began earlier creates again what a later one has deleted.
test_feed_interleaved() {
    open before receiptd_writer
    open after postgres
    by_hand "insert into inventory.receipts select (jsonb_populate_record(r, '{\"unit_identifier\": \"interleaved\"}')).*
        from inventory.receipts as r where unit_identifier = 'early'"
    begin_copy
    tell before 'begin;' "$(deliver '{"request": 111, "unit_identifier": "else"}')"
    check 'one transaction has its number' hears before '{created}'
    tell after "delete from inventory.receipts where unit_identifier = 'interleaved' returning 'deleted';"
    check 'a later one deletes a receipt' hears after deleted
    tell before "$(deliver '{"request": 112, "unit_identifier": "interleaved", "sku": "again"}')" 'commit;'
    check 'the first one creates it again' hears before '{created}'
    tell before '\echo done'
    check 'and is committed' hears before 'done'
    follow 1
    check 'the feed does not call it deleted last' is_exact
    check 'it is in the copy' test "$(sql -c "select sku from reader.copy where unit_identifier = 'interleaved'")" == again
}

# play SEED: statements of one session, at random: deliveries, corrections, deletions, in transactions with savepoints that are
# undone or kept, which stay open for a while.
play() {
    awk -v seed="$1" '
        function dice(n) { return int(rand() * n) }
        function unit() { return "R" dice(6) }
        function step(  kind) {
            kind = dice(6)
            if (kind < 2) return "select from pg_temp.deliver(format($${\"request\": %s, \"unit_identifier\": \"" unit() "\", \"sku\": \"%s\"}$$, nextval($$reader.request$$), random())::jsonb);"
            if (kind == 2) return "update inventory.receipts set sku = random() where program_identifier = $$random$$ and unit_identifier = $$" unit() "$$;"
            if (kind == 3) return "update inventory.receipts set received_at = received_at - interval $$1 s$$ where program_identifier = $$random$$ and unit_identifier = $$" unit() "$$;"
            return "delete from inventory.receipts where program_identifier = $$random$$ and unit_identifier = $$" unit() "$$;"
        }
        BEGIN {
            srand(seed)
            for (round = 0; round < 150; round++) {
                print "begin isolation level read committed;"
                for (n = dice(5); n >= 0; n--) {
                    if (dice(3)) { print step(); continue }
                    print "savepoint s;"
                    print step()
                    print dice(2) ? "rollback to s;" : "release s;"
                }
                if (!dice(3)) print "select pg_sleep(" rand() / 50 ");"
                print dice(5) ? "commit;" : "rollback;"
            }
        }'
}

fails_only_for_locks() {
    ! grep -h ERROR "$scratch"/random-*.out | grep -v 'deadlock\|lock timeout\|current transaction is aborted\|savepoint "s" does not exist'
}

# The final state that the feed tells for each key is its state in the table. Deadlocks and lock timeouts only undo more.
test_feed_random() {
    local seed session pids=()
    begin_copy
    sql -c 'create sequence reader.request start 100000'
    seed=$RANDOM
    for session in 1 2 3 4; do
        {
            echo "set test.program = 'random';"
            echo "\i $here/include/deliver.psql"
            echo '\set ON_ERROR_STOP off'
            echo "set lock_timeout = '1s'; set deadlock_timeout = '10ms';"
            play "$seed$session"
        } >"$scratch/random-$session.sql"
        sql -f "$scratch/random-$session.sql" >"$scratch/random-$session.out" 2>&1 &
        pids+=($!)
    done
    while kill -0 "${pids[@]}" 2>/dev/null; do
        follow 3
    done
    wait "${pids[@]}"
    follow 3
    check "four random writers: the copy is exact (seed $seed)" is_exact
    check 'each has committed something' test "$(sql -c 'select last_value > 100200 from reader.request')" == t
    check 'nothing but lock conflicts failed' fails_only_for_locks
    sql -c "delete from inventory.receipts where program_identifier = 'random'"
}

# The model of sql/README.md, as dbt runs it: the rows of a run replace those with the same key.
test_feed_model() {
    local block full increment round
    block=$(block 'create temporary table receipts_model')
    full=$(sed '/^$/,$d' <<<"$block") increment=$(sed '1,/^$/d; s/;$//' <<<"$block")
    sql -c "create schema model; ${full/temporary table /table model.}"
    for round in 1 2 3; do
        by_hand "delete from inventory.receipts where ctid in (select ctid from inventory.receipts order by random() limit 2)"
        by_hand "insert into inventory.receipts select (jsonb_populate_record(r, jsonb_build_object('unit_identifier', 'model $round'))).*
            from inventory.receipts as r limit 1"
        by_hand "update inventory.receipts set sku = 'model $round' where ctid in (select ctid from inventory.receipts order by random() limit 3)"
        ((round == 2)) || sql -c "set search_path = model, inventory; create temp table fresh as $increment;
            delete from receipts_model as m using fresh where (m.program_identifier, m.asn_number, m.unit_identifier)
                = (fresh.program_identifier, fresh.asn_number, fresh.unit_identifier);
            insert into receipts_model select * from fresh"
    done
    check 'the dbt model of sql/README.md has what reporting.receipts has' test -z "$(sql -c "
        with model as (select unit_identifier, sku, received_at from model.receipts_model where change = 'written'),
            viewed as (select unit_identifier, sku, received_at from reporting.receipts)
        (table model except all table viewed) union all (table viewed except all table model)")"
    check 'and some that were deleted' test "$(sql -c "select count(*) > 0 from model.receipts_model where change = 'deleted'")" = t
    sql -c 'drop schema model cascade' 2>/dev/null
}

# by_hand STATEMENT: as a DBA of a database with the usual isolation.
by_hand() {
    PGOPTIONS='-c default_transaction_isolation=read\ committed' sql -c "$1"
}

test_feed_under_load() {
    local session batch end pids=() request
    begin_copy
    for session in 1 2 3; do
        {
            echo "set lock_timeout = '10min'; set statement_timeout = 0;"
            echo "set test.program = 'fed';"
            echo "\\i $here/include/deliver.psql"
            for ((batch = 0; batch < 60; batch++)); do
                request=$((10000 * session + 2 * batch))
                # Some are transactions that stay open for a while, some are undone.
                ((batch % 5)) || echo 'begin;'
                echo "select from pg_temp.deliver(
                    '{\"request\": $request, \"unit_identifier\": \"U$((batch % 20))\", \"sku\": \"$request\"}',
                    '{\"request\": $((request + 1)), \"unit_identifier\": \"$request\"}');"
                end=commit
                ((batch % 10)) || end=rollback
                ((batch % 5)) || echo "select pg_sleep(0.02); $end;"
            done
        } >"$scratch/fed-$session.sql"
        sql -U receiptd_writer -f "$scratch/fed-$session.sql" >"$scratch/fed-$session.out" 2>&1 &
        pids+=($!)
    done
    while [[ $(jobs -pr) ]] && kill -0 "${pids[@]}" 2>/dev/null; do
        follow 7
        by_hand "delete from inventory.receipts where ctid = any (array(select ctid from inventory.receipts
            where program_identifier = 'fed' order by random() limit 2))" >/dev/null
        by_hand "update inventory.receipts set sku = 'by hand' where program_identifier = 'fed' and unit_identifier = 'U3'"
    done
    for session in 1 2 3; do
        check "session $session beside the feed has no error" wait "${pids[session - 1]}"
    done
    follow 7
    check 'after three writers, deletions and corrections the copy is exact' is_exact
    check 'and there is something in it' test "$(sql -c "select count(*) > 100 from reader.copy where program_identifier = 'fed'")" == t
}

# is_refused [HOST]: changes since the reader's cursor may be missing there.
is_refused() {
    local said
    ! said=$(PGHOST=${1:-$PGHOST} sql -c "select from inventory.changes_since('$(sql -c 'select cursor from reader.cursor')')" 2>&1) || return 1
    [[ $said == *'changes since the cursor'*'may be missing'* ]] || { echo "$said"; return 1; }
}

# A crash takes what was not committed, and no cursor; after a truncation readers begin again.
test_feed_crash() {
    local cursor
    # The log is flushed only if somebody has to wait for it.
    sql -c "alter system set wal_writer_delay = '10s'" -c 'select from pg_reload_conf()'
    for _ in {1..100}; do
        echo 'select from pg_current_xact_id();'
    done >"$scratch/numbers.sql"
    cursor=$(sql -f "$scratch/numbers.sql" -c 'select inventory.changes_begin()' | tail -n 1)
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/data" -s -w -m immediate stop
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/data" -l "$scratch/postgresql.log" -s -w start
    check 'after a crash a cursor from just before it is not ahead' sql -c "select from inventory.changes_since('$cursor')"
    sql -c "update inventory.receipts set sku = 'after the crash' where program_identifier = 'fed' and unit_identifier = 'U3'"
    follow
    check 'after a crash the copy is exact' is_exact
    sql -c 'truncate inventory.receipts cascade' 2>/dev/null
    check 'after a truncation the cursor is refused' is_refused
}

test_feed_restored() {
    mkdir "$scratch/other"
    ((EUID != 0)) || chown "$server_user:" "$scratch/other"
    cd "$scratch" || return
    "${as_user[@]}" "$pg_bin/initdb" -D "$scratch/other/data" -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null 2>&1
    cp "$scratch"/data/pg_{hba,ident}.conf "$scratch/other/data/"
    printf "listen_addresses = ''\nunix_socket_directories = '%s'\nfsync = off\nshared_buffers = 16MB\n" "$scratch/other" \
        >>"$scratch/other/data/postgresql.conf"
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/other/data" -l "$scratch/other/log" -s -w start
    cd "$here" || return
    PGHOST=$scratch/other sql -d postgres -f "$project/roles.sql"
    # The other server does not know the time zone.
    sql -c 'alter table inventory.warehouses drop constraint warehouses_time_zone_check' \
        -c "insert into inventory.warehouses values (77, 'Nowhere', 'Mars/Olympus')" \
        -c "alter table inventory.warehouses add constraint warehouses_time_zone_check
            $(sql -c "select pg_get_constraintdef(oid) from pg_constraint where conname = 'warehouses_time_zone_check'")" \
        -c "insert into inventory.day_zones values (77, 'Mars/Olympus')
            on conflict (to_identifier) do update set time_zone = excluded.time_zone"
    pg_dump --create --exclude-schema=reader --exclude-schema=tap --exclude-extension=pgtap 2>/dev/null >"$scratch/dump" ||
        pg_dump --create --exclude-schema=reader --exclude-schema=tap >"$scratch/dump"
    PGHOST=$scratch/other psql -Xq -d postgres -f "$scratch/dump" >/dev/null 2>"$scratch/restored" || :
    check 'a dump restored into another cluster has the receipts' \
        test "$(PGHOST=$scratch/other sql -c 'select count(*) from inventory.receipts')" == "$(sql -c 'select count(*) from inventory.receipts')"
    check 'with a time zone that it does not know' \
        test "$(PGHOST=$scratch/other sql -c "select day_zone from inventory.day_zones where to_identifier = 77")" = UTC
    check 'and nothing that the service would miss' \
        test -z "$(PGHOST=$scratch/other sql -c 'select problem from inventory.schema_problems()')"
    sql -c 'delete from inventory.warehouses where to_identifier = 77' -c 'delete from inventory.day_zones where to_identifier = 77'
    check 'a cursor of the old cluster is refused there' is_refused "$scratch/other"
    check 'a new one is good' test -z "$(PGHOST=$scratch/other sql -c 'select inventory.changes_since(inventory.changes_begin())')"
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/other/data" -s -w -m immediate stop
}

# The same rows under the same numbers, in the same cluster.
test_feed_in_place() {
    open placed receiptd_writer
    tell placed "$(deliver '{"request": 901, "unit_identifier": "kept"}')" "$(deliver '{"request": 902, "unit_identifier": "lost"}')"
    check 'a receipt' hears placed '{created}'
    check 'and another one' hears placed '{created}'
    # Nobody may be connected to a template.
    sql -d postgres -c "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'inventory'" >/dev/null
    begin_copy
    pg_dump --schema=inventory --schema=reporting --clean >"$scratch/dump-of-all"
    pg_dump --table=inventory.receipts --data-only >"$scratch/dump-of-data"
    pg_dump --table=inventory.receipts --data-only --disable-triggers >"$scratch/dump-without-triggers"
    by_hand "delete from inventory.receipts where unit_identifier in ('kept', 'lost')"
    sql -d postgres -c 'create database copied template inventory'
    check 'a copy of the database from a template refuses the cursor' refused_in copied
    sql -d postgres -c 'drop database copied'
    follow
    check 'the original does not' is_exact
    by_hand 'delete from inventory.receipts'
    sql -f "$scratch/dump-of-data" >/dev/null
    follow
    check 'rows that are restored into the table are told' is_exact
    by_hand 'delete from inventory.receipts'
    follow
    sql -f "$scratch/dump-without-triggers" >/dev/null
    check 'rows that are restored with triggers disabled make it refuse the cursor' is_refused
    begin_copy
    psql -Xq -v ON_ERROR_STOP=1 -f "$scratch/dump-of-all" >/dev/null 2>"$scratch/restored"
    check 'a dump of all that is restored in place, too' is_refused
    check 'nothing is wrong with it' test -z "$(sql -U receiptd_writer -c 'select problem from inventory.schema_problems()')"
    begin_copy
    by_hand "delete from inventory.receipts where unit_identifier = 'lost'"
    follow
    check 'and a new cursor is good' is_exact
    sql -c 'delete from inventory.receipts'
}

refused_in() {
    local said
    ! said=$(sql -d "$1" -c "select from inventory.changes_since('$(sql -c 'select cursor from reader.cursor')')" 2>&1) || return 1
    [[ $said == *'may be missing'* ]] || { echo "$said"; return 1; }
}

# told_on STANDBY LINES: what the feed tells there, behind the reader's cursor.
told_on() {
    local told
    told=$(PGHOST=$scratch/$1 sql -c "select f.change, f.unit_identifier
        from inventory.changes_since('$(sql -c 'select cursor from reader.cursor')') as f order by 2") || return 1
    [[ $told == "$2" ]] || { echo "told: $told" && return 1; }
}

# On a standby whose receiptd_owner may not see what it receives.
cannot_know_timeline() {
    local said
    ! said=$(PGHOST=$scratch/standby sql -c 'select inventory.changes_begin()' 2>&1) || return 1
    [[ $said == *'on this standby the feed cannot know the timeline'*'pg_read_all_stats'* ]] || { echo "$said" && return 1; }
}

has_replayed() {
    PGHOST=$scratch/standby sql -c "select pg_last_wal_replay_lsn() >= '$1'" | grep -qx t
}

standby() {
    "${as_user[@]}" "$pg_bin/pg_basebackup" -h "$2" -U postgres -D "$scratch/$1" -R --checkpoint=fast --no-sync 2>/dev/null
    # The other server's, whose socket is in its folder.
    rm -f "$scratch/$1"/.s.PGSQL.*
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/$1" -l "$scratch/$1.log" -s -w -o "-c unix_socket_directories=$scratch/$1" start
}

streams() {
    PGHOST=$1 sql -c "select received_tli from pg_stat_wal_receiver where status = 'streaming'" | grep -qx "$2"
}

# A standby tells what is certain on the primary, and not before; promoted, it refuses the cursor.
test_feed_standby() {
    sql -c 'delete from inventory.receipts'
    begin_copy
    echo 'local replication postgres peer map=tests' >>"$scratch/data/pg_hba.conf"
    sql -c 'select from pg_reload_conf()'
    cd "$scratch" || return
    standby standby "$scratch"
    standby cascade "$scratch/standby"
    cd "$here" || return
    check 'the standby streams' await 300 streams "$scratch/standby" 1
    check 'and its own standby' await 300 streams "$scratch/cascade" 1
    check 'without the role that shows its timeline, a standby refuses' cannot_know_timeline
    sql -c 'grant pg_read_all_stats to receiptd_owner'
    open first receiptd_writer
    open second receiptd_writer
    tell first 'begin;' "$(deliver '{"request": 401, "unit_identifier": "first"}')"
    check 'one transaction is open' hears first '{created}'
    tell second "$(deliver '{"request": 402, "unit_identifier": "second"}')"
    check 'a later one is committed' hears second '{created}'
    check 'the standby has that' await 300 has_replayed "$(sql -c 'select pg_current_wal_lsn()')"
    check 'and does not tell it yet' told_on standby ''
    tell first 'commit;'
    check 'both are told when the first has been committed' await 300 told_on standby $'written|first\nwritten|second'
    check 'a standby of the standby tells the same' await 300 told_on cascade $'written|first\nwritten|second'
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/standby" -s -w promote
    check 'promoted, it refuses the cursor at once' is_refused "$scratch/standby"
    check 'a new cursor is good' test -z "$(PGHOST=$scratch/standby sql -c 'select inventory.changes_since(inventory.changes_begin())')"
    check 'its standby follows it' await 300 streams "$scratch/cascade" 2
    check 'and refuses the cursor too' is_refused "$scratch/cascade"
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/cascade" -s -w -m immediate stop
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/standby" -s -w -m immediate stop
    sql -c 'revoke pg_read_all_stats from receiptd_owner' -c 'delete from inventory.receipts'
}

# A subscriber, which is another database of the same cluster, so its slot is made by hand.
test_publication() {
    local columns
    check 'there is no publication until somebody asks for one' test -z "$(sql -c 'select from pg_publication')"
    sql -c 'alter table inventory.receipts replica identity full'
    check 'sql/publication.sql refuses what would stop every revision' refuses_publication 'replica identity full'
    sql -c 'alter table inventory.receipts replica identity default'
    check 'sql/publication.sql makes the publication' sql -U receiptd_migrator -f "$project/publication.sql"
    check 'and can be run again' sql -U receiptd_migrator -f "$project/publication.sql"
    check 'the service finds nothing wrong with it' test -z "$(sql -U receiptd_writer -c 'select problem from inventory.schema_problems()')"
    sql -d postgres -c 'create database subscriber'
    columns=$(sql -c "select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum)
        from pg_attribute where attrelid = 'inventory.receipts'::regclass and attnum > 0 and not attisdropped
        and attname not in ('ot_user_login', 'extra')")
    sql -d subscriber -c 'create schema inventory' -c "create table inventory.receipts ($columns,
        primary key (program_identifier, asn_number, unit_identifier))"
    open published receiptd_writer
    tell published "$(deliver '{"request": 201, "unit_identifier": "before"}')"
    check 'a receipt from before the subscription' hears published '{created}'
    sql -c "select pg_create_logical_replication_slot('reader', 'pgoutput')" >/dev/null
    sql -d subscriber -c "create subscription reader connection 'host=$scratch dbname=inventory user=postgres'
        publication receiptd_receipts with (create_slot = false, slot_name = 'reader')" 2>/dev/null
    check 'the subscriber copies what is there' await 300 is_replicated
    tell published "$(deliver '{"request": 202, "unit_identifier": "after"}')" \
        "$(deliver '{"request": 203, "unit_identifier": "before", "sku": "S2"}')"
    check 'a new receipt' hears published '{created}'
    check 'and a revision' hears published '{revised}'
    check 'both are replicated' await 300 is_replicated
    sql -c "delete from inventory.receipts where unit_identifier = 'after'"
    check 'a deletion is replicated' await 300 is_replicated
    check 'there is something to compare' test "$(sql -d subscriber -c "select string_agg(unit_identifier || sku, ' ')
        from inventory.receipts where program_identifier = 'concurrency' and unit_identifier in ('before', 'after')")" == beforeS2
    sql -d subscriber -c 'drop subscription reader' 2>/dev/null
    sql -d postgres -c 'drop database subscriber'
    sql -c 'drop publication receiptd_receipts'
}

refuses_publication() {
    local said
    ! said=$(sql -U receiptd_migrator -f "$project/publication.sql" 2>&1) || return 1
    [[ $said == *"$1"* && ! $(sql -c 'select from pg_publication') ]] || { echo "$said" && return 1; }
}

is_replicated() {
    local published
    published=$(sql -c "select unit_identifier, sku, revision, received_at from inventory.receipts order by 1, 2, 4")
    [[ $published && $published == "$(sql -d subscriber -c "select unit_identifier, sku, revision, received_at
        from inventory.receipts order by 1, 2, 4")" ]]
}

# erases LOGIN...: as sql/README.md has it.
erases() {
    printf '%s\n' "$@" | psql -Xq -v ON_ERROR_STOP=1 -U receiptd_migrator -f "$project/erase.sql"
}

# Nothing of a person who was erased is in a dump, in the log, or among what sessions and statistics show.
test_erased() {
    local log=$scratch/postgresql.log start setting
    local settings=(log_statement log_min_duration_statement log_error_verbosity log_min_error_statement log_min_messages
        session_preload_libraries auto_explain.log_min_duration auto_explain.log_analyze auto_explain.log_verbose
        auto_explain.log_nested_statements)
    open person receiptd_writer
    tell person "$(deliver '{"request": 301, "unit_identifier": "P1", "ot_user_login": "Jane.Doe@example.org"}')" \
        "$(deliver '{"request": 302, "unit_identifier": "P1", "sku": "S2", "return_reason": "jane.doe@example.org",
            "extra": {"a": "Jane <jane.doe@EXAMPLE.org>"}}' | tr '\n' ' ')"
    check 'a receipt of a person' hears person '{created}'
    check 'with a history' hears person '{revised}'
    sql -c "insert into inventory.rejected_receipts (request_id, api_key_name, status, message, body)
        values (gen_random_uuid(), 'test', 400, 'test', convert_to('{\"by\": \"JANE.doe@example.org\"}', 'UTF8')),
            (gen_random_uuid(), 'test', 400, 'test', convert_to('by=jane.doe%40example.org', 'UTF8')),
            (gen_random_uuid(), 'test', 400, 'test', convert_to('{\"by\": \"jane.doe\\u0040example.org\"}', 'UTF8'))"
    check 'a dump has them, in texts and in bytes' test "$(mentions)" -ge 5
    # All that PostgreSQL can log.
    sql -c "alter system set log_statement = 'all'" -c 'alter system set log_min_duration_statement = 0' \
        -c 'alter system set log_error_verbosity = verbose' -c 'alter system set log_min_error_statement = debug5' \
        -c 'alter system set log_min_messages = debug1' -c "load 'auto_explain'" -c "alter system set session_preload_libraries = 'auto_explain'" \
        -c 'alter system set auto_explain.log_min_duration = 0' -c 'alter system set auto_explain.log_analyze = on' \
        -c 'alter system set auto_explain.log_verbose = on' -c 'alter system set auto_explain.log_nested_statements = on' \
        -c 'select pg_reload_conf()' >/dev/null
    # As sql/README.md asks for.
    if (($(sql -c 'show server_version_num') >= 160000)); then
        settings+=(auto_explain.log_parameter_max_length)
        sql -c "load 'auto_explain'" -c 'alter system set auto_explain.log_parameter_max_length = 0' -c 'select pg_reload_conf()' >/dev/null
    fi
    await 300 sql -c "select 1 / (current_setting('log_statement') = 'all')::integer" >/dev/null
    start=$(wc -c <"$log")
    check 'erased' erases 'jane.doe@example.org' "o'brien@example.org" 'CORP\jane.doe@example.org' $'jane.doe@example.org\tx' '%_"' ''
    check 'a login with a byte that is no UTF-8 is refused' fails erases $'jane.doe@example.org\xff'
    sql -c "insert into inventory.people_to_erase values (repeat('x', 1000))" -c 'set statement_timeout = 1' -c 'call inventory.erase_people()' 2>/dev/null || :
    check 'the log has the statements' grep -q 'people_to_erase' <(tail -c +"$start" "$log")
    check 'and nothing of the login' test "$(tail -c +"$start" "$log" | grep -ciE "$person_forms")" = 0
    check 'nor have the statistics' test "$(sql -c "select count(*) from public.pg_stat_statements where query ~* 'jane.doe@example'" 2>/dev/null || echo 0)" = 0
    for setting in "${settings[@]}"; do
        sql -c "alter system reset $setting"
    done
    sql -c 'select pg_reload_conf()' >/dev/null
    check 'erased, a dump has nothing of them' test "$(mentions)" == 0
    tell person "$(deliver '{"request": 301, "unit_identifier": "P1", "ot_user_login": "Jane.Doe@example.org"}')" \
        "$(deliver '{"request": 303, "unit_identifier": "P2", "ot_user_login": "Jane.Doe@example.org"}')"
    check 'the same delivery again' hears person '{"created before"}'
    check 'and another one' hears person '{created}'
    check 'bring nothing back' test "$(mentions)" == 0
    check 'a revert refuses to forget who was erased, and says so' refuses_to_forget
    run_sqitch deploy --verify >/dev/null
    sql -c 'delete from inventory.erased_people' -c 'delete from inventory.rejected_receipts' -c 'call inventory.erase_people()' >/dev/null
}

refuses_to_forget() {
    local said
    ! said=$(run_sqitch revert -y --to feed 2>&1) || return 1
    echo "$said"
    [[ $said == *'people were erased in this database'* ]]
}

fails() {
    ! "$@"
}

readonly person_forms='jane[.]doe(@|%40|\\+u0040)example|6a616e652e646f65|4a414e452e646f65'

# How many lines of a dump have that login, as text or as the hexadecimal digits of a bytea.
mentions() {
    pg_dump --data-only --schema=inventory | grep -ciE "$person_forms" || :
}
