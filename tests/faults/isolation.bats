# Refused deliveries and receipts are stored in tables of their own: where one of these cannot be written, the other
# goes on.

setup() {
    load faults
    use_faulty_instance shared
    measure_slowness
    deadline_ms=$(scaled_ms 1500)
    workers_with "RECEIPTD_DEADLINE_MS=$deadline_ms"
    small=$E2E_SCRATCH/small
}

teardown() {
    end_sessions
    grant receipts
    grant rejected_receipts
    make_room
    heal
}

revoke() { sql "revoke insert on inventory.$1 from receiptd_writer"; }
grant() { sql "grant insert on inventory.$1 to receiptd_writer"; }

lock() { as_dba "lock table inventory.$1 in access exclusive mode"; }
unlock() { end_sessions; }

# Its tablespace is full.
fill() {
    make_room
    mkdir -p "$small"
    mount -t tmpfs -o "size=12m,uid=$(id -u "$server_user"),mode=700" tmpfs "$small"
    sql "create tablespace small location '$small'"
    sql "alter table inventory.$1 set tablespace small"
    dd if=/dev/zero "of=$small/filler" bs=64k status=none 2>/dev/null || :
}
empty() { rm "$small/filler"; }

make_room() {
    mountpoint -q "$small" || return 0
    rm -f "$small/filler"
    sql "alter table inventory.receipts set tablespace pg_default"
    sql "alter table inventory.rejected_receipts set tablespace pg_default"
    sql "drop tablespace small"
    umount --lazy "$small"
}

begin_refused() {
    "$fault" rejected_receipts
    load_in_background --connections 48 --every-ms 20 --new 0 --invalid 1 --malformed 1 --give-up 1000 \
        --complete --soonest-busy-ms $((deadline_ms - 100)) --slowest-busy-ms $((deadline_ms + 1500 * slow))
    refuses_refused
}

end_refused() {
    eventually told_busy_thrice
    "$end" rejected_receipts
    eventually takes_refused
    end_load
    (($(told busy) > 0))
}

# told_busy_thrice: that of refuses_refused, and some of the load.
told_busy_thrice() {
    (($(times_logged 'msg=delivery .*status=503') >= 3))
}

# One that does not fit into what room a page may have left.
refuses_refused() {
    post "{ $(head -c 50000 /dev/urandom | base64)"
    expect 503
}

takes_refused() {
    post '{'
    [[ $code == 400 ]]
}

# beside_refused FAULT END
beside_refused() {
    fault=$1 end=$2
    goes_on_beside begin_refused end_refused
}

@test "no privilege to write rejected_receipts: receipts are stored as ever, refused ones are told 503" {
    beside_refused revoke grant
}

@test "rejected_receipts locked: receipts are stored as ever, refused ones are told 503" {
    beside_refused lock unlock
}

@test "no space for rejected_receipts: receipts are stored as ever, refused ones are told 503" {
    ((EUID == 0)) || skip 'only root can mount a small file system'
    beside_refused fill empty
}

@test "receipts cannot be written: refused ones are told so as quickly as ever" {
    local valid fault
    for fault in 'revoke grant' 'lock unlock'; do
        load_in_background --connections 48 --every-ms 20 --new 1 --give-up 1000 --complete
        valid="$load $record"
        eventually serves
        "${fault% *}" receipts
        refuses
        load_in_background --seconds 1 --connections 4 --every-ms 10 --new 0 --invalid 1 --malformed 1 --p99-ms $((1000 * slow)) \
            --flawless
        wait "$load" || :
        # Before finish_load reads the table.
        "${fault#* }" receipts
        finish_load
        eventually serves
        read -r load record <<<"$valid"
        end_load
        (($(told busy) > 0))
    done
}
