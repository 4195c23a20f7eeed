# One sender with a valid key who sends the most expensive bodies that there are, 64 at a time.

setup() {
    load faults
    use_faulty_instance shared
}

teardown() {
    heal
}

# peak_kb FILE: the most anonymous memory that a process had, or a little less: without what is mapped or shared now.
peak_kb() {
    awk '{ kb[$1] = $2 } END { print kb["VmHWM:"] - kb["RssFile:"] - kb["RssShmem:"] }' "$1"
}

# The figures of README.md, "Memory".
backend_max_mb() {
    sed -n 's/^.*A backend takes at most \([0-9]*\) MB.*/\1/p' "$root/README.md"
}

flood() {
    python3 "$faults/flood.py" "$@" 3>&-
}

worst_bodies() {
    mapfile -t bodies < <(flood list)
    ((${#bodies[@]} > 10))
}

@test "the worst bodies: workers and backends stay within the memory that is documented, and none is killed" {
    local n pid name bodies workers=() most_mib most_mb
    most_mb=$(backend_max_mb)
    # As on a host with 16 processors.
    workers_with RECEIPTD_THREADS=16 RECEIPTD_PG_CONNECTIONS=4
    for n in 1 2; do
        workers[n]=$(worker_pid "$n")
    done
    most_mib=$(sed -n 's/.*takes at most \([0-9]*\) MiB of memory.*/\1/p' "$state/log/worker-1.log" | tail -n 1)
    worst_bodies
    for name in "${bodies[@]}"; do
        flood burst "$name" 80
        for n in 1 2; do
            ((workers[n] == $(worker_pid "$n")))
            echo "worker $n: $(($(peak_kb "/proc/${workers[n]}/status") / 1024)) MiB of $most_mib"
            (($(peak_kb "/proc/${workers[n]}/status") <= most_mib * 1024))
        done
        while read -r pid; do
            [[ -e /proc/$pid/status ]] || continue
            echo "backend: $(($(peak_kb "/proc/$pid/status") / 1000)) MB of $most_mb"
            (($(peak_kb "/proc/$pid/status") <= most_mb * 1000))
        done < <(sql "select pid $of_workers")
    done
    serves
}

# holds_up_nobody NAME: beside a flood of these bodies. The machine has other things to do too: what is slow is measured again.
holds_up_nobody() {
    for _ in 1 2 3; do
        measure_slowness
        if flood beside "$1" 400 $((250 * slow)); then return; fi
    done
    return 1
}

@test "the worst bodies: receipts of another sender take at most a quarter of a second, and no worker is killed" {
    local name workers
    workers_with
    workers="$(worker_pid 1) $(worker_pid 2)"
    for name in text 'names and text' 'many small' 'too many values'; do
        holds_up_nobody "$name"
    done
    [[ $workers == "$(worker_pid 1) $(worker_pid 2)" ]]
}
