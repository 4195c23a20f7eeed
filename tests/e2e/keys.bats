# Changing keys while deliveries come.

setup() {
    load common
    use_instance shared
    cp -p "$state/keys" "$BATS_TEST_TMPDIR/keys"
    unit=keys-$BATS_TEST_NUMBER
}

teardown() {
    set_keys <"$BATS_TEST_TMPDIR/keys"
}

# set_keys: the key file becomes standard input, with the owner and mode that it had, and the workers read it.
set_keys() {
    local n
    cp -p "$state/keys" "$state/keys.new"
    cat >"$state/keys.new"
    mv "$state/keys.new" "$state/keys"
    for n in 1 2; do
        log_start[n]=$(stat -c %s "$state/log/worker-$n.log")
        kill -HUP "$(worker_pid "$n")"
    done
    for n in 1 2; do
        eventually has_read "$n"
    done
}

# has_read N: whether that worker has read the key file again, or refused to.
has_read() {
    tail -c "+$((log_start[$1] + 1))" "$state/log/worker-$1.log" |
        grep -q -e 'read the API keys again' -e 'API keys stay as they were'
}

# make_key NAME: sets key, and line, which the key file is to hold.
make_key() {
    local lines
    mapfile -t lines < <("$WORKER" key "$1")
    key=${lines[1]#  } line=${lines[3]#  }
}

with_key() {
    request -H "X-Api-Key: $1" -H 'Content-Type: application/json' --data-binary "$(receipt "$unit")" "$RECEIPTD_URL"
}

@test "a key is replaced under load, and no delivery fails" {
    local old=$CLIENT_API_KEY
    make_key second
    with_key "$key"
    expect 401

    load_in_background --connections 8 --flawless
    load_goes_on 20
    { cat "$BATS_TEST_TMPDIR/keys" && echo "$line"; } | set_keys
    with_key "$key"
    expect 201 created
    load_goes_on 20
    end_load

    CLIENT_API_KEY=$key load_in_background --connections 8 --flawless
    load_goes_on 20
    echo "$line" | set_keys
    with_key "$old"
    expect 401
    load_goes_on 20
    end_load
    [[ $(sql "select api_key_name from receipts where unit_identifier = :'unit'" unit="$unit") == second ]]
}

@test "a key file that cannot be used leaves the keys as they were, and says where it is wrong" {
    local text
    for text in '' '# nothing' 'name nodigest' "two words $(printf 'x%.0s' {1..64})" 'name'; do
        echo "$text" | set_keys
        grep -q 'keys stay as they were' <(tail -n 3 "$state/log/worker-1.log")
        with_key "$CLIENT_API_KEY"
        [[ $code == 20[01] ]]
    done
    grep -q 'line 1: ' <(tail -n 3 "$state/log/worker-1.log")
}

@test "a second key under a name that the key file has: receiptd key refuses it" {
    run -1 --separate-stderr env "RECEIPTD_KEYS_FILE=$state/keys" "$WORKER" key local
    # shellcheck disable=SC2154 # bats sets it
    [[ -z $output && $stderr == *"$state/keys has a key named local already"*'local-2027'* ]]
    run -0 env "RECEIPTD_KEYS_FILE=$state/keys" "$WORKER" key local-2027
    run -0 env "RECEIPTD_KEYS_FILE=$state/keys" "$WORKER" key loca
    run -0 env RECEIPTD_KEYS_FILE=/nonexistent "$WORKER" key local
}

@test "receiptd reload fails when the worker could not read the key file, and the keys stay as they were" {
    local socket=$state/run/worker-1.sock
    reload
    [[ $status == 0 && $output == "receiptd: $socket: read the API keys again: 1" ]]
    mv "$state/keys" "$state/keys.away"
    reload
    [[ $status == 1 && $output == "receiptd: $socket: the API keys stay as they were: cannot open the key file $state/keys: "* ]]
    with_key "$RECEIPTD_API_KEY"
    expect 201 created
    echo 'leaked 12' >"$state/keys"
    reload
    [[ $status == 1 && $output == *"$state/keys, line 1: expected NAME"* ]]
    mv "$state/keys.away" "$state/keys"
    reload
    [[ $status == 0 ]]
    socket=$BATS_TEST_TMPDIR/nobody
    reload
    [[ $status == 1 && $output == *'No such file'* ]]
}

reload() {
    run "$WORKER" reload "$socket"
}
