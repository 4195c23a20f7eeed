# The program's command line and environment.

setup() {
    load common
    use_instance shared
    set_worker_env
    socket=$BATS_TEST_TMPDIR/socket
}

# receiptd [NAME=VALUE...] -- ARGUMENT...: sets status and output (both streams).
receiptd() {
    local settings=()
    while [[ $1 != -- ]]; do
        settings+=("$1")
        shift
    done
    shift
    run timeout "$patience_s" "${worker_env[@]}" "${settings[@]}" "$WORKER" "$@" </dev/null
}

# says TEXT...: the last output has all of them.
says() {
    local text
    for text in "$@"; do
        [[ $output == *"$text"* ]] || { echo "does not say: $text"; return 1; }
    done
}

@test "--help and --version" {
    local name
    receiptd -- --help
    [[ $status == 0 ]]
    says Usage: 'receiptd key NAME' doctor --listen reprocess PGHOST
    # The README's table and --help name the same variables.
    # shellcheck disable=SC2016 # backticks of Markdown
    for name in $(grep -o '^| `RECEIPTD_[A-Z_]*`' "$root/README.md" | tr -d '|` '); do
        says "  $name"
    done
    [[ $(grep -c '^  RECEIPTD_' <<<"$output") == "$(grep -c '^| `RECEIPTD_' "$root/README.md")" ]]
    receiptd -- --version
    [[ $status == 0 && $output =~ ^receiptd\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "what is no valid command line shows the usage and ends with status 2" {
    local arguments
    for arguments in --nonsense 'key' 'key a b' 'serve' '--json' '--env x --listen y' '--since 1' \
        'doctor --listen x' 'doctor --dry-run' 'reprocess --json' 'reprocess --since 1 --id 2'; do
        # shellcheck disable=SC2086 # several words
        receiptd -- $arguments
        [[ $status == 2 ]]
        says Usage:
    done
    receiptd -- key 'a b'
    [[ $status == 2 ]]
    says "key's name"
}

@test "key NAME makes another key each time, with the line for the key file" {
    local first
    receiptd -- key optoro-2026
    [[ $status == 0 && ${#lines[@]} == 4 ]]
    [[ ${lines[1]} =~ ^\ \ rk_[A-Za-z0-9_-]{43}$ ]]
    [[ ${lines[3]} == "  optoro-2026 $(printf %s "${lines[1]#  }" | sha256sum | cut -d ' ' -f 1)" ]]
    first=${lines[1]}
    receiptd -- key optoro-2026
    [[ ${lines[1]} != "$first" ]]
}

@test "a variable that is misspelt or has a bad value ends the start, and is named" {
    local setting
    for setting in RECEIPTD_THREAD=2 RECEIPTD_THREADS=0 RECEIPTD_THREADS=65 RECEIPTD_THREADS=two RECEIPTD_THREADS= \
        RECEIPTD_PG_CONNECTIONS=17 RECEIPTD_BATCH_MAX=2001 RECEIPTD_QUEUE_MAX=-1 RECEIPTD_QUEUE_MAX_BYTES=64M \
        RECEIPTD_DEADLINE_MS=99 \
        RECEIPTD_LOG_LEVEL=debug RECEIPTD_PREPARED_STATEMENTS=yes RECEIPTD_REJECTION_POLICY=drop \
        RECEIPTD_EXTRA_CONDITIONS=A,,B RECEIPTD_KEYS_FILE= RECEIPTD_KEYS_FILE=/nonexistent/keys; do
        receiptd "$setting" -- --listen "$socket"
        [[ $status == 1 && ! -e $socket ]]
        says "$(if [[ $setting == *nonexistent* ]]; then echo /nonexistent/keys; else echo "${setting%%=*}"; fi)"
    done
    receiptd -- --listen
    [[ $status == 2 ]]
}

@test "without a valid key it does not start" {
    : >"$BATS_TEST_TMPDIR/keys"
    receiptd "RECEIPTD_KEYS_FILE=$BATS_TEST_TMPDIR/keys" -- --listen "$socket"
    [[ $status == 1 ]]
    says "$BATS_TEST_TMPDIR/keys" 'holds no key'
    echo "name $(printf '0%.0s' {1..63})" >"$BATS_TEST_TMPDIR/keys"
    receiptd "RECEIPTD_KEYS_FILE=$BATS_TEST_TMPDIR/keys" -- --listen "$socket"
    [[ $status == 1 ]]
    says 'line 1'
}

@test "a socket that another worker listens on, or a file, is left alone; one that nobody listens on is replaced" {
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$socket"
    [[ $(stat -c %a "$socket") == 660 ]]
    receiptd -- --listen "$socket"
    [[ $status == 1 ]]
    says 'another process listens'
    connects "$socket"
    kill -KILL "$worker"
    wait "$worker" || :
    start_worker "$BATS_TEST_TMPDIR/log2" -- --listen "$socket"
    end_worker
    [[ ! -e $socket ]]
    echo text >"$socket"
    receiptd -- --listen "$socket"
    [[ $status == 1 && $(<"$socket") == text ]]
    says 'is no socket'
    receiptd -- --listen "$BATS_TEST_TMPDIR/$(printf 'x%.0s' {1..108})"
    [[ $status == 1 ]]
    says 'at most 107'
}

# handed_over HOW: starts a worker with a listening socket on descriptor 0, or 3 as systemd hands it over.
handed_over() {
    "${worker_env[@]}" python3 "$e2e/peers.py" hand_over "$1" "$socket" "$WORKER" \
        >"$BATS_TEST_TMPDIR/log" 2>&1 3>&- &
    worker=$!
    eventually grep -q ' serves on the socket it was given' "$BATS_TEST_TMPDIR/log"
}

@test "the socket is taken from descriptor 0 or from systemd, and stays when the worker ends" {
    local how
    for how in stdin systemd; do
        handed_over "$how"
        connects "$socket"
        end_worker
        [[ -S $socket ]]
        rm "$socket"
    done
    receiptd --
    [[ $status == 1 ]]
    says 'no listening socket' --listen
}

waits_to_be_stored() {
    python3 "$root/tests/faults/sockets.py" "$socket" page metrics 3>&- | grep -q '^receiptd_backlog_deliveries{.* [1-9]'
}

@test "SIGTERM: ends with status 0; a second one while a delivery waits: at once" {
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$socket"
    end_worker
    grep -q 'msg=drained' "$BATS_TEST_TMPDIR/log"

    start_worker "$BATS_TEST_TMPDIR/log" PGHOST=/nonexistent RECEIPTD_DEADLINE_MS=600000 -- --listen "$socket"
    receipt "stuck-$BATS_TEST_NUMBER" |
        python3 "$root/tests/faults/sockets.py" "$socket" deliver 40 >/dev/null 2>&1 3>&- &
    local delivery=$!
    eventually waits_to_be_stored
    kill "$worker"
    eventually grep -q 'msg=draining' "$BATS_TEST_TMPDIR/log"
    kill -0 "$worker"
    kill "$worker"
    eventually ended "$worker"
    local ended_with=0
    wait "$worker" || ended_with=$?
    [[ $ended_with == 143 ]]
    wait "$delivery" || :
}

# drain_with HANGING: a worker that has a client is told to end, with all of its threads stopped (by ptrace(2)) that do the
# work, or none. Sets ended_with, and debug, what the dynamic linker said meanwhile (ld.so(8)).
drain_with() {
    local debug_folder=$BATS_TEST_TMPDIR/debug
    mkdir "$debug_folder"
    ended_with=0
    PYTHONPATH=$root/tests/faults python3 "$e2e/drain.py" "$1" "$socket" "$BATS_TEST_TMPDIR/log" "${worker_env[@]}" \
        RECEIPTD_DEADLINE_MS=100 LD_DEBUG=files "LD_DEBUG_OUTPUT=$debug_folder/ld" "$WORKER" --listen "$socket" \
        3>&- || ended_with=$?
    debug=$(cat "$debug_folder/"*)
    rm -r "$debug_folder"
}

@test "a drain that fails is told, and ends the process without running what is for its end" {
    drain_with nothing
    [[ $ended_with == 0 && $debug == *'calling fini'* ]]
    drain_with hanging
    [[ $ended_with == 1 && $debug == *'calling init'* && $debug != *'calling fini'* ]]
    grep -q 'level=error msg="not drained: .* 8100 ms"' "$BATS_TEST_TMPDIR/log"
}
