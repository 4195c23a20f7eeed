# The short case: a failover by hand, without Patroni. Sourced by run.
# shellcheck shell=bash disable=SC2034,SC2154 # what run sets, and what it uses

# check WHAT COMMAND...
check() {
    if "${@:2}" >"$scratch/said" 2>&1; then
        passed=$((passed + 1))
        echo "ok - $1"
    else
        failed=$((failed + 1))
        echo "not ok - $1"
        sed 's/^/# /' "$scratch/said"
    fi
}

# The primary, cut off from its synchronous standby and not from the workers, who have it first in PGHOST, cannot commit any
# more, and nobody ends it. The standby is promoted.
failover() {
    databases=(db1 db2) worker_hosts=(w1) watched=(db1 db2) primary=db1
    make_hosts db1 db2 w1 sender
    make_pair
    deploy_schema
    make_worker_host w1
    configure_workers "$(order db1 db2)"
    start_worker_host w1
    eventually 30 is_ready w1 || die 'the worker is not ready'
    name=failover folder=$scratch/failover
    mkdir "$folder"
    begin_load
    sever db1 db2
    check 'a primary whose commits wait for ever: not ready' eventually 30 is_not_ready w1
    on db2 "${as_user[@]}" "$pg_bin/pg_ctl" -D "$scratch/db2/data" -s -w promote
    check 'the standby is promoted: the workers find it, though it is second in PGHOST' stored_since "$EPOCHREALTIME" 40
    check 'and are ready again' eventually 15 seen_ready
    kill "${loads[@]}"
    wait "${loads[@]}" || :
    end_watches
    primary=db2
    check 'nothing that was acknowledged is missing, no key was created twice, and it took 15 s at most' judge
}

is_not_ready() {
    [[ $(health "$1" ready) == '{"ready":false'* ]]
}

# make_pair: db1, and db2 as its synchronous standby.
make_pair() {
    local host
    for host in db1 db2; do
        install -d -o "$server_user" -m 700 "$scratch/$host" "$scratch/$host/socket"
    done
    "${as_user[@]}" env --chdir="$scratch/db1" "$pg_bin/initdb" -D data -U postgres -E UTF8 --locale=C.UTF-8 --no-sync \
        >"$scratch/db1/initdb.log" 2>&1
    printf '%s\n' 'local all all trust' 'host all,replication all samenet trust' >"$scratch/db1/data/pg_hba.conf"
    start_postgresql db1
    "${as_user[@]}" "$pg_bin/psql" -Xq -h "$scratch/db1/socket" -U postgres \
        -c "alter system set synchronous_standby_names = '*'"
    on db2 "${as_user[@]}" "$pg_bin/pg_basebackup" -h "${address[db1]}" -U postgres -D "$scratch/db2/data" -R -c fast \
        --no-sync
    # Who is promoted waits for nobody.
    "${as_user[@]}" sed -i '/^synchronous_standby_names/d' "$scratch/db2/data/postgresql.auto.conf"
    start_postgresql db2
    database=postgres sql db1 'select pg_reload_conf()' >/dev/null
    eventually 20 in_sync || die "no synchronous standby: $(tail -n 5 "$scratch"/db?/postgresql.log)"
}

start_postgresql() {
    daemon "$1" postgresql "$pg_bin/postgres" -D "$scratch/$1/data" -c listen_addresses="${address[$1]}" \
        -c unix_socket_directories="$scratch/$1/socket" -c shared_buffers=64MB
    eventually 20 "$pg_bin/pg_isready" -q -h "$scratch/$1/socket" ||
        die "PostgreSQL does not start: $(tail -n 5 "$scratch/$1/postgresql.log")"
}

in_sync() {
    [[ $(database=postgres sql db1 "select count(*) from pg_stat_replication where sync_state = 'sync'") == 1 ]]
}
