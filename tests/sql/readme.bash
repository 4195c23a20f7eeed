# The statements of sql/README.md, as they stand there; sourced by run, after sessions.bash.
# shellcheck shell=bash disable=SC2154 # here and scratch are run's

# blocks: the README's blocks of code, with a NUL after each.
blocks() {
    awk '
        function flush() { if (text != "") printf "%s%c", text, 0; text = "" }
        /^    / { if (text == "") { match($0, /^ */); indent = RLENGTH } text = text substr($0, indent + 1) "\n"; next }
        /^$/ { if (text != "") text = text "\n"; next }
        { flush() }
        END { flush() }
    ' "$project/README.md"
}

# block WORDS: the one in which they stand.
block() {
    local text found=()
    while IFS= read -r -d '' text; do
        [[ $text != *"$1"* ]] || found+=("$text")
    done < <(blocks)
    ((${#found[@]} == 1)) || { echo "${#found[@]} blocks of sql/README.md have: $1" >&2 && return 1; }
    printf '%s' "${found[0]}"
}

# as_operator WORDS [NAME=VALUE...]: runs that block of shell commands as the user who runs PostgreSQL.
as_operator() {
    local text
    text=$(block "$1") || return 1
    (cd "$scratch/operator" && "${as_user[@]}" env PATH="$pg_bin:$PATH" PGUSER=postgres "${@:2}" bash -ec "$text" </dev/null)
}

# as_client WORDS: runs that block of shell commands in the folder sql/.
as_client() {
    (cd "$project" && bash -euc "$(block "$1")" </dev/null)
}

# Each block of SQL runs. What stands for something is put in: a cursor, an id.
runs() {
    local text=$1
    text=${text//5f0c2b1e7a3d4c58-000000000001e240-ffffffffffffffff/$(sql -c 'select inventory.changes_begin()')}
    text=${text//…/$(sql -c 'select gen_random_uuid()')}
    if [[ $text == @(call|'create index concurrently')* ]]; then
        psql -X -v ON_ERROR_STOP=1 -c "$text"
    else
        (cd "$scratch/recipes" && psql -X -v ON_ERROR_STOP=1 -f - <<<"begin; $text rollback;")
    fi
}

# recipe_says WORDS ROLE EXPECTED: what that block shows to a member of the role, of the receipts of include/recipes.sql and what
# else more_data inserts.
more_data=
recipe_says() {
    local text
    text=$(block "$1") || return 1
    diff <(echo "$3") <(cd "$scratch/recipes" && sql -F ' ' <<<"begin;
\\i $here/include/recipes.sql
$more_data
set local role $2;
$text
rollback;" 2>&1)
}

test_recipes() {
    mkdir "$scratch/recipes"
    printf '%s\n' program_identifier,asn_number,units returns,A1,5 returns,A2,3 returns,A3,2 returns,A4,3 transfers,A1,1 >"$scratch/recipes/expected.csv"
    printf '%s\n' gtin,name 12345678905,jeans 04006381333931,pen 00012345678906,none >"$scratch/recipes/products.csv"
    check 'recipe: units expected and received' recipe_says "copy expected" receiptd_analyst "\
returns A4 3 0 -3 
returns A1 5 4 -1 $(at '5 days 2 hours')
returns A2 3 4 1 $(at '10 days')"
    check 'recipe: condition by SKU' recipe_says 'as percent' receiptd_analyst 'S1 A  2 40.0
S1 N new 2 40.0
S1 X  1 20.0
S2 N new 1 100.0
S3 B  3 100.0
S4 N new 1 100.0'
    check 'recipe: a serial number in several ASNs' recipe_says 'distinct program_identifier' receiptd_analyst "\
S1 120 2 returns A1, transfers A1 $(at '19 days') $(at '1 day')
S1 100 2 returns A1, returns A2 $(at '20 days') $(at '10 days')"
    check 'recipe: late receipts' recipe_says after_the_first receiptd_analyst "\
returns A5 U14 S4 $(at '1 day') 59 days
returns A1 U3 S2 $(at '5 days 2 hours') 14 days 22:00:00"
    check 'recipe: units by product' recipe_says 'copy products' receiptd_analyst 'jeans 4
pen 2'
    more_data="
        update inventory.receipts set received_at = '2026-11-28 14:00+00' where unit_identifier = 'U1';
        update inventory.receipts set received_at = '2026-11-28 14:09:59+00' where unit_identifier = 'U2';
        update inventory.receipts set received_at = '2026-11-28 14:10+00' where unit_identifier = 'U3';
        update inventory.receipts set received_at = '2026-11-28 13:59:59+00' where unit_identifier = 'U4';
        update inventory.receipts set sku = 'S7', revision = 1, revised_at = '2026-11-28 14:05+00', revised_request_id = gen_random_uuid()
        where unit_identifier in ('U4', 'U5');
        update inventory.receipt_revisions set replaced_at = '2026-11-28 14:05+00' where unit_identifier = 'U4';
        insert into inventory.rejected_receipts (request_id, api_key_name, status, message, body, received_at)
        values (gen_random_uuid(), 'test', 400, 'no JSON', '{', '2026-11-28 14:00+00'),
            (gen_random_uuid(), 'test', 400, 'no JSON', '[', '2026-11-28 14:10+00');"
    check 'recipe: what was stored between two times' recipe_says '2026-11-28 14:10+00' receiptd_reader 'created 2
revised 1
rejected 1'
    more_data="
        insert into inventory.receipts
        select (jsonb_populate_record(r, jsonb_build_object('unit_identifier', '8e52b6f3', 'request_id', gen_random_uuid()))).*
        from inventory.receipts as r
        where r.unit_identifier in ('U3', 'U10');
        update inventory.receipts set received_at = '2026-11-23 12:00+00', request_id = '00000000-0000-4000-8000-000000000900'
        where unit_identifier = '8e52b6f3';
        update inventory.receipts set sku = 'S7', revision = 1, revised_at = '2026-11-24 12:00+00',
            revised_request_id = '00000000-0000-4000-8000-000000000901'
        where unit_identifier = '8e52b6f3' and program_identifier = 'transfers';
        update inventory.receipts set sku = 'S8' where unit_identifier = '8e52b6f3' and program_identifier = 'transfers';
        update inventory.receipts set revised_at = '2026-11-25 12:00+00' where revision = 2;"
    check 'recipe: every version of a unit' recipe_says 'as version' receiptd_reader 'returns A1 0 2026-11-23 12:00:00+00 00000000-0000-4000-8000-000000000900
transfers A1 0 2026-11-23 12:00:00+00 00000000-0000-4000-8000-000000000900
transfers A1 1 2026-11-24 12:00:00+00 00000000-0000-4000-8000-000000000901
transfers A1 2 2026-11-25 12:00:00+00 '
    more_data=
}

# at AGE: that long before this hour, as psql shows it.
at() {
    sql -c "select date_trunc('hour', now()) - interval '$1'"
}

test_readme() {
    local text count=0
    test_recipes
    sql -c 'create extension if not exists pg_stat_statements schema public' -c 'create extension if not exists pgstattuple schema public' 2>/dev/null
    open readme receiptd_writer
    tell readme "$(deliver '{"request": 801, "unit_identifier": "readme", "carton_identifier": "CT0C3AC5201",
        "reference_identifier": "10012345"}' | tr '\n' ' ')"
    check 'a receipt in the carton that the README asks for' hears readme '{created}'
    while IFS= read -r -d '' text; do
        # Shell commands, and a subscription, which test_publication makes.
        [[ $text != @(psql|sqitch|pg_|createdb|echo|journalctl|jq|number=|*'\copy'|'create subscription')* ]] || continue
        check "sql/README.md: ${text%%$'\n'*}" runs "$text"
        count=$((count + 1))
    done < <(blocks)
    check 'pages deploy as receiptd_migrator' deploys_as_migrator
    check 'these were all of them' test "$count" -ge 17
    sql -c 'drop index inventory.receipts_sku_idx, inventory.receipts_gtin_idx'
    check 'the carton has its unit' test "$(sql -f - <<<"$(block 'in a carton' | sed '/under an RMA/,$d')" | grep -c readme)" = 1
    check 'and so has the RMA' test "$(sql -f - <<<"$(block 'in a carton' | sed '1,/under an RMA/d; /twelve months/,$d')" | grep -c readme)" = 1
    sql -c "delete from inventory.receipts where unit_identifier = 'readme'"
}

# Whoever deploys first owns sqitch's tables, and nobody else can deploy then.
deploys_as_migrator() {
    [[ $(sed -n 's/^\ttarget = //p' "$project/sqitch.conf") == db:pg://receiptd_migrator@/* ]] &&
        ! grep -rnE 'sqitch.* db:' "$here"/../../{,*/}*.md | grep -v ' db:pg://receiptd_migrator@'
}

# archive WORDS [NAME=VALUE...]: runs that block in psql as receiptd_migrator, in the folder archive.
archive() {
    (cd "$scratch/archive" && env PGUSER=receiptd_migrator "${@:2}" psql -Xq -v ON_ERROR_STOP=1 -f <(block "$1"))
}

# Without the transaction and the role that wrote them.
content_of_archived() {
    sql -c "select to_jsonb(r) - 'created_in' - 'changed_by' - 'changed_at' from inventory.receipts as r where unit_identifier like 'Y%' order by unit_identifier" \
        -c "select to_jsonb(v) - 'replaced_in' from inventory.receipt_revisions as v where unit_identifier like 'Y%' order by unit_identifier, revision"
}

test_archive() {
    local before again
    mkdir -p "$scratch/archive"
    open archive receiptd_writer
    for number in 1 2 3; do
        tell archive "$(older "82$number" "Y$number" red)"
        check 'a receipt' hears archive created
        tell archive "$(older "83$number" "Y$number" blue)"
        check 'and a revision' hears archive revised
    done
    sql -c "update inventory.receipts set received_at = '2025-07-01' where unit_identifier in ('Y1', 'Y2')"
    before=$(content_of_archived)
    check 'a year is archived' archive 'begin isolation level'
    check 'it is gone' test -z "$(sql -c "select from inventory.receipts where unit_identifier in ('Y1', 'Y2')")"
    check 'and nothing else' test "$(sql -c "select count(*) from inventory.receipts where unit_identifier = 'Y3'")" = 1
    tell archive "$(older 841 Y2 green)"
    check 'one of it is delivered again' hears archive created
    again=$(sql -c "select to_jsonb(r) from inventory.receipts as r where unit_identifier = 'Y2'")
    check 'and brought back' archive 'create temp table archived'
    check 'what was delivered since then is as it was' \
        test "$(sql -c "select to_jsonb(r) from inventory.receipts as r where unit_identifier = 'Y2'")" = "$again"
    check 'all else is as it was' diff <(grep -v '"Y2"' <<<"$before") <(content_of_archived | grep -v '"Y2"')
    check 'the feed reports it' test "$(sql -c "select count(*) from inventory.receipts where unit_identifier = 'Y1'
        and created_in > (select created_in from inventory.receipts where unit_identifier = 'Y2')")" = 1
    tell archive "$(older 842 Y1 red)"
    check 'what is brought back can be revised' hears archive revised
    sql -c "delete from inventory.receipts where unit_identifier like 'Y%'"
}

# A field is added, and taken back, by the letter of CONTRIBUTING.md.
test_recipe() {
    local part
    cp -r "$project" "$scratch/field"
    open recipe receiptd_writer
    tell recipe "$(older 801 R1 red)"
    check 'a receipt from before the field' hears recipe created
    check 'sqitch add' bash -c "cd $scratch/field && $(recipe_words 'sqitch add')"
    for part in deploy verify revert; do
        recipe "sql/$part/color.sql" >"$scratch/field/$part/color.sql"
    done
    check 'CONTRIBUTING.md: the field is deployed and verified' sqitch --chdir "$scratch/field" deploy --verify
    check 'its value is in the column' test "$(sql -c "select color, extra from inventory.receipts where unit_identifier = 'R1'")" = 'red|'
    check 'the service finds nothing wrong' test -z "$(sql -U receiptd_writer -c 'select problem from inventory.schema_problems()')"
    check 'the older program finds its receipt' is_told recipe unchanged "$(older 802 R1 red)"
    check 'all changes verify' sqitch --chdir "$scratch/field" verify
    check 'CONTRIBUTING.md: the field is reverted' sqitch --chdir "$scratch/field" revert -y --to schema_problems
    check 'its value is in extra' test "$(sql -c "select extra ->> 'color' from inventory.receipts where unit_identifier = 'R1'")" = red
    check 'the older program finds its receipt still' is_told recipe unchanged "$(older 803 R1 red)"
    check 'nothing is left of the field' test -z "$(sql -c "select attname from pg_attribute where attname = 'color' and attrelid::regclass::text like '%receipt%'
        union all select column_name from inventory.moved_fields where direction <> 'returned'
        union all select problem from inventory.schema_problems()")"
    check 'CONTRIBUTING.md: the move ends' sql -U receiptd_migrator -c "select inventory.end_move('color')"
    sql -c "delete from inventory.receipts where unit_identifier = 'R1'"
}

# units [HOST]: of the receipts of that cluster, in the order of their names.
units() {
    PGHOST=${1:-$PGHOST} sql -c "select string_agg(unit_identifier, ' ' order by unit_identifier) from inventory.receipts"
}

# totals_are WHETHER-USED|WHETHER-RIGHT HOST
totals_are() {
    [[ $(PGHOST=$2 sql -c "select inventory.totals_counted_in() is not null,
        (select coalesce(sum(units), 0) from reporting.receipts_by_month) = (select count(*) from inventory.receipts)") == "$1" ]]
}

count_totals() {
    PGHOST=$1 sql -U receiptd_totals -c 'call inventory.refresh_totals()'
}

receive() {
    sql -U receiptd_writer -c "set test.program = 'operated'" -f "$here/include/deliver.psql" -c "
        select from pg_temp.deliver('{\"request\": $1, \"unit_identifier\": \"U$1\"}')" >/dev/null
}

# configure FOLDER SETTING...: with a socket of its own there.
configure() {
    printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$1/..'" "${@:2}" |
        "${as_user[@]}" tee -a "$1/postgresql.auto.conf" >/dev/null
}

stop_cluster() {
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$1" -s -w -m immediate stop
}

# What an operator does with the whole cluster; nothing of pgTAP's is in the database any more.
test_operating() {
    local time folder
    mkdir "$scratch/operator"
    for folder in operator operator/{restored,recovered,archive,upgraded}; do
        mkdir -p "$scratch/$folder"
        ((EUID != 0)) || chown "$server_user:" "$scratch/$folder"
    done
    cp "$project/roles.sql" "$scratch/operator/"
    grep -q '^local replication' "$scratch/data/pg_hba.conf" ||
        echo 'local replication postgres peer map=tests' >>"$scratch/data/pg_hba.conf"
    sql -c 'select from pg_reload_conf()'
    check 'staging beside production' as_client 'createdb -O receiptd_owner -T template0 -E UTF8 staging'
    check 'it has the schema' test "$(sql -d staging -c 'select count(*) from receipts')" = 0
    check 'a receipt before the backup' receive 1
    check 'totals are counted' count_totals "$scratch"
    # In the restored cluster, transactions have not got this far yet.
    sql -c "insert into inventory.feed_events (change) values ('truncated')"
    check 'and again after a truncate' count_totals "$scratch"
    begin_copy

    initialize "$scratch/operator/restored/data"
    check 'the dump' bash -c "cd $scratch/operator && $(block 'pg_dump -U' | sed -n 1p)"
    check 'restored as the README has it' env PGHOST="$scratch/operator/restored" \
        bash -ec "cd $scratch/operator && $(block 'pg_dump -U' | sed 1d)"
    check 'it has the receipt' test "$(units "$scratch/operator/restored")" = U1
    check 'totals are not used, and right' totals_are 'f|t' "$scratch/operator/restored"
    check 'until they are counted there' count_totals "$scratch/operator/restored"
    check 'then they are used' totals_are 't|t' "$scratch/operator/restored"
    check 'and refuses cursors of the original' is_refused "$scratch/operator/restored"
    check 'and all that belongs to it' env PGHOST="$scratch/operator/restored" \
        bash -c "cd $project && SQITCH_FULLNAME=test SQITCH_EMAIL=test@localhost sqitch verify"
    mkdir -p "$scratch/archive"
    sql -c "delete from inventory.receipts"
    sed 's/8e52b6f3/U1/g' "$project/README.md" >"$scratch/operator/README.md"
    check 'a deleted receipt is copied from the backup' env PGHOST="$scratch/operator/restored" \
        project="$scratch/operator" bash -c "cd $scratch/archive && psql -Xq -U receiptd_migrator -v ON_ERROR_STOP=1 -f -" \
        <<<"$(project=$scratch/operator block "where unit_identifier = 'U1') to receipts.csv")"
    check 'and brought back' archive 'create temp table archived'
    check 'it is there' test "$(units)" = U1
    stop_cluster "$scratch/operator/restored/data"

    check 'an archive and a base backup' as_operator 'alter system set archive_mode' \
        PGHOST="$scratch" DATA="$scratch/data" ARCHIVE="$scratch/operator/archive" BACKUP="$scratch/operator/recovered/data"
    check 'a receipt after the backup' receive 2
    time=$(sql -c 'select clock_timestamp()')
    check 'one too late' receive 3
    sql -c 'select pg_switch_wal()' >/dev/null
    configure "$scratch/operator/recovered/data" 'archive_mode = off'
    check 'the last segment is archived' await 300 is_archived
    check 'recovery to a time' as_operator 'recovery_target_time' PGHOST="$scratch/operator/recovered" \
        ARCHIVE="$scratch/operator/archive" BACKUP="$scratch/operator/recovered/data" TIME="$time"
    check 'it ends' await 300 has_recovered
    check 'with what was received until then' test "$(units "$scratch/operator/recovered")" = 'U1 U2'
    check 'totals are used there, and right' totals_are 't|t' "$scratch/operator/recovered"
    check 'it refuses cursors of the original' is_refused "$scratch/operator/recovered"
    check 'and takes new ones' env PGHOST="$scratch/operator/recovered" bash -c "psql -XAtqc \"update inventory.receipts set sku = 'S2'\""
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/operator/recovered/data" -s -w -m fast stop

    initialize "$scratch/operator/upgraded/data" --no-start
    check 'pg_upgrade' as_operator 'pg_upgrade --old-bindir' OLDBIN="$pg_bin" NEWBIN="$pg_bin" \
        OLD="$scratch/operator/recovered/data" NEW="$scratch/operator/upgraded/data"
    "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/operator/upgraded/data" -l "$scratch/operator/upgraded/log" -s -w start
    check 'the upgraded cluster has the receipts' test "$(units "$scratch/operator/upgraded")" = 'U1 U2'
    check 'it refuses cursors of the original' is_refused "$scratch/operator/upgraded"
    check 'totals notice that it is another one' test -z \
        "$(PGHOST=$scratch/operator/upgraded sql -c 'select inventory.totals_counted_in()')"
    check 'and count it' count_totals "$scratch/operator/upgraded"
    check 'with a result that is used' totals_are 't|t' "$scratch/operator/upgraded"
    stop_cluster "$scratch/operator/upgraded/data"
}

is_archived() {
    sql -c "select last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) from pg_stat_archiver" | grep -qx t
}

has_recovered() {
    PGHOST=$scratch/operator/recovered sql -c 'select pg_is_in_recovery()' 2>/dev/null | grep -qx f
}

# initialize FOLDER [--no-start]: an empty cluster with a socket beside the folder.
initialize() {
    (cd "$scratch" && "${as_user[@]}" "$pg_bin/initdb" -D "$1" -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null 2>&1)
    configure "$1" 'fsync = off' 'shared_buffers = 16MB' "max_prepared_transactions = 0"
    cp "$scratch"/data/pg_{hba,ident}.conf "$1/"
    [[ ${2-} == --no-start ]] || "${as_user[@]}" "$pg_bin/pg_ctl" -D "$1" -l "$1/../log" -s -w start
}
