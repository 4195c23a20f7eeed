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

# A crash takes what was not committed, and no cursor; truncation is told.
test_feed_crash() {
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/data" -s -w -m immediate stop
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/data" -l "$scratch/postgresql.log" -s -w start
    sql -c "update inventory.receipts set sku = 'after the crash' where program_identifier = 'fed' and unit_identifier = 'U3'"
    follow
    check 'after a crash the copy is exact' is_exact
    sql -c 'truncate inventory.receipts cascade' 2>/dev/null
    follow
    check 'a truncation is told' is_exact
}

# What a cursor of this cluster says in another one.
elsewhere() {
    local said
    ! said=$(PGHOST=$scratch/other sql -c "select from inventory.changes_since('$(sql -c 'select cursor from reader.cursor')')" 2>&1) || return 1
    [[ $said == *'is of another cluster'* ]] || { echo "$said"; return 1; }
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
        -c "insert into inventory.day_zones values (77, 'Mars/Olympus')"
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
    check 'a cursor of the old cluster is refused there' elsewhere
    check 'a new one is good' test -z "$(PGHOST=$scratch/other sql -c 'select inventory.changes_since(inventory.changes_begin())')"
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/other/data" -s -w -m immediate stop
}

# What the feed tells on a standby, behind the reader's cursor.
on_standby() {
    PGHOST=$scratch/standby sql -c "select f.change, f.unit_identifier
        from inventory.changes_since('$(sql -c 'select cursor from reader.cursor')') as f"
}

told_on_standby() {
    local told
    told=$(on_standby) || return 1
    [[ $told == "$1" ]] || { echo "told: $told" && return 1; }
}

has_replayed() {
    PGHOST=$scratch/standby sql -c "select pg_last_wal_replay_lsn() >= '$1'" | grep -qx t
}

is_refused_on_standby() {
    ! on_standby >"$scratch/refused" 2>&1 && grep -q 'is of another cluster' "$scratch/refused"
}

# A standby tells what is certain on the primary, and not before; promoted, it refuses the cursor.
test_feed_standby() {
    sql -c 'delete from inventory.receipts'
    begin_copy
    echo 'local replication postgres peer map=tests' >>"$scratch/data/pg_hba.conf"
    sql -c 'select from pg_reload_conf()'
    cd "$scratch" || return
    "${as_user[@]}" "$pg_bin/pg_basebackup" -h "$scratch" -U postgres -D "$scratch/standby" -R --checkpoint=fast --no-sync
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/standby" -l "$scratch/standby.log" -s -w \
        -o "-c unix_socket_directories=$scratch/standby" start
    cd "$here" || return
    open first receiptd_writer
    open second receiptd_writer
    tell first 'begin;' "$(deliver '{"request": 401, "unit_identifier": "first"}')"
    check 'one transaction is open' hears first '{created}'
    tell second "$(deliver '{"request": 402, "unit_identifier": "second"}')"
    check 'a later one is committed' hears second '{created}'
    check 'the standby has that' await 300 has_replayed "$(sql -c 'select pg_current_wal_lsn()')"
    check 'and does not tell it yet' told_on_standby ''
    tell first 'commit;'
    check 'both are told when the first has been committed' await 300 told_on_standby $'written|first\nwritten|second'
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/standby" -s -w promote
    PGHOST=$scratch/standby sql -c checkpoint
    check 'promoted, it refuses the cursor' await 300 is_refused_on_standby
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/standby" -s -w -m immediate stop
    sql -c 'delete from inventory.receipts'
}

# A subscriber, which is another database of the same cluster, so its slot is made by hand.
test_publication() {
    local columns
    if ((pg_version < 15)); then
        echo 'skipped: the publication, which takes PostgreSQL 15'
        return
    fi
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

# Nothing of a person who was erased is in a dump.
test_erased() {
    open person receiptd_writer
    tell person "$(deliver '{"request": 301, "unit_identifier": "P1", "ot_user_login": "Jane.Doe@example.org"}')" \
        "$(deliver '{"request": 302, "unit_identifier": "P1", "sku": "S2", "extra": {"a": "jane.doe@EXAMPLE.org"}}')"
    check 'a receipt of a person' hears person '{created}'
    check 'with a history' hears person '{revised}'
    sql -c "insert into inventory.rejected_receipts (request_id, api_key_name, status, message, body)
        values (gen_random_uuid(), 'test', 400, 'test', convert_to('{\"by\": \"JANE.doe@example.org\"}', 'UTF8'))"
    check 'a dump has them, in texts and in bytes' test "$(mentions)" == 3
    sql -c "select inventory.erase_person('jane.doe@example.org')" >/dev/null
    check 'erased, a dump has nothing of them' test "$(mentions)" == 0
    tell person "$(deliver '{"request": 301, "unit_identifier": "P1", "ot_user_login": "Jane.Doe@example.org"}')" \
        "$(deliver '{"request": 303, "unit_identifier": "P2", "ot_user_login": "Jane.Doe@example.org"}')"
    check 'the same delivery again' hears person '{"created before"}'
    check 'and another one' hears person '{created}'
    check 'bring nothing back' test "$(mentions)" == 0
    sql -c 'delete from inventory.erased_people' -c 'delete from inventory.rejected_receipts' \
        -c 'alter table inventory.receipts disable trigger receipts_keep_erased'
}

# How many lines of a dump have that login, as text or as the hexadecimal digits of a bytea.
mentions() {
    pg_dump --data-only --schema=inventory | grep -ciE 'jane[.]doe@example|6a616e652e646f65|4a414e452e646f65' || :
}
