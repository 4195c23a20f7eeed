# A PostgreSQL whose administrator is no superuser, as a cloud offers it: the section "Managed PostgreSQL" of
# deploy/README.md to the letter, over TLS with scram-sha-256. The administrator has CREATEROLE and CREATEDB and nothing else.

setup_file() {
    load common
    BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR
    folder=$E2E_SCRATCH/managed
    certificate "$BATS_FILE_TMPDIR/server"
    make_cluster
    make_clients_environment
    follow 1
    for role in receiptd_migrator receiptd_writer receiptd_totals receiptd_purger; do
        # The page has \password, which asks on a terminal.
        psql -XqU dbadmin -d postgres -v ON_ERROR_STOP=1 -c "alter role $role password 'of $role'"
    done
    follow 2
}

teardown_file() {
    "${as_user[@]}" pg_ctl -D "$folder/data" -s -w -m immediate stop
}

setup() {
    load common
    folder=$E2E_SCRATCH/managed
    export PGUSER=dbadmin PGDATABASE=inventory
}

teardown() {
    [[ ! ${worker-} ]] || end_worker
}

# The provider's part: nobody gets in but over TLS with a password, except the provider.
make_cluster() {
    local user=postgres
    ((EUID == 0)) || user=$(id -un)
    set_as_user "$user"
    mkdir -p "$folder/home"
    ((EUID != 0)) || chown "$user:" "$folder"
    (cd "$folder" && "${as_user[@]}" initdb -D "$folder/data" -U provider -E UTF8 --locale=C.UTF-8 --no-sync) >/dev/null
    "${as_user[@]}" tee "$folder/data/pg_hba.conf" >/dev/null <<END
local all provider trust
hostssl inventory,postgres,staging all 127.0.0.1/32 scram-sha-256
END
    for file in server.key server.crt; do
        install -m 600 -o "$user" "$BATS_FILE_TMPDIR/$file" "$folder/data/$file"
    done
    PGPORT=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
    export PGPORT
    "${as_user[@]}" tee -a "$folder/data/postgresql.conf" >/dev/null <<END
listen_addresses = '127.0.0.1'
port = $PGPORT
unix_socket_directories = '$folder'
ssl = on
password_encryption = 'scram-sha-256'
fsync = on
shared_buffers = 32MB
END
    "${as_user[@]}" pg_ctl -D "$folder/data" -l "$folder/log" -s -w -t 300 start </dev/null >/dev/null 2>&1 3>&-
    as_provider "create role dbadmin login createrole createdb password 'of dbadmin'"
}

as_provider() {
    psql -XAtqU provider -h "$folder" -d "${2-postgres}" -v ON_ERROR_STOP=1 -c "$1"
}

# Where the commands of the page find the server and their passwords.
make_clients_environment() {
    local role
    for role in dbadmin receiptd_migrator receiptd_writer receiptd_totals receiptd_purger; do
        echo "127.0.0.1:$PGPORT:*:$role:of $role"
    done >"$folder/home/.pgpass"
    chmod 600 "$folder/home/.pgpass"
    export HOME=$folder/home PGPASSFILE=$folder/home/.pgpass PGHOST=127.0.0.1 PGSSLMODE=verify-full
    export PGSSLROOTCERT=$BATS_FILE_TMPDIR/server.crt
    export SQITCH_SYSTEM_CONFIG=$folder/none SQITCH_USER_CONFIG=$folder/none
}

# page_block N [LANGUAGE]: the Nth block of shell of the section.
page_block() {
    awk -v n="$1" -v language="${2-sh}" '
        /^## / { section = $0 }
        /^```$/ { on = 0 }
        on { print }
        section == "## Managed PostgreSQL" && $0 == "```" language { on = ++count == n }
    ' "$root/deploy/README.md"
}

# follow N: runs that block, with this server in place of the page's, where the first block leads to.
follow() {
    local text
    text=$(page_block "$1")
    [[ $text ]]
    text=${text//'/usr/share/receiptd/sql'/"$root/sql"}
    text=${text//db.example.com/127.0.0.1}
    text=${text//'/etc/ssl/certs/ca-certificates.crt'/"$PGSSLROOTCERT"}
    (cd "$root/sql" && bash -euc "$text" </dev/null 3>&-)
}

# as ROLE QUERY...
as() {
    local query arguments=()
    for query in "${@:2}"; do
        arguments+=(-c "$query")
    done
    PGUSER=$1 psql -XAtq -v ON_ERROR_STOP=1 "${arguments[@]}" 3>&-
}

@test "the administrator is no superuser, and nobody gets in without TLS and a password" {
    [[ $(as dbadmin "select rolsuper or rolreplication or rolbypassrls from pg_roles where rolname = current_user") == f ]]
    run env PGSSLMODE=disable psql -Xc 'select 1'
    [[ $status != 0 && $output == *'no pg_hba.conf entry'*'no encryption'* ]]
    run env PGPASSFILE=/dev/null psql -Xwc 'select 1'
    [[ $status != 0 && $output == *'no password supplied'* ]]
}

@test "roles.sql can be run again, and names what a superuser, or the provider's settings, have to do" {
    run psql -XqU dbadmin -d postgres -f "$root/sql/roles.sql"
    [[ $status == 0 ]]
    [[ $output == *'log_error_verbosity'* ]]
    [[ $output != *ERROR* && $output != *'already'* ]]
}

@test "a provider that lets the administrator set it: roles.sql does" {
    as_provider 'grant set on parameter log_error_verbosity to dbadmin'
    run psql -XqU dbadmin -d postgres -f "$root/sql/roles.sql"
    [[ $status == 0 && ! $output ]]
    [[ $(as receiptd_writer 'show log_error_verbosity') == terse ]]
    as_provider 'revoke set on parameter log_error_verbosity from dbadmin; alter role receiptd_writer reset log_error_verbosity'
}

@test "the schema was deployed as receiptd_migrator, and belongs to receiptd_owner" {
    sqitch --chdir "$root/sql" verify
    [[ $(as dbadmin "select distinct pg_get_userbyid(relowner) from pg_class where relnamespace = 'inventory'::regnamespace") == receiptd_owner ]]
}

# start_managed_worker: with the settings that the page puts into receiptd.env, and a key of its own.
start_managed_worker() {
    local text
    text=$(RECEIPTD_KEYS_FILE=/dev/null "$WORKER" key managed)
    CLIENT_API_KEY=$(grep -o 'rk_[A-Za-z0-9_-]*' <<<"$text")
    export CLIENT_API_KEY
    grep -o 'managed [0-9a-f]\{64\}$' <<<"$text" >"$BATS_TEST_TMPDIR/keys"
    chmod 600 "$BATS_TEST_TMPDIR/keys"
    state=$BATS_TEST_TMPDIR
    set_worker_env
    worker_env+=("PGSSLMODE=$PGSSLMODE" "PGSSLROOTCERT=$PGSSLROOTCERT" "PGPASSFILE=$PGPASSFILE")
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    eventually grep -q 'msg="connected to PostgreSQL: ' "$BATS_TEST_TMPDIR/log"
}

@test "a worker stores receipts, and the doctor has nothing against it" {
    local before
    before=$(as dbadmin 'select count(*) from receipts')
    start_managed_worker
    PYTHONPATH=$root/tests/faults python3 "$e2e/fastcgi.py" "$BATS_TEST_TMPDIR/socket" many_sizes 3>&-
    (($(as dbadmin 'select count(*) from receipts') == before + 100))
    [[ $(as_provider "select distinct ssl from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'receiptd_writer'") == t ]]
    run --separate-stderr "${worker_env[@]}" "$WORKER" doctor --json "$BATS_TEST_TMPDIR/socket"
    # The database's part; there is no nginx here.
    jq -r '.findings[] | select(.subject | test("endpoint|nginx|clock|disk") | not) | "\(.status) \(.subject): \(.finding)"' <<<"$output" |
        tee "$BATS_TEST_TMPDIR/findings"
    [[ $(grep -c '^ok ' "$BATS_TEST_TMPDIR/findings") -ge 7 ]]
    run -1 grep -v '^ok ' "$BATS_TEST_TMPDIR/findings"
}

# pg_cron's function, as far as the page uses it: keeps each job, for run_jobs.
keep_jobs() {
    as_provider "create schema cron;
        create table cron.job (jobname text, schedule text, command text, database text, username text);
        create function cron.schedule_in_database(job_name text, schedule text, command text, database text) returns void language sql
            as \$\$ insert into cron.job values (job_name, schedule, command, database, current_user) \$\$;
        grant usage on schema cron to dbadmin; grant select, insert on cron.job to dbadmin"
}

@test "pg_cron: the jobs of the page count for reports and delete what is old" {
    local jobs name command user database
    keep_jobs
    PGUSER=dbadmin psql -Xq -d postgres -v ON_ERROR_STOP=1 -f - <<<"$(page_block 1 sql)"
    as receiptd_migrator "insert into inventory.receipts (program_identifier, asn_number, from_identifier, from_type, to_identifier,
            to_type, to_original_identifier, unit_identifier, sku, initial_condition, initial_channel, ot_user_login, api_key_name,
            request_id, received_at)
        select 'P', 'A', '1', 'STORE', 1, 'WAREHOUSE', '1', name, 'S', 'A', 'C', 'L', 'K', gen_random_uuid(), at
        from (values ('old', now() - interval '4 years'), ('new', now())) as unit (name, at)"
    as receiptd_migrator "insert into inventory.feed_events (change, program_identifier, asn_number, unit_identifier, received_at, written_at)
        values ('deleted', 'P', 'A', 'gone', now(), now() - interval '31 days')"
    # As pg_cron does: each command by itself, as the user who made the job.
    jobs=0
    while IFS='|' read -r name database user command; do
        echo "$name: $command"
        PGUSER=$user PGDATABASE=$database psql -Xq -v ON_ERROR_STOP=1 -c "$command" >/dev/null 3>&-
        jobs=$((jobs + 1))
    done < <(as_provider 'select jobname, database, username, command from cron.job')
    ((jobs == 3))
    [[ $(as dbadmin "select now() - counted_at < interval '1 hour' from inventory.totals_state") == t ]]
    [[ $(as dbadmin "select string_agg(unit_identifier, ' ') from receipts where program_identifier = 'P'") == new ]]
    [[ $(as dbadmin "select count(*) from inventory.feed_events where unit_identifier = 'gone'") == 0 ]]
}

@test "a dump is restored as receiptd_migrator" {
    local before
    before=$(as dbadmin 'select count(*) from receipts')
    # Only the provider may create, or read, them.
    as_provider 'create extension pgstattuple; create schema provider; create table provider.own ()' inventory
    follow 3
    [[ $(PGDATABASE=staging as dbadmin 'select count(*) from receipts') == "$before" ]]
    # Its worker leaves production alone.
    PGDATABASE=staging start_managed_worker
    PYTHONPATH=$root/tests/faults python3 "$e2e/fastcgi.py" "$BATS_TEST_TMPDIR/socket" many_sizes 3>&-
    (($(PGDATABASE=staging as dbadmin 'select count(*) from receipts') == before + 100))
    [[ $(as dbadmin 'select count(*) from receipts') == "$before" ]]
    PGDATABASE=staging as receiptd_writer 'select problem, advice from inventory.schema_problems()' >"$BATS_TEST_TMPDIR/problems"
    [[ ! -s $BATS_TEST_TMPDIR/problems ]]
    sqitch --chdir "$root/sql" verify db:pg://receiptd_migrator@/staging
    diff <(definitions inventory) <(definitions staging)
}

# definitions DATABASE: of everything in it, with owners and privileges. PostgreSQL writes "a and b and c" with other
# parentheses once it has been restored.
definitions() {
    pg_dump -U receiptd_migrator --schema inventory --schema reporting --schema sqitch --schema-only "$1" 3>&- | grep -v '^\\\(un\)\?restrict ' | tr -d '()'
}
