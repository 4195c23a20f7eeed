# PostgreSQL of the local instance, with the schema; sourced by deploy/local.
# shellcheck shell=bash disable=SC2154 # what deploy/local sets

# The newest PostgreSQL, or the one that made the cluster.
need_postgresql() {
    local needed=''
    [[ ! -f $var/pgdata/PG_VERSION ]] || needed=$(<"$var/pgdata/PG_VERSION")
    find_postgresql "$needed" ||
        die "PostgreSQL ${needed:-$oldest_postgresql or newer} is missing; deploy/install-packages installs one"
}

start_postgresql() {
    local log=$var/log/postgresql.log did=runs
    if ! pid_of postgresql >/dev/null; then
        did=started
        if [[ ! -f $var/pgdata/PG_VERSION ]]; then
            did=created
            make_cluster
        fi
        put "$var/pgdata/receiptd.conf" 0600 "$run_user" <<END
# Written by deploy/local at every start. Other settings belong into postgresql.conf, below its include line.
listen_addresses = ''
port = 5432
unix_socket_directories = '"$run"'
unix_socket_permissions = 0700
cluster_name = 'receiptd'
max_connections = 100

# An answer is a promise: these stay on.
fsync = on
full_page_writes = on
synchronous_commit = on

shared_buffers = 256MB
max_wal_size = 2GB
# Not in /dev/shm, which systemd clears of an ordinary user's files when that user logs out.
dynamic_shared_memory_type = mmap
log_line_prefix = '%m [%p] %q%u@%d '
# Without the DETAIL lines, which can show a whole row, and that names people.
log_error_verbosity = terse
END
        # The last processes of one that was killed may still be ending. When there are none, its process id may be
        # another program's by now, which PostgreSQL would take for itself, and refuse to start.
        if await 10 none_in "$var/pgdata" postgres; then
            rm -f "$var/pgdata/postmaster.pid" "$run/.s.PGSQL.5432.lock"
        fi
        (detached "$log" "$pg_bin/pg_ctl" -D "$var/pgdata" -l "$log" -s -w -t 300 start) ||
            die_with_log 'PostgreSQL does not start' "$log"
    fi
    # One that was found running may still be starting.
    "$pg_bin/pg_isready" -q -t 60 -h "$run" -p 5432 -U postgres -d postgres ||
        die_with_log 'PostgreSQL does not answer' "$log"
    report PostgreSQL "$did" "process $(pid_of postgresql), data in $link/pgdata"
}

make_cluster() {
    rm -rf "$var/pgdata.new"
    make_folder pgdata.new 0700 "$run_user"
    "${as_run_user[@]}" "$pg_bin/initdb" -D "$var/pgdata.new" -U postgres -A peer -E UTF8 --locale=C.UTF-8 \
        >>"$var/log/start.log" 2>&1 || die_with_log 'initdb failed' "$var/log/start.log"
    put "$var/pgdata.new/pg_hba.conf" 0600 "$run_user" <<<'local all all peer map=local'
    {
        echo '# Who runs things may be any of the roles that are needed here, and root may too.'
        printf 'local "%s" %s\n' "$run_user" postgres "$run_user" receiptd_migrator "$run_user" receiptd_writer
        [[ $run_user == root ]] ||
            printf 'local "%s" %s\n' root postgres root receiptd_migrator root receiptd_writer
    } | put "$var/pgdata.new/pg_ident.conf" 0600 "$run_user"
    {
        cat "$var/pgdata.new/postgresql.conf"
        printf "\ninclude 'receiptd.conf'\n"
    } | put "$var/pgdata.new/postgresql.conf" 0600 "$run_user"
    mv -T "$var/pgdata.new" "$var/pgdata"
}

deploy_schema() {
    local log=$var/log/start.log did='up to date'
    sql -d postgres -f "$root/sql/roles.sql" >>"$log" 2>&1 || die_with_log 'sql/roles.sql failed' "$log"
    if [[ -z $(sql -At -d postgres -c "select 1 from pg_database where datname = 'inventory'") ]]; then
        sql -d postgres -c "create database inventory owner receiptd_owner template template0 encoding 'UTF8'" \
            >>"$log" 2>&1 || die_with_log 'the database inventory could not be created' "$log"
    fi
    # So that "select * from receipts" works for everybody here, and is not compiled for longer than it then runs.
    sql -d postgres -c 'alter database inventory set search_path = inventory, public' \
        -c 'alter database inventory set jit = off'
    HOME=$var SQITCH_SYSTEM_CONFIG=$var/none SQITCH_USER_CONFIG=$var/none \
        SQITCH_FULLNAME='local instance' SQITCH_EMAIL=receiptd@localhost LC_ALL=C.UTF-8 \
        PGHOST=$run PGPORT=5432 PGUSER=receiptd_migrator \
        sqitch --chdir "$root/sql" deploy --verify db:pg:inventory >>"$log" 2>&1 ||
        die_with_log 'sqitch could not deploy the schema' "$log"
    ! grep -q '^  + ' "$log" || did=deployed
    report schema "$did" 'database inventory'
}

sql() {
    PGOPTIONS='-c client_min_messages=warning' "$pg_bin/psql" -X -q -P pager=off -v ON_ERROR_STOP=1 \
        -h "$run" -p 5432 -U postgres "$@"
}
