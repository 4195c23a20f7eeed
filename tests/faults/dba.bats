# Other people's databases: what a DBA sets, adds or takes away. What breaks a promise is a 503 that names the cause, and
# `ready` is false; anything else changes nothing.

setup() {
    load faults
    use_faulty_instance shared
    workers_with
    dba=()
}

teardown() {
    local undo
    heal
    for undo in "${dba[@]}"; do
        sql "$undo"
    done
    sql "select pg_terminate_backend(pid) $of_workers" >/dev/null
    # What was refused is forgotten when something is stored.
    eventually serves
    eventually is_ready 1 true
}

# does STATEMENT UNDO: of a DBA's; what undoes it is done at the end of the test.
does() {
    dba=("$2" "${dba[@]}")
    sql "$1"
}

# undo: what was done last.
undo() {
    sql "${dba[0]}"
    dba=("${dba[@]:1}")
}

# connect_again: the sessions of the workers are new ones, to which new settings of roles and databases apply.
connect_again() {
    sql "select pg_terminate_backend(pid) $of_workers" >/dev/null
}

# What a DBA does, and undoes; whether it is for new sessions only; and what `ready` then says, separated by |.
readonly harmful=(
    "alter database inventory set session_replication_role = replica"
    "alter database inventory reset session_replication_role" new
    "session_replication_role is replica (set by: database)"

    "alter role receiptd_writer set client_min_messages = error"
    "alter role receiptd_writer set client_min_messages = warning" new
    "client_min_messages is error (set by: user)"

    "alter table inventory.receipts disable trigger user"
    "alter table inventory.receipts enable trigger user; alter table inventory.receipts disable trigger receipts_keep_erased"
    now 'receipts_keep_revision|receipts_apply_once'

    "alter table inventory.receipts enable row level security;
     create rule harmful_rule as on update to inventory.receipts do instead nothing;
     alter table inventory.rejected_receipts set unlogged;
     alter table inventory.receipts add column harmful_column text not null default 'x';
     alter table inventory.receipts alter column harmful_column drop default"
    "alter table inventory.receipts disable row level security;
     drop rule harmful_rule on inventory.receipts;
     alter table inventory.rejected_receipts set logged;
     alter table inventory.receipts drop column harmful_column"
    now 'row level security|harmful_rule|rejected_receipts is unlogged|harmful_column'

    "alter table inventory.receipts rename to receipts_; create view inventory.receipts as select * from inventory.receipts_"
    "drop view inventory.receipts; alter table inventory.receipts_ rename to receipts" now "inventory.receipts is a view"
)

# says_all TEXTS: whether worker 1 is not ready and names all of these, separated by |.
says_all() {
    local text texts
    IFS='|' read -ra texts <<<"$1"
    for text in "${texts[@]}"; do
        is_ready 1 false "$text" || return 1
    done
}

@test "what breaks a promise is a 503, ready names the cause, and service goes on when it is undone" {
    local i failed=0
    workers_with RECEIPTD_DEADLINE_MS=1000
    post "$(receipt known)"
    for ((i = 0; i < ${#harmful[@]}; i += 4)); do
        eventually is_ready 1 true
        does "${harmful[i]}" "${harmful[i + 1]}"
        # At once: no revision is stored without the version that it replaces.
        post "$(receipt known ".sku = \"$EPOCHREALTIME\"")"
        versions_are_kept || { failed=1 && echo "${harmful[i]}: a version is missing, told $code $result"; }
        [[ ${harmful[i + 2]} != new ]] || connect_again
        eventually says_all "${harmful[i + 3]}" || { failed=1 && echo "${harmful[i]}: ready says $ready"; }
        refuses || { failed=1 && echo "${harmful[i]}: told $code $result"; }
        undo
        connect_again
        eventually serves || { failed=1 && echo "${harmful[i]}: no service after it was undone"; }
    done
    ((failed == 0))
}

@test "a revision is never stored without the version that it replaces, whenever the triggers are disabled" {
    begin_load
    sql "alter system set session_replication_role = replica" && sql "select pg_reload_conf()" >/dev/null
    sleep 1
    sql "alter system reset session_replication_role" && sql "select pg_reload_conf()" >/dev/null
    eventually serves
    end_load
    versions_are_kept
}

@test "a trigger of the DBA's that warns changes nothing; the log has it once, the metrics count it" {
    local warnings
    does "create function public.warns() returns trigger language plpgsql as \$\$
              begin raise warning 'merchant % is not in the list', new.unit_identifier; return new; end \$\$;
          create trigger warns before insert or update on inventory.receipts for each row execute function public.warns();
          create trigger warns before insert or update on inventory.rejected_receipts
          for each row execute function public.warns()" \
        "drop trigger warns on inventory.receipts; drop trigger warns on inventory.rejected_receipts;
         drop function public.warns()"
    warnings=$(worker_metric 1 receiptd_database_warnings_total)
    begin_load --flawless
    load_goes_on 100
    end_load
    (($(worker_metric 1 receiptd_database_warnings_total) > warnings))
    # Each worker once for each place of it.
    (($(times_logged 'is not in the list') <= 2))
    is_ready 1 true ''
}

@test "a trigger of the DBA's that drops, ignores or hides revisions: 503, and nothing is called unchanged" {
    local what schema
    for what in 'public return null' 'public return old' 'public new.revision := old.revision; return new' \
        'inventory return null'; do
        read -r schema what <<<"$what"
        eventually 20 serves
        post "$(receipt "$unit")"
        expect 200 unchanged
        does "create function $schema.drops() returns trigger language plpgsql as \$\$ begin $what; end \$\$;
              create trigger z_drops before update on inventory.receipts for each row execute function $schema.drops()" \
            "drop trigger z_drops on inventory.receipts; drop function $schema.drops()"
        connect_again
        post "$(receipt "$unit" '.sku = "other"')"
        expect 503
        # What is unchanged is no revision, and so not dropped.
        post "$(receipt "$unit")"
        expect 200 unchanged
        undo
        post "$(receipt "$unit" '.sku = "other"')"
        expect 200 revised
        versions_are_kept
    done
}

@test "a trigger of the DBA's that drops the insert of a receipt that is there: it is revised, or found unchanged" {
    post "$(receipt "$unit")"
    does "create function public.knows() returns trigger language plpgsql as \$\$
              begin
                if exists (select from inventory.receipts where unit_identifier = new.unit_identifier) then return null; end if;
                return new;
              end \$\$;
          create trigger z_knows before insert on inventory.receipts for each row execute function public.knows()" \
        "drop trigger z_knows on inventory.receipts; drop function public.knows()"
    connect_again
    eventually 20 serves
    post "$(receipt "$unit")"
    expect 200 unchanged
    post "$(receipt "$unit" '.sku = "other"')"
    expect 200 revised
    versions_are_kept
    post "$(receipt "$unit" '.sku = "other"')"
    expect 200 unchanged
}

@test "a trigger of the DBA's that deletes a row after it was written: 503; one that only copies it changes nothing" {
    does "create table public.copies (id bigserial primary key, receipt jsonb);
          create function public.copies() returns trigger language plpgsql security definer as \$\$
              begin insert into public.copies (receipt) values (to_jsonb(new)); return null; end \$\$;
          create trigger copies after insert or update on inventory.receipts for each row execute function public.copies()" \
        "drop trigger copies on inventory.receipts; drop function public.copies(); drop table public.copies"
    connect_again
    eventually serves
    begin_load --flawless
    load_goes_on 100
    end_load
    versions_are_kept
    post "$(receipt "$unit-1")"
    expect 201 created
    post "$(receipt "$unit-1" '.sku = "other"')"
    expect 200 revised
    post "$(receipt "$unit-1" '.sku = "other"')"
    expect 200 unchanged
    undo

    does "create function public.deletes() returns trigger language plpgsql security definer as \$\$
              begin delete from inventory.receipts where unit_identifier = new.unit_identifier; return null; end \$\$;
          create trigger deletes after insert or update on inventory.receipts for each row
          when (new.sku like 'gone%') execute function public.deletes()" \
        "drop trigger deletes on inventory.receipts; drop function public.deletes()"
    connect_again
    eventually serves
    post "$(receipt "$unit-2" '.sku = "gone 1"')"
    expect 503
    post "$(receipt "$unit-1" '.sku = "gone 2"')"
    expect 503
    post "$(receipt "$unit-3")"
    expect 201 created
}

@test "a trigger of the DBA's that drops rows: 503, and the reason" {
    does "create function public.drops() returns trigger language plpgsql as \$\$ begin return null; end \$\$;
          create trigger drops before insert on inventory.receipts for each row execute function public.drops()" \
        "drop trigger drops on inventory.receipts; drop function public.drops()"
    refuses
    eventually is_ready 1 false 'does a trigger on inventory.receipts drop it?'
}

@test "nothing is stored for some seconds: ready says so, and why, whatever it is" {
    does "alter table inventory.receipts add constraint nothing check (sku = 'nothing') not valid" \
        "alter table inventory.receipts drop constraint nothing"
    refuses
    eventually is_ready 1 false 'no delivery was stored for'
    [[ $ready == *23514* ]]
    (($(worker_metric 1 receiptd_standstill_seconds | cut -d . -f 1) >= 5))
    undo
    eventually serves
    eventually is_ready 1 true ''
    [[ $(worker_metric 1 receiptd_standstill_seconds) == 0 ]]
}

@test "the view of sessions revoked from everyone: deliveries are stored, and the worker knows the schema" {
    does 'revoke select on pg_stat_activity from public' 'grant select on pg_stat_activity to public'
    replace_worker 1 TERM
    eventually serves
    eventually is_ready 1 true ''
    eventually knows_schema
}

knows_schema() {
    curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "${RECEIPTD_URL%/*}/receiptd/1/metrics" 3>&- |
        grep -q '^receiptd_info{.*schema="[1-9]'
}
