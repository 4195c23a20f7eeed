# The password of PostgreSQL: which file it is taken from, and what is shown when libpq takes none from there.

setup() {
    load common
    use_instance shared
    set_worker_env
    file=$BATS_TEST_TMPDIR/pgpass
    sed -i '1i local all password_writer scram-sha-256' "$state/pgdata/pg_hba.conf"
    sql "set password_encryption = 'scram-sha-256'; create role password_writer login password 'the password' in role receiptd_writer;
        select pg_reload_conf()"
    printf '%s:*:%s:password_writer:the password\n' "$PGHOST" "$PGDATABASE" >"$file"
    chmod 600 "$file"
    printf '%s\n' "RECEIPTD_KEYS_FILE=$state/keys" "PGHOST=$PGHOST" "PGPORT=$PGPORT" "PGDATABASE=$PGDATABASE" \
        PGUSER=password_writer >"$BATS_TEST_TMPDIR/receiptd.env"
}

teardown() {
    sed -i '/ password_writer /d' "$state/pgdata/pg_hba.conf"
    sql 'select pg_reload_conf()' >/dev/null
    eventually sql 'drop role password_writer'
}

# finding [NAME=VALUE...]: what the doctor finds of the database, with the environment's file beside the password's.
finding() {
    "${worker_env[@]}" "$WORKER" doctor --json --env "$BATS_TEST_TMPDIR/receiptd.env" "$state/run/worker-1.sock" |
        jq -r '[.findings[] | select(.subject == "database")][0] | .status + " " + .finding'
}

@test "doctor logs in with the password file beside the environment's, by libpq's rules for such a file" {
    eventually finding_is "ok inventory at $PGHOST port $PGPORT as password_writer*"
    chmod 640 "$file"
    finding_is "FAIL cannot connect: * password file $file: group or others have access, so libpq does not read it*0600"
    chmod 600 "$file"
    sed -i 's/:password_writer:/:receiptd_writer:/' "$file"
    finding_is "FAIL cannot connect: * password file $file: it has no line for this host, port, database and user"
    rm "$file"
    mkdir "$file"
    finding_is "FAIL cannot connect: * password file $file: not a regular file"
    rmdir "$file"
    finding_is "FAIL cannot connect: * no password supplied*"
    # One that the operator names goes first.
    printf '*:*:*:*:the password\n' >"$file.other"
    chmod 600 "$file.other"
    echo "PGPASSFILE=$file.other" >>"$BATS_TEST_TMPDIR/receiptd.env"
    finding_is "ok inventory at *"
}

# finding_is PATTERN
finding_is() {
    local found
    found=$(finding) || :
    # shellcheck disable=SC2053 # it is a pattern
    [[ $found == $1 ]] || { echo "found: $found" && return 1; }
}

@test "a worker logs and shows why it has no password, and takes a mended file without a restart" {
    local log=$BATS_TEST_TMPDIR/log
    chmod 644 "$file"
    start_worker "$log" PGUSER=password_writer "PGPASSFILE=$file" -- --listen "$BATS_TEST_TMPDIR/socket"
    eventually grep -q "cannot connect to PostgreSQL: .*password file $file: group or others have access" "$log"
    chmod 600 "$file"
    eventually grep -q 'msg="connected to PostgreSQL: ' "$log"
    end_worker
    [[ $(grep -c 'the password' "$log") == 0 ]]
}
