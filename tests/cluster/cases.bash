# The cases, each a function of that name. A case begins with a primary, a synchronous standby and one more (other), and with
# workers that have the primary first in PGHOST. Sourced by run.
# shellcheck shell=bash disable=SC2034,SC2154 # what run sets, and what it uses

cases=(
    switchover switchover_haproxy switchover_pgbouncer
    postmaster_killed primary_off primary_off_haproxy primary_off_defaults
    primary_cut primary_cut_defaults
    split_first split_last split_haproxy split_strict split_require split_defaults
    standby_off standbys_off standbys_off_strict standbys_off_require two_hosts_off
    worker_cut worker_deaf primary_deaf_to_worker black_hole_workers
    standby_deaf primary_deaf_to_standbys etcd_deaf others_deaf_to_etcd
    paused worker_host_off loss
    async_cut async_split
)

switchover() {
    begin_load
    patronictl switchover receiptd --leader "$primary" --candidate "$standby" --force
    served_by_other
    judged --no-503
}

switchover_haproxy() {
    through_haproxy
    switchover
}

switchover_pgbouncer() {
    start_haproxy
    local host
    for host in "${worker_hosts[@]}"; do
        start_pgbouncer "$host"
    done
    configure_workers PGHOST=127.0.0.1 PGPORT=6432 RECEIPTD_PREPARED_STATEMENTS=off
    switchover
}

through_haproxy() {
    start_haproxy
    configure_workers PGHOST="${address[proxy]}" PGPORT=5000
}

postmaster_killed() {
    begin_load
    kill_postgresql "$primary"
    sleep 1
    served
    judged
}

# The host is gone without a word.
primary_off() {
    begin_load
    power_off "$primary"
    served_by_other
    judged
}

primary_off_haproxy() {
    through_haproxy
    primary_off
}

primary_off_defaults() {
    configure "{$defaults}"
    primary_off
}

# The primary's host is cut off from the other databases and their etcd, not from the workers: Patroni makes it read-only.
primary_cut() {
    begin_load
    isolate "$primary"
    served_by_other
    heal
    served
    judged
}

primary_cut_defaults() {
    configure "{$defaults}"
    primary_cut
}

# The same where nobody makes it read-only: its Patroni is dead.
split() {
    local before after
    begin_load
    before=$(sessions_on "$primary")
    kill_daemon "$primary" patroni
    isolate "$primary"
    served_by_other
    after=$(sessions_on "$primary")
    ((after <= before)) || problem "the workers left sessions on the old primary: $before became $after"
    start_databases
    served
    judged "$@"
}

split_first() {
    split
}

split_last() {
    configure_workers "$(order "$standby" "$other" "$primary")"
    split
}

split_haproxy() {
    through_haproxy
    split
}

split_defaults() {
    configure "{$defaults}"
    split
}

split_strict() {
    configure '{"synchronous_mode_strict": true}'
    split
}

# Workers that know of no other host stay with the old primary. When a new Patroni takes charge of it, that first of all
# empties synchronous_standby_names, which lets go what waits, and stops it only then.
split_require() {
    configure_workers "$(order "$primary")" RECEIPTD_REQUIRE_STANDBY=on
    watched=("$primary") watching=(--with-standby)
    begin_load
    kill_daemon "$primary" patroni
    isolate "$primary"
    eventually 90 find_other_primary
    start_databases
    sleep 10
    configure_workers "$(order "${databases[@]}")" RECEIPTD_REQUIRE_STANDBY=on
    served
    judged
}

# Another standby becomes the synchronous one.
standby_off() {
    begin_load
    power_off "$standby"
    served
    sleep 10
    bring_back "$standby"
    served
    judged
}

# bring_back HOST...
bring_back() {
    local host
    for host in "$@"; do
        power_on "$host"
        start_database_host "$host"
    done
}

# Their PostgreSQL; etcd stays. Patroni empties synchronous_standby_names, and goes on without.
stop_standbys() {
    local host
    for host in "$standby" "$other"; do
        kill_daemon "$host" patroni
        kill_postgresql "$host"
    done
}

standbys_off() {
    begin_load
    stop_standbys
    eventually 40 names_empty
    served
    bring_back "$standby" "$other"
    eventually 60 names_set
    served
    judged
}

names_empty() {
    [[ -z $(database=postgres sql "$primary" 'show synchronous_standby_names') ]]
}

names_set() {
    ! names_empty
}

# Nothing is stored until one is back.
standbys_off_strict() {
    configure '{"synchronous_mode_strict": true}'
    begin_load
    stop_standbys
    sleep 40
    bring_back "$standby"
    served
    judged
}

# As without strict, but the workers want a standby.
standbys_off_require() {
    configure_workers "$(order "$primary" "$standby" "$other")" RECEIPTD_REQUIRE_STANDBY=on
    watching=(--with-standby)
    begin_load
    stop_standbys
    eventually 40 names_empty
    sleep 25
    bring_back "$standby"
    eventually 60 names_set
    served
    judged --with-standby
}

# Without two of its three members, etcd has no leader: Patroni makes the primary read-only.
two_hosts_off() {
    begin_load
    power_off "$standby"
    power_off "$other"
    sleep 40
    bring_back "$standby"
    served
    judged
}

# One worker's host and the primary do not hear each other.
worker_cut() {
    begin_load
    sever w1 "$primary"
    sleep 30
    heal
    served
    judged
}

# One direction only.
worker_deaf() {
    begin_load
    deaf w1 "$primary"
    sleep 30
    heal
    served
    judged
}

primary_deaf_to_worker() {
    begin_load
    deaf "$primary" w1
    sleep 30
    heal
    served
    judged
}

# The workers' connections lose every packet; new ones work.
black_hole_workers() {
    begin_load
    black_hole w1 "$primary" 5432
    black_hole w2 "$primary" 5432
    sleep 1
    served
    sleep 10
    judged
}

# The standbys do not hear the primary, but it hears them.
standby_deaf() {
    begin_load
    deaf "$standby" "$primary"
    deaf "$other" "$primary"
    sleep 35
    served
    heal
    served
    judged
}

primary_deaf_to_standbys() {
    begin_load
    deaf "$primary" "$standby"
    deaf "$primary" "$other"
    sleep 35
    served
    heal
    served
    judged
}

# Only etcd, in one direction.
etcd_deaf() {
    begin_load
    deaf_to_etcd "$primary" "$standby"
    deaf_to_etcd "$primary" "$other"
    sleep 35
    served
    heal
    served
    judged
}

others_deaf_to_etcd() {
    begin_load
    deaf_to_etcd "$standby" "$primary"
    deaf_to_etcd "$other" "$primary"
    sleep 35
    served
    heal
    served
    judged
}

# Nobody takes over while Patroni is paused.
paused() {
    patronictl pause receiptd --wait
    begin_load
    kill_postgresql "$primary"
    sleep 25
    patronictl resume receiptd
    served
    judged
}

# A sender with two addresses; one of the hosts goes off in the middle of a switchover.
worker_host_off() {
    sending=("https://${address[w2]}:8443/inventory_receipt" "https://${address[w1]}:8443/inventory_receipt")
    begin_load
    patronictl switchover receiptd --leader "$primary" --candidate "$standby" --force &
    local switching=$!
    sleep 1.5
    power_off w1
    worker_hosts=(w2)
    wait "$switching"
    served_by_other
    judged
}

# Packets to and from the primary.
loss() {
    begin_load
    lose "$primary" 5
    sleep 15
    on "$primary" nft flush table inet cut
    lose "$primary" 15
    sleep 15
    heal
    served
    judged
}

# Nobody promises that nothing is lost here. How many are lost is counted, and receiptd missing has to name them.
async_cut() {
    without_sync
    begin_load
    isolate "$primary"
    served_by_other
    heal
    served
    judged --mode async && missing_is_listed
}

async_split() {
    without_sync
    split --mode async && missing_is_listed
}

without_sync() {
    configure '{"synchronous_mode": false}'
    wanted_sync=0
    eventually 60 is_whole
}
