# Hosts as network namespaces on one bridge, each with a firewall of its own to cut connections with; sourced by run.
# shellcheck shell=bash disable=SC2034,SC2154 # what run sets, and what it uses

declare -A address=(
    [db1]=10.0.0.11 [db2]=10.0.0.12 [db3]=10.0.0.13
    [w1]=10.0.0.21 [w2]=10.0.0.22
    [proxy]=10.0.0.31 [sender]=10.0.0.41
)
hosts=()

# The names of this run's namespaces begin with it, so that several runs can go side by side.
namespace=receiptd-$$

# The reason why there can be no namespaces here, or nothing.
why_no_hosts() {
    local try=$namespace-try
    if ((EUID != 0)); then
        echo 'network namespaces need root'
    elif ! command -v ip >/dev/null || ! command -v nft >/dev/null; then
        echo 'ip or nft is not installed'
    elif ! ip netns add "$try" 2>/dev/null; then
        echo 'the kernel allows no network namespaces here'
    else
        firewall | ip netns exec "$try" nft -f - 2>/dev/null || echo 'nft does not work in a network namespace here'
        ip netns del "$try"
    fi
}

firewall() {
    cat <<'END'
table inet cut {
    chain in { type filter hook input priority 0; policy accept; }
    chain out { type filter hook output priority 0; policy accept; }
}
END
}

# make_hosts NAME...
make_hosts() {
    local host
    ip netns add "$namespace-switch"
    hosts=(switch)
    ip -n "$namespace-switch" link add bridge type bridge
    ip -n "$namespace-switch" link set bridge up
    for host in "$@"; do
        ip netns add "$namespace-$host"
        hosts+=("$host")
        ip link add "$host" netns "$namespace-switch" type veth peer name eth0 netns "$namespace-$host"
        ip -n "$namespace-switch" link set "$host" master bridge up
        ip -n "$namespace-$host" link set lo up
        ip -n "$namespace-$host" address add "${address[$host]}/24" dev eth0
        ip -n "$namespace-$host" link set eth0 up
        firewall | on "$host" nft -f -
    done
}

# Ends whatever runs in this run's namespaces, and removes them.
remove_hosts() {
    local host
    for host in "${hosts[@]}"; do
        end_processes_of "$host" TERM
    done
    await 5 none_runs || :
    for host in "${hosts[@]}"; do
        end_processes_of "$host" KILL
    done
    await 10 none_runs || :
    for host in "${hosts[@]}"; do
        ip netns del "$namespace-$host"
    done
    hosts=()
}

none_runs() {
    local host
    for host in "${hosts[@]}"; do
        [[ -z $(ip netns pids "$namespace-$host") ]] || return 1
    done
}

# end_processes_of HOST SIGNAL
end_processes_of() {
    local pid
    for pid in $(ip netns pids "$namespace-$1"); do
        kill "-$2" "$pid" 2>/dev/null || :
    done
}

# on HOST COMMAND...: as root, with the network of that host.
on() {
    ip netns exec "$namespace-$1" "${@:2}"
}

# start_on HOST COMMAND...: the same in the background. Sets pid.
start_on() {
    ip netns exec "$namespace-$1" "${@:2}" &
    pid=$!
}

# daemon HOST NAME COMMAND...: in the background, as the server's user; its log is HOST/NAME.log, its process id in
# HOST/NAME.pid.
daemon() {
    local pid
    start_on "$1" "${as_user[@]}" setsid "${@:3}" </dev/null >>"$scratch/$1/$2.log" 2>&1
    # The shell is not to tell of its end.
    disown "$pid"
    echo "$pid" >"$scratch/$1/$2.pid"
}

# runs HOST NAME: whether that daemon does.
runs() {
    local pid
    pid=$(cat "$scratch/$1/$2.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null
}

# kill_daemon HOST NAME
kill_daemon() {
    kill -KILL "$(<"$scratch/$1/$2.pid")"
    eventually 10 is_down "$1" "$2"
}

is_down() {
    ! runs "$@"
}

# deaf A B: A receives nothing from B any more. Nobody is told: packets vanish.
deaf() {
    on "$1" nft add rule inet cut in ip saddr "${address[$2]}" drop
}

# sever A B: neither receives anything from the other.
sever() {
    deaf "$1" "$2"
    deaf "$2" "$1"
}

# deaf_to_etcd A B: as deaf, for what is etcd's only.
deaf_to_etcd() {
    on "$1" nft add rule inet cut in ip saddr "${address[$2]}" tcp sport '{ 2379, 2380 }' drop
    on "$1" nft add rule inet cut in ip saddr "${address[$2]}" tcp dport '{ 2379, 2380 }' drop
}

# lose HOST PERCENT: of the packets that reach that host and leave it.
lose() {
    on "$1" nft add rule inet cut in iifname eth0 numgen random mod 100 '<' "$2" drop
    on "$1" nft add rule inet cut out oifname eth0 numgen random mod 100 '<' "$2" drop
}

# black_hole A B PORT: the connections from A to that port of B which there are lose every packet, and nobody is told.
# New ones work.
black_hole() {
    local ports
    ports=$(on "$1" ss -Htn state established dst "${address[$2]}" dport = ":$3" | awk '{ sub(/.*:/, "", $3); print $3 }' |
        paste -sd,)
    [[ $ports ]] || problem "$1 has no connection to $2"
    on "$1" nft add rule inet cut in ip saddr "${address[$2]}" tcp dport "{ $ports }" drop
    on "$1" nft add rule inet cut out ip daddr "${address[$2]}" tcp sport "{ $ports }" drop
}

# heal: every host receives everything again.
heal() {
    local host
    for host in "${hosts[@]:1}"; do
        on "$host" nft flush table inet cut
    done
}

# power_off HOST: silently; not even the end of its connections is told to others.
power_off() {
    on "$1" nft add rule inet cut in iifname eth0 drop
    on "$1" nft add rule inet cut out oifname eth0 drop
    end_processes_of "$1" KILL
    await 10 nothing_runs_on "$1"
}

nothing_runs_on() {
    [[ -z $(ip netns pids "$namespace-$1") ]]
}

# power_on HOST: it receives again; start_… starts what is to run there.
power_on() {
    on "$1" nft flush table inet cut
}
