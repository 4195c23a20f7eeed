# The wall clock, which an administrator or NTP may set at any time.

setup() {
    load faults
    use_faulty_instance shared
}

teardown() {
    heal
}

@test "the wall clock an hour ahead: a delivery is answered at its deadline" {
    local folder=$BATS_TEST_TMPDIR began
    ! grep -q __asan_init "$WORKER" || skip 'the address sanitizer wants to be loaded first'
    # What the program asks of that clock; the kernel, which waits for it, has the true one: as if it were set in between.
    cc -shared -fPIC -o "$folder/ahead.so" -x c - <<'END'
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    now->tv_sec += clock == CLOCK_REALTIME ? 3600 : 0;
    return (int)result;
}
END
    # PostgreSQL that takes connections and does not answer.
    in_background python3 "$e2e/peers.py" silent "$folder/.s.PGSQL.$PGPORT"
    eventually test -S "$folder/.s.PGSQL.$PGPORT"
    set_worker_env
    start_worker "$folder/log" "LD_PRELOAD=$folder/ahead.so" "PGHOST=$folder" PGCONNECT_TIMEOUT=600 \
        RECEIPTD_DEADLINE_MS=500 -- --listen "$folder/socket"
    new_unit
    began=$SECONDS
    [[ $(python3 "$faults/sockets.py" "$folder/socket" post "$(receipt "$unit")") == 503 ]]
    # Long before there is no more to wait for.
    ((SECONDS - began < 300))
    kill "$pid"
    end_worker
}
