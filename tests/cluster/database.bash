# etcd, Patroni and PostgreSQL on db1, db2 and db3, as deploy/HIGH-AVAILABILITY.md configures them; sourced by run.
# shellcheck shell=bash disable=SC2034,SC2154 # what run sets, and what it uses

databases=(db1 db2 db3)
# Patroni's settings in most cases: its shortest ttl, and what fits into it.
quick='"ttl": 20, "loop_wait": 5, "retry_timeout": 5'
defaults='"ttl": 30, "loop_wait": 10, "retry_timeout": 10'

# page_block FILE: prints the block of deploy/HIGH-AVAILABILITY.md for that file, which its first line names.
page_block() {
    awk -v file="$1" '
        /^```/ { inside = !inside; first = inside; wanted = 0; next }
        first { wanted = $1 ~ /^[#;]$/ && $2 == file; found = found || wanted; first = 0 }
        inside && wanted
        END { exit !found }' "$page" || die "deploy/HIGH-AVAILABILITY.md has no block for $1"
}

# for_host HOST: prints a block for db1, from standard input, as that host has it. Lines with all three hosts stay.
for_host() {
    sed "/${address[db2]//./\\.}/! { s/${address[db1]//./\\.}/${address[$1]}/g; s/\bdb1\b/$1/g; }"
}

make_database_host() {
    install -d -o "$server_user" -m 700 "$scratch/$1" "$scratch/$1/socket"
    page_block /etc/default/etcd | for_host "$1" >"$scratch/$1/etcd.env"
    page_block /etc/patroni/config.yml | for_host "$1" | sed -e "s,/var/lib/postgresql/[0-9]*/main,$scratch/$1/data," \
        -e "s,/usr/lib/postgresql/[0-9]*/bin,$pg_bin," -e "s,/var/lib/postgresql/,$scratch/$1/," \
        -e "s,/var/run/postgresql,$scratch/$1/socket," \
        -e "s/mode: required/mode: off/" -e "s/^etcd:/${DCS-etcd}:/" >"$scratch/$1/patroni.yml"
    chown -R "$server_user:" "$scratch/$1"
}

start_etcd() {
    local settings
    mapfile -t settings < <(grep -v '^#' "$scratch/$1/etcd.env")
    daemon "$1" etcd env "${settings[@]}" ETCD_DATA_DIR="$scratch/$1/etcd" ETCD_LOG_LEVEL=warn etcd
}

start_patroni() {
    daemon "$1" patroni env HOME="$scratch/$1" /usr/bin/python3 /usr/bin/patroni "$scratch/$1/patroni.yml"
}

start_database_host() {
    runs "$1" etcd || start_etcd "$1"
    if ! runs "$1" patroni; then
        # As when a host boots. Else the process ids in there may be those of others by now, and PostgreSQL refuse to start.
        postgresql_runs "$1" || rm -f "$scratch/$1/data/postmaster.pid" "$scratch/$1"/socket/.s.*
        start_patroni "$1"
    fi
}

postgresql_runs() {
    [[ -e $scratch/$1/data/postmaster.pid &&
        /proc/$(head -n 1 "$scratch/$1/data/postmaster.pid")/cwd -ef $scratch/$1/data ]]
}

# patronictl COMMAND...: as an operator calls it.
patronictl() {
    on sender "${as_user[@]}" env LC_ALL=C.UTF-8 /usr/bin/patronictl -c "$scratch/db1/patroni.yml" "$@"
}

# rest HOST PATH [CURL-ARGUMENT...]: Patroni's own HTTP of that host.
rest() {
    on sender curl -q -s -m 2 "${@:3}" "http://${address[$1]}:8008/$2"
}

# configure JSON: changes Patroni's dynamic configuration.
configure() {
    local host
    for host in "${databases[@]}"; do
        ! rest "$host" config -f -o /dev/null -X PATCH -d "$1" || return 0
    done
    return 1
}

# is_primary HOST: whether Patroni says that it is.
is_primary() {
    rest "$1" primary -f -o /dev/null
}

# find_primary: sets primary to the host that has the leader's key and runs as one.
find_primary() {
    for primary in "${databases[@]}"; do
        ! is_primary "$primary" || return 0
    done
    primary=
    return 1
}

# find_other_primary: whether there is another one than primary.
find_other_primary() {
    local host
    for host in "${databases[@]}"; do
        [[ $host == "$primary" ]] || ! is_primary "$host" || return 0
    done
    return 1
}

# sql HOST QUERY: as the administrator.
sql() {
    on sender psql -XqAt -v ON_ERROR_STOP=1 -h "${address[$1]}" -U postgres -d "${database-inventory}" -c "$2"
}

# is_whole: whether the primary has two standbys that stream, and in synchronous mode waits for one of them. One that was
# switched off stays in the view for a while, and says nothing more.
is_whole() {
    local streaming sync
    find_primary &&
        IFS='|' read -r streaming sync < <(database=postgres sql "$primary" "
            select count(*) filter (where state = 'streaming'), count(*) filter (where sync_state in ('sync', 'quorum'))
            from pg_stat_replication
            where application_name like 'db_' and reply_time > now() - interval '11 s'" 2>/dev/null) &&
        ((streaming == 2 && sync == wanted_sync))
}

# find_standbys: sets standby to the synchronous one, or else to one of the two, and other to the other one.
find_standbys() {
    local host
    standby=$(database=postgres sql "$primary" "select application_name from pg_stat_replication
        where application_name like 'db_' order by sync_state = 'async', application_name limit 1")
    for host in "${databases[@]}"; do
        [[ $host == "$primary" || $host == "$standby" ]] || other=$host
    done
}

# sessions_on HOST: how many the workers have there.
sessions_on() {
    database=postgres sql "$1" "select count(*) from pg_stat_activity where usename = 'receiptd_writer'"
}

# isolate HOST: from the other two, not from the workers.
isolate() {
    local host
    for host in "${databases[@]}"; do
        [[ $host == "$1" ]] || sever "$1" "$host"
    done
}

# kill_postgresql HOST: its postmaster, with -9.
kill_postgresql() {
    kill -KILL "$(head -n 1 "$scratch/$1/data/postmaster.pid")"
}

make_database() {
    local host
    for host in "${databases[@]}"; do
        make_database_host "$host"
        start_etcd "$host"
    done
    start_patroni db1
    eventually 60 find_primary || die_with_logs 'Patroni makes no primary'
    start_patroni db2
    start_patroni db3
    configure "{$quick}"
    eventually 120 is_whole || die_with_logs 'the standbys do not stream'
    deploy_schema
}

# deploy_schema: on the primary, as the page has it.
deploy_schema() {
    local commands role
    commands=$(page_block database | for_host "$primary")
    commands=${commands//'/usr/share/receiptd/sql'/"$root/sql"}
    for role in migrator writer; do
        commands=${commands//"'\password receiptd_$role'"/"\"alter role receiptd_$role password '${role^^}-PASSWORD'\""}
    done
    on sender env HOME="$scratch" LC_ALL=C.UTF-8 bash -euc "$commands" >"$scratch/schema.log" 2>&1 ||
        die "the schema: $(tail -n 5 "$scratch/schema.log")"
}
