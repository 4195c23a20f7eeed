# The schema without sqitch: receiptd.sql (deploy/make-sql), and the deploy scripts in other tools; sourced by run.
# shellcheck shell=bash disable=SC2154 # here, project and scratch are run's

# apply DATABASE [FOLDER]: receiptd.sql of that project; leaves in the file applied what it says.
apply() {
    local status=0
    "$here/../../deploy/make-sql" "${2-$project}" >"$scratch/receiptd.sql" || return 1
    psql -X -U receiptd_migrator -d "$1" -f "$scratch/receiptd.sql" >"$scratch/applied" 2>&1 || status=$?
    ((status == 0)) || cat "$scratch/applied"
    return "$status"
}

# cannot_apply DATABASE WORDS: exit status 3, and the reason.
cannot_apply() {
    local status=0
    apply "$1" || status=$?
    ((status == 3)) && grep -qF "$2" "$scratch/applied"
}

# is_applied CHANGE...: these, one after the other, and nothing else, was said to be applied last.
is_applied() {
    diff <(printf '%s\n' "$@" | sed '/^$/d; s/^/+ /') <(grep '^+' "$scratch/applied") &&
        tail -n 1 "$scratch/applied" | grep -q '^receiptd.sql: [0-9]* changes are applied and verified$'
}

# make_database NAME: as sql/README.md has it.
make_database() {
    sql -d postgres -c "create database $1 owner receiptd_owner template template0 encoding 'UTF8'" \
        -c "alter database $1 set search_path = inventory, public" -c "alter database $1 set jit = off"
}

# definitions DATABASE: of the schema, and what it knows of itself.
definitions() {
    "$pg_bin/pg_dump" --schema-only --schema inventory --schema reporting "$1" | sed '/^\\\(un\)\?restrict /d'
    sql -d "$1" -c "select * from inventory.schema_objects order by kind, name"
}

# same_as DATABASE OTHER
same_as() {
    [[ $(definitions "$1" | wc -l) -gt 1000 ]] && diff <(definitions "$1") <(definitions "$2")
}

# test_scripts: compares with the database inventory, which sqitch has just deployed.
test_scripts() {
    local changes change
    mapfile -t changes < <(grep -o '^[a-z_]\+' "$project/sqitch.plan")
    make_database plain
    check 'receiptd.sql deploys the schema' apply plain
    check 'it says what it has applied' is_applied "${changes[@]}"
    check 'the catalog is the one that sqitch makes' same_as inventory plain
    check 'again: nothing is left to be applied' apply plain
    check 'and all is verified' is_applied ''
    check 'receiptd.changes has each change' test \
        "$(sql -d plain -c 'select string_agg(change, $$ $$ order by applied_at) from receiptd.changes')" = "${changes[*]}"
    check 'verified: what is broken ends it' breaks_plain
    check 'sqitch has deployed: it is refused' cannot_apply inventory 'use "sqitch deploy" instead of receiptd.sql'
    sql -d postgres -c "create database latin1 owner receiptd_owner template template0 encoding 'LATIN1' locale 'C'"
    check 'not UTF8: it is refused' cannot_apply latin1 "encoding is not UTF8"
    check 'nothing is left in it' test "$(sql -d latin1 -c "select count(*) from pg_namespace where nspname in ('inventory', 'receiptd')")" = 0
    check 'the next release: only its change is applied' apply plain "$scratch/field"
    check 'as it says' is_applied color
    check 'its column is there' sql -d plain -c 'select color from inventory.receipts'

    make_database adopted
    check 'a database for sqitch to adopt' apply adopted
    check 'sql/README.md: sqitch adopts it' in_project adopted "$(block 'sqitch deploy --log-only' | sed -n '/log-only/,$p')"
    check 'sqitch verifies it' run_sqitch verify db:pg://receiptd_migrator@/adopted
    check 'sqitch reverts a change of it' run_sqitch revert -y --to totals db:pg://receiptd_migrator@/adopted
    check 'and deploys it' run_sqitch deploy db:pg://receiptd_migrator@/adopted
    check 'the catalog is the same' same_as inventory adopted
    check 'receiptd.sql is refused from then on' cannot_apply adopted 'use "sqitch deploy"'

    make_database migrated
    mkdir "$scratch/migrations"
    check 'sql/README.md: a file for each change' in_project migrated "$(block 'executeInTransaction=false')" MIGRATIONS="$scratch/migrations"
    check 'all of them' test "$(find "$scratch/migrations" -name 'V*__*.sql' | wc -l)" = "${#changes[@]}"
    check 'none has a command of psql, or a variable' plain_sql
    for change in "$scratch"/migrations/*.sql; do
        check "${change##*/} runs by itself" sql -U receiptd_migrator -d migrated -f "$change"
    done
    check 'the catalog is the same' same_as inventory migrated
    check 'another tool has deployed: receiptd.sql is refused' cannot_apply migrated 'another tool has deployed'
    for change in latin1 plain adopted migrated; do
        sql -d postgres -c "drop database $change"
    done
}

# in_project DATABASE COMMANDS [NAME=VALUE...]: in the folder sql/, as receiptd_migrator.
in_project() {
    (cd "$project" && env PGUSER=receiptd_migrator PGDATABASE="$1" "${@:3}" bash -euc "${2//inventory/$1}" </dev/null)
}

breaks_plain() {
    sql -d plain -c 'alter table inventory.receipts disable trigger receipts_number_revision'
    ! apply plain || return 1
    sql -d plain -c 'alter table inventory.receipts enable trigger receipts_number_revision'
    grep 'ERROR:  .*receipts_number_revision' "$scratch/applied" && apply plain
}

# No variable either: those that are not set are errors of syntax.
plain_sql() {
    ! grep -n '^ *[\]' "$scratch"/migrations/*.sql
}
