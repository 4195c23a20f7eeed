# A later change is deployed beside deliveries; sourced by run, after sessions.bash.
# shellcheck shell=bash disable=SC2154 # here and scratch are run's

# A database whose tables for every delivery are there and have rows, and later changes are not.
begin_migrations() {
    sql -d postgres -c "create database migrated owner receiptd_owner template template0 encoding 'UTF8'"
    run_sqitch deploy --to receipt_revisions db:pg://receiptd_migrator@/migrated >/dev/null
    sql -d migrated -c "insert into inventory.receipts (program_identifier, asn_number, unit_identifier, from_identifier, from_type,
            to_identifier, to_type, to_original_identifier, sku, initial_condition, initial_channel, ot_user_login, request_id, api_key_name)
            select 'returns', 'A' || n / 10, n, '22', 'Warehouse', 1352, 'Store', '42', 'S1', 'N', 'blinq', 'somebody', gen_random_uuid(), 'test'
            from generate_series(1, 2000) as n" \
        -c "update inventory.receipts set sku = 'S2'"
}

# held DATABASE SCRIPT...: what a script does, until each of its commits, that deliveries would wait for: a lock that excludes
# readers, a table that is read or written from end to end.
held() {
    sed '/^commit;$/ {
        i\
select format('"'%s: %s', c.relname, l.mode)"'\
from pg_locks as l\
join pg_class as c on c.oid = l.relation\
where l.pid = pg_backend_pid()\
  and c.oid in ('"'inventory.receipts'::regclass, 'inventory.receipt_revisions'::regclass)"'\
  and l.mode in ('"'ExclusiveLock', 'AccessExclusiveLock'"')\
union all\
select format('"'%s: %s scans', relname, seq_scan + coalesce(idx_scan, 0))"'\
from pg_stat_xact_user_tables\
where relid in ('"'inventory.receipts'::regclass, 'inventory.receipt_revisions'::regclass)"'\
  and seq_scan + coalesce(idx_scan, 0) > 0;
    }' "${@:2}" | psql -XqAt -v ON_ERROR_STOP=1 -U receiptd_migrator -d "$1" -f - 2>&1
}

disturbs_nobody() {
    local said
    said=$(held migrated "$1") || { echo "$said" && return 1; }
    [[ -z $said ]] || { echo "$said" && return 1; }
}

disturbs() {
    held migrated <(printf 'begin; %s;\ncommit;\n' "$1") | grep -q 'receipt'
}

test_migrations() {
    local change changes
    mapfile -t changes < <(grep -o '^[a-z_]\+' "$project/sqitch.plan" | sed '1,/^receipt_revisions$/d')
    begin_migrations
    check 'a test of changes notices a default that rewrites a table' disturbs \
        "alter table inventory.receipts add column stamped timestamptz not null default clock_timestamp()"
    check 'and an index' disturbs 'create index on inventory.receipts (sku)'
    check 'and a check' disturbs "alter table inventory.receipts add constraint own check (sku <> '')"
    check 'and an update' disturbs 'update inventory.receipt_revisions set sku = sku'
    for change in "${changes[@]}"; do
        check "deploying $change holds up no delivery" disturbs_nobody "$project/deploy/$change.sql"
    done
    sql -d postgres -c 'drop database migrated'
}
