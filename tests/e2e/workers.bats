# What a sender sees when workers come and go: nothing.

setup() {
    load common
    use_instance shared
}

teardown() {
    local_instance shared status || start_instance shared RECEIPTD_THREADS=2
}

# logged N TEXT: how often that is in the log of the worker, which is its supervisor's as well.
logged() {
    grep -c -- "$2" "$state/log/worker-$1.log" || :
}

# dumps_core NAME=VALUE: whether a worker with that setting that aborts dumps its memory, whatever becomes of that.
dumps_core() {
    set_worker_env
    (
        cd "$BATS_TEST_TMPDIR" || exit
        ulimit -c unlimited
        "${worker_env[@]}" "$1" python3 - "$WORKER" "$BATS_TEST_TMPDIR" <<'END'
import os, signal, subprocess, sys, time
with open(sys.argv[2] + "/log", "wb") as log:
    worker = subprocess.Popen([sys.argv[1], "--listen", sys.argv[2] + "/socket"], stderr=log)
while b" serves on " not in open(sys.argv[2] + "/log", "rb").read():
    time.sleep(0.01)
worker.send_signal(signal.SIGABRT)
sys.exit(not os.WCOREDUMP(os.waitpid(worker.pid, 0)[1]))
END
    ) 3>&-
}

@test "a worker that aborts leaves no core dump, unless that is wanted" {
    ! grep -qa __asan_init "$WORKER" || skip 'a sanitizer decides about that'
    (ulimit -c unlimited) || skip 'no core dump is allowed here'
    run -1 dumps_core RECEIPTD_CORE_DUMPS=off
    run -1 dumps_core RECEIPTD_LOG_LEVEL=info
    dumps_core RECEIPTD_CORE_DUMPS=on
}

# Two seconds on a quiet machine. One on which a worker takes longer to start, is given as much longer.
@test "a worker killed with -9 under load: another runs within two seconds, and no request fails" {
    local n old begun start_us took_us
    load_in_background --connections 8 --every-ms 20 --burst 8 --new 2 --again 1 --revise 1 --invalid 1 --flawless
    load_goes_on 20
    set_worker_env
    begun=${EPOCHREALTIME/[.,]/}
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    start_us=$((${EPOCHREALTIME/[.,]/} - begun))
    end_worker
    for n in 1 2 1; do
        old=$(worker_pid "$n")
        begun=${EPOCHREALTIME/[.,]/}
        kill -KILL "$old"
        eventually new_worker "$n" "$old"
        took_us=$((${EPOCHREALTIME/[.,]/} - begun))
        echo "worker $n was back after $took_us us; another one takes $start_us us to start"
        ((took_us < 2000000 + 5 * start_us))
        load_goes_on 20
    done
    end_load
}

@test "a worker told to end under load: it ends with status 0, and both in turn are replaced without a failed request" {
    local n old ended
    load_in_background --connections 16 --every-ms 40 --burst 16 --new 2 --again 1 --revise 1 --malformed 1 --flawless
    eventually test -s "$record"
    for n in 1 2; do
        old=$(worker_pid "$n") ended=$(logged "$n" 'worker ended.* status=0$')
        kill "$old"
        eventually new_worker "$n" "$old"
        (($(logged "$n" 'worker ended.* status=0$') == ended + 1))
        load_goes_on 20
    done
    end_load
}

@test "the supervisor passes SIGTERM and SIGHUP on, starts what ends again, and ends with it when told to" {
    local name=$BATS_TEST_TMPDIR/one log=$BATS_TEST_TMPDIR/log supervisor first
    # shellcheck disable=SC2016 # for the inner shell
    env --default-signal=HUP "$root/deploy/keep-running" "$name" bash -c 'trap "echo HUP" HUP; trap "echo TERM; exit" TERM
        echo ready; while sleep 0.05; do :; done' >"$log" 2>&1 3>&- &
    supervisor=$!
    eventually grep -q ready "$log"
    [[ $(<"$name.supervisor.pid") == "$supervisor" ]]
    first=$(<"$name.pid")
    kill -KILL "$first"
    eventually grep -q 'worker ended.* status=137' "$log"
    eventually has_lines 2 ready "$log"
    kill -HUP "$supervisor"
    eventually grep -q HUP "$log"
    kill "$supervisor"
    eventually ended "$supervisor"
    wait "$supervisor"
    [[ $(tail -n 1 "$log") == TERM && ! -e $name.pid && ! -e $name.supervisor.pid ]]
}

# has_lines COUNT PATTERN FILE
has_lines() {
    [[ $(grep -c "$2" "$3") == "$1" ]]
}

@test "one worker does the work, and the other one stands by" {
    local before
    before=$(deliveries_of 2)
    deliver --connections 32 --deliveries 500 --flawless
    [[ $(deliveries_of 2) == "$before" ]]
}

@test "one worker down: the other takes all; both down: 503 in JSON, at once" {
    local n
    bring_down 1
    for n in {1..6}; do
        post "$(receipt "workers-$n")"
        expect 201 created
    done
    bring_down 2
    post "$(receipt workers-1)"
    expect 503
    [[ $(header Retry-After) == 5 ]]
    start_instance shared RECEIPTD_THREADS=2
    post "$(receipt workers-1)"
    expect 200 unchanged
}

# bring_down N: worker and supervisor end without a word; the socket stays and nobody listens on it.
bring_down() {
    kill -KILL "$(<"$state/run/worker-$1.supervisor.pid")" "$(worker_pid "$1")"
}
