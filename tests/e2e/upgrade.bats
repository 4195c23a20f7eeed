# Program and schema replaced under load, in either order and back again: no request fails, and what was told is stored.
# The newer program is this one under another version; the newer schema has a column more, and version 2.

setup_file() {
    load common
    start_instance upgrade
}

setup() {
    load common
    use_instance upgrade
    set_worker_env
    newer=$BATS_TEST_TMPDIR/sql
    make_newer_schema
    sed "s/$version/$newer_version/g" "$WORKER" >"$BATS_TEST_TMPDIR/receiptd"
    chmod 755 "$BATS_TEST_TMPDIR/receiptd"
}

# Versions of the same length, since one takes the other's place in the program.
version=$("$WORKER" --version)
version=${version#receiptd }
newer_version=${version%?}9

make_newer_schema() {
    cp -r "$root/sql" "$newer"
    (
        cd "$newer" || exit
        SQITCH_FULLNAME=test SQITCH_EMAIL=test@localhost sqitch add next --note next >/dev/null
        cat >deploy/next.sql <<'END'
begin;
set local role receiptd_owner;
set local lock_timeout = '2s';
alter table inventory.receipts add column next text;
alter table inventory.receipt_revisions add column next text;
create or replace function inventory.schema_version() returns integer language sql immutable
set search_path = pg_catalog, pg_temp as $$ select 2 $$;
commit;
END
        cat >revert/next.sql <<'END'
begin;
set local role receiptd_owner;
set local lock_timeout = '2s';
alter table inventory.receipts drop column next;
alter table inventory.receipt_revisions drop column next;
create or replace function inventory.schema_version() returns integer language sql immutable
set search_path = pg_catalog, pg_temp as $$ select 1 $$;
commit;
END
        echo 'begin; select next from inventory.receipts where false; rollback;' >verify/next.sql
    )
}

# schema COMMAND [ARGUMENT...]: of sqitch, as the page has it.
schema() {
    SQITCH_FULLNAME=test SQITCH_EMAIL=test@localhost sqitch --chdir "$newer" "$1" "${@:2}" db:pg:inventory \
        >"$BATS_TEST_TMPDIR/sqitch" 2>&1 3>&- || { cat "$BATS_TEST_TMPDIR/sqitch"; return 1; }
}

# program FILE: takes the place of the program, and both workers are started again, one after the other.
program() {
    local n before
    install -m 755 "$1" "$state/bin/receiptd.new"
    mv "$state/bin/receiptd.new" "$state/bin/receiptd"
    for n in 1 2; do
        before=$(worker_pid "$n")
        kill -TERM "$before"
        eventually new_worker "$n" "$before"
    done
}

# runs VERSION SCHEMA: what the serving worker says of itself, and that it is ready.
runs() {
    local metrics
    metrics=$(curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "${RECEIPTD_URL%/*}/receiptd/metrics" 3>&-)
    [[ $metrics == *"receiptd_info{version=\"$1\",schema=\"$2\",schema_needed=\"1\"} 1"* && $metrics == *$'\nreceiptd_ready 1'* ]]
}

is_ready() {
    [[ $(curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "${RECEIPTD_URL%/*}/receiptd/ready" 3>&-) == *"\"ready\":$1"*"$2"* ]]
}

begin_load() {
    load_in_background --connections 8 --seconds 1000 --every-ms 40 --burst 8 --new 3 --again 1 --revise 2 --invalid 1
    load_goes_on 20
}

# end_untroubled_load: no delivery was tried twice, and what was told is stored.
end_untroubled_load() {
    load_goes_on 20
    kill -TERM "$load"
    finish_load
    grep -q ' retries=0 ' "$record.out"
}

@test "the schema first, then the program; and back in the same order" {
    begin_load
    schema deploy --verify
    program "$BATS_TEST_TMPDIR/receiptd"
    eventually runs "$newer_version" 2
    schema revert -y --to @HEAD^
    program "$WORKER"
    eventually runs "$version" 1
    end_untroubled_load
}

@test "the program first, then the schema; and back in the same order" {
    begin_load
    program "$BATS_TEST_TMPDIR/receiptd"
    eventually runs "$newer_version" 1
    schema deploy --verify
    program "$WORKER"
    eventually runs "$version" 2
    schema revert -y --to @HEAD^
    # The worker that runs sees it within seconds.
    eventually runs "$version" 1
    end_untroubled_load
}

@test "a schema that is older than the program needs: ready says so, and deliveries are stored all the same" {
    begin_load
    schema revert -y --to apply_once
    eventually is_ready false 'the schema is version 0, and has to be 1'
    run -2 "${worker_env[@]}" "$WORKER" doctor "$state/run/worker-1.sock" "$state/run/worker-2.sock"
    [[ $output == *"FAIL  schema         version 0, and this program needs 1"* ]]
    schema deploy --verify
    eventually is_ready true ''
    end_untroubled_load
}
