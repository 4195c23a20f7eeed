# The views of the schema reporting that are counted beforehand; sourced by run, after sessions.bash.
# shellcheck shell=bash disable=SC2154 # here and scratch are run's

# What the views say, and what counting the receipts says.
begin_totals() {
    sql <<'END'
create schema counted;
create view counted.differing as
with viewed as (
  select 'asn' as view, to_jsonb(v) as row from reporting.asns as v
  union all
  select 'day', to_jsonb(v) from reporting.receipts_by_day as v
  union all
  select 'month', to_jsonb(v) from reporting.receipts_by_month as v
  union all
  select 'carton', to_jsonb(v) from reporting.cartons as v
  union all
  select 'reference', to_jsonb(v) from reporting.reference_numbers as v
  union all
  -- reporting.silences goes by these.
  select 'hour', to_jsonb(v)
  from (
    select *
    from inventory.totals_by_hour
    where (hour at time zone 'UTC')::date <> all ((select inventory.fresh_dates('day'))::date[])
    union all
    select * from inventory.count_hours(inventory.fresh_dates('day'))
  ) as v
), asked as (
  select 'asn' as view, to_jsonb(q) as row
  from (
    select program_identifier, asn_number, count(*) as units, count(distinct carton_identifier) as cartons,
      min(received_at) as first_received_at, max(received_at) as last_received_at,
      count(*) filter (where reference_type in ('RMA', 'RA', 'ReturnsPortalOrder')) as return_units,
      count(*) filter (where reference_type = 'StockTransferOrder') as transfer_units
    from reporting.receipts
    group by program_identifier, asn_number
  ) as q
  union all
  select 'day', to_jsonb(q)
  from (
    select received_on as day, program_identifier, to_identifier, warehouse, initial_condition, condition_meaning,
      initial_channel, return_reason, count(*) as units,
      count(*) filter (where reference_type in ('RMA', 'RA', 'ReturnsPortalOrder')) as return_units,
      count(*) filter (where reference_type = 'StockTransferOrder') as transfer_units
    from reporting.receipts
    group by 1, 2, 3, 4, 5, 6, 7, 8
  ) as q
  union all
  select 'month', to_jsonb(q)
  from (
    select date_trunc('month', received_on)::date as month, program_identifier, to_identifier, warehouse,
      initial_condition, condition_meaning, initial_channel, return_reason, count(*) as units,
      count(*) filter (where reference_type in ('RMA', 'RA', 'ReturnsPortalOrder')) as return_units,
      count(*) filter (where reference_type = 'StockTransferOrder') as transfer_units
    from reporting.receipts
    group by 1, 2, 3, 4, 5, 6, 7, 8
  ) as q
  union all
  select 'carton', to_jsonb(q)
  from (
    select carton_identifier, program_identifier, asn_number, count(*) as units,
      min(received_at) as first_received_at, max(received_at) as last_received_at,
      count(*) filter (where reference_type in ('RMA', 'RA', 'ReturnsPortalOrder')) as return_units,
      count(*) filter (where reference_type = 'StockTransferOrder') as transfer_units
    from reporting.receipts
    where carton_identifier is not null
    group by 1, 2, 3
  ) as q
  union all
  select 'reference', to_jsonb(q)
  from (
    select number as reference_number, reference_type, program_identifier, asn_number, count(*) as units,
      min(received_at) as first_received_at, max(received_at) as last_received_at
    from reporting.receipts
    cross join lateral (
      select reference_identifier
      union
      select reference_alternate_identifier
    ) as n (number)
    where number is not null
    group by 1, 2, 3, 4
  ) as q
  union all
  select 'hour', to_jsonb(q)
  from (
    select program_identifier, to_identifier, date_trunc('hour', received_at, 'UTC') as hour, count(*) as units
    from reporting.receipts
    group by 1, 2, 3
  ) as q
)
(select 'viewed', * from viewed except all select 'viewed', * from asked)
union all
(select 'asked', * from asked except all select 'asked', * from viewed);

-- Whatever can be done to receipts, at random: a transaction a round.
create procedure counted.play(rounds integer, seed double precision)
language plpgsql
as $$
declare
  event text;
  events text = '';
  differing text;
  of_few constant text = 'where ctid = any (array(select ctid from inventory.receipts order by random() limit 3))';
begin
  perform setseed(seed);
  for round in 1 .. rounds loop
    event := (array[
      'deliver', 'deliver', 'deliver', 'deliver', 'revise', 'revise', 'move', 'move both', 'delete', 'delete ASN',
      'erase', 'time zone', 'time zone', 'name', 'truncate', 'restore', 'refresh', 'refresh', 'refresh', 'undo', 'all of a day',
      'interrupted', 'interrupted', 'interrupted', 'interrupted', 'everything', 'trim'
    ])[1 + floor(random() * 27)];
    case event
    when 'deliver', 'undo' then
      insert into inventory.receipts
      select (jsonb_populate_record(s, jsonb_build_object(
        'program_identifier', 'P' || floor(random() * 2),
        'asn_number', 'A' || floor(random() * 4),
        'unit_identifier', gen_random_uuid(),
        'to_identifier', floor(random() * 3),
        'initial_condition', chr(65 + floor(random() * 2)::integer),
        'return_reason', case when random() < 0.5 then 'late' end,
        'carton_identifier', case when random() < 0.8 then 'C' || floor(random() * 6) end,
        'reference_type', (array['RMA', 'RA', 'ReturnsPortalOrder', 'StockTransferOrder', 'ForwardOrder', null])[1 + floor(random() * 6)],
        'reference_identifier', 'R' || floor(random() * 5),
        'reference_alternate_identifier', case when random() < 0.5 then 'R' || floor(random() * 5) end,
        'received_at', now() - random() * interval '3 days' - floor(random() * 2) * interval '30 days',
        'created_in', pg_current_xact_id()::text::bigint
      ))).*
      from counted.sample as s
      cross join generate_series(1, 1 + floor(random() * 8)::integer);
    when 'revise' then
      execute 'update inventory.receipts set initial_condition = chr(65 + floor(random() * 3)::integer),
        reference_type = (array[''RMA'', ''StockTransferOrder'', null])[1 + floor(random() * 3)],
        to_identifier = floor(random() * 3), carton_identifier = ''C'' || floor(random() * 6),
        reference_identifier = ''R'' || floor(random() * 5) ' || of_few;
    when 'move' then
      execute 'update inventory.receipts set received_at = received_at - random() * interval ''2 days'' ' || of_few;
    when 'move both' then
      execute 'update inventory.receipts set sku = random(), received_at = received_at - random() * interval ''2 days'' '
        || of_few;
    when 'delete' then
      execute 'delete from inventory.receipts ' || of_few;
    when 'delete ASN' then
      delete from inventory.receipts where asn_number = 'A' || floor(random() * 4);
    when 'all of a day' then
      delete from inventory.receipts
      where received_at::date = (select received_at::date from inventory.receipts order by random() limit 1);
    when 'erase' then
      insert into inventory.people_to_erase values ('somebody');
      perform inventory.take_people(), inventory.enforce_erasure();
      perform inventory.erase_portion(relation, 0, 1000000, 1000000)
      from unnest(array['inventory.receipts', 'inventory.receipt_revisions']::regclass[]) as relation;
    when 'time zone' then
      if random() < 0.2 then
        delete from inventory.warehouses where to_identifier = floor(random() * 3);
      end if;
      insert into inventory.warehouses values (floor(random() * 3), 'W',
        (array['UTC', 'America/Los_Angeles', 'Pacific/Kiritimati', 'Asia/Kathmandu'])[1 + floor(random() * 4)])
      on conflict (to_identifier) do update set time_zone = excluded.time_zone;
    when 'name' then
      update inventory.warehouses set name = 'W' || random();
    when 'truncate' then
      if random() < 0.3 then
        truncate inventory.receipts cascade;
      end if;
    when 'restore' then
      update inventory.totals_state set cluster = 'another';
    when 'refresh' then
      call inventory.refresh_totals();
    -- Killed after so many portions, of which one may be undone.
    when 'interrupted' then
      for portion in 1 .. floor(random() * 12) loop
        exit when not inventory.refresh_totals_portion(1 + floor(random() * 3)::integer);
        commit;
      end loop;
      perform inventory.refresh_totals_portion(1);
      if random() < 0.5 then
        rollback;
      end if;
    when 'trim' then
      delete from inventory.feed_events where written_in < (select inventory.totals_need_events_from()::text::bigint);
    when 'everything' then
      update inventory.totals_state set counted_in = null where counting_in is null;
    end case;
    if event = 'undo' then
      rollback;
    else
      commit;
    end if;
    events := events || ', ' || event;
    select string_agg(concat_ws(' ', d.*), e'\n') into differing from counted.differing as d;
    if differing is not null then
      raise exception 'after %:%', events, e'\n' || differing;
    end if;
    commit;
  end loop;
end
$$;
END
    sql -c "create procedure counted.write(rounds integer, seed double precision)
language plpgsql
as \$\$
begin
  perform setseed(seed);
  for round in 1 .. rounds loop
    insert into inventory.receipts
    select (jsonb_populate_record(s, jsonb_build_object(
      'program_identifier', 'P' || floor(random() * 2), 'asn_number', 'A' || floor(random() * 9),
      'unit_identifier', gen_random_uuid(), 'to_identifier', floor(random() * 3), 'carton_identifier', 'C' || floor(random() * 6),
      'received_at', now() - random() * interval '3 days', 'created_in', pg_current_xact_id()::text::bigint
    ))).*
    from counted.sample as s
    cross join generate_series(1, 3);
    commit;
    update inventory.receipts set carton_identifier = 'C' || floor(random() * 6), to_identifier = floor(random() * 3)
    where unit_identifier in (select unit_identifier from inventory.receipts order by random() limit 1);
    commit;
    delete from inventory.receipts where unit_identifier in (select unit_identifier from inventory.receipts order by random() limit 1);
    commit;
  end loop;
end
\$\$" -c 'create table counted.sample as select * from inventory.receipts limit 1' -c 'truncate inventory.receipts cascade'
}

count_is_exact() {
    local differing
    differing=$(sql -c 'table counted.differing')
    [[ -z $differing ]] || { echo "$differing"; return 1; }
}

# As from cron and the timer.
refresh() {
    sql -U receiptd_totals -c 'call inventory.refresh_totals()'
}

counted_at() {
    sql -c 'select counted_at from inventory.totals_state where counting_in is null'
}

# refreshed COMMAND...: whether the command ends a count.
refreshed() {
    local before
    before=$(counted_at)
    "$@" && [[ $(counted_at) != "$before" ]]
}

# uses_totals YES|NO: whether views read what was counted.
uses_totals() {
    [[ $(sql -c "select case when inventory.totals_counted_in() is null then 'no' else 'yes' end") == "$1" ]]
}

# listed: what a run has still to recount.
listed() {
    sql -c "select coalesce(string_agg(coalesce(day::text, asn_number || case when and_later then ' and later' else '' end), ', '
        order by row_id), 'nothing') from inventory.totals_work"
}

portion() {
    sql -U receiptd_totals -c 'select inventory.refresh_totals_portion()'
}

# A change of inventory.warehouses costs reports nothing before it takes effect, and only that warehouse is recounted then.
test_totals_time_zones() {
    local change
    while read -r change; do
        by_hand "$change"
        check "counted rows are used after: $change" uses_totals yes
        check 'and exact' count_is_exact
        check 'a run begins' test "$(portion)" = t
        check 'with nothing to recount' test "$(listed)" = nothing
        check 'and ends' refreshed refresh
        check 'exact still' count_is_exact
    done <<'END'
insert into inventory.warehouses values (77, 'New', 'Asia/Tokyo')
update inventory.warehouses set name = 'Newer' where to_identifier = 77
update inventory.warehouses set time_zone = 'America/New_York' where to_identifier = 2
update inventory.warehouses set to_identifier = 78 where to_identifier = 77
delete from inventory.warehouses where to_identifier = 78
delete from inventory.warehouses where to_identifier = 2
END
    check 'a time zone is in effect then' test "$(sql -c 'select day_zone from inventory.day_zones where to_identifier = 2')" = UTC
    by_hand "insert into inventory.warehouses values (2, 'W', 'Asia/Tokyo')"
    sql -c 'create table counted.before as select row_id from inventory.totals_by_date'
    check 'one warehouse has another time zone' refreshed refresh
    check 'the rows of others stay' test "$(sql -c 'select count(*) > 0 and bool_and(b.row_id is not null)
        from inventory.totals_by_date as t left join counted.before as b using (row_id) where to_identifier <> 2')" = t
}

# keep_refreshing PROCESS...: until all of these have ended.
keep_refreshing() {
    while kill -0 "$@" 2>/dev/null; do
        refresh || return 1
    done
}

# Two runs at a time, beside sessions that write: whenever somebody looks, the views are exact.
test_totals_beside_writers() {
    local seed writers=() refreshers=() looks=0
    for seed in 0.3 0.6; do
        sql -c "set default_transaction_isolation = 'read committed'" -c 'set client_min_messages = error' \
            -c "call counted.write(150, $seed)" &
        writers+=($!)
    done
    keep_refreshing "${writers[@]}" &
    refreshers+=($!)
    keep_refreshing "${writers[@]}" &
    refreshers+=($!)
    while kill -0 "${writers[@]}" 2>/dev/null; do
        check "exact beside them ($((++looks)))" count_is_exact
    done
    check 'writers have written' wait "${writers[@]}"
    check 'and others have refreshed' wait "${refreshers[@]}"
    check 'refreshed again' refreshed refresh
    check 'exact still' count_is_exact
}

# A run that is cancelled has its portions behind it, and the next one continues: so it ends though it never has the time that
# it takes as a whole.
test_totals_cancelled() {
    local tries begun whole_ms
    sql -c "insert into inventory.receipts
        select (jsonb_populate_record(s, jsonb_build_object('program_identifier', 'P' || i % 7, 'asn_number', 'many ' || i,
          'unit_identifier', i, 'received_at', now() - i * interval '1 hour',
          'created_in', pg_current_xact_id()::text::bigint))).*
        from counted.sample as s cross join generate_series(1, 6000) as i"
    by_hand 'update inventory.totals_state set counted_in = null'
    begun=${EPOCHREALTIME/[.,]/}
    check 'everything is counted' refreshed refresh
    whole_ms=$(((${EPOCHREALTIME/[.,]/} - begun) / 1000))
    by_hand 'update inventory.totals_state set counted_in = null'
    # A little more time at each try, lest a slow moment make the test fail.
    for ((tries = 0; tries < 60; tries++)); do
        ! refreshed sql -U receiptd_totals -c "set statement_timeout = $((whole_ms * (10 + tries) / 40))" \
            -c 'call inventory.refresh_totals()' 2>>"$scratch/cancelled" || break
    done
    check "$whole_ms ms of work end though cancelled (tries: $tries)" test "$tries" -lt 25
    check 'it was cancelled' grep -q 'statement timeout' "$scratch/cancelled"
    check 'and it is exact' count_is_exact
}

# As in a dump of a cluster that was older: its transactions have numbers that this one will give out later.
test_totals_restored() {
    local later='+ (1::bigint << 40)'
    check 'a run has begun when the dump is made' test "$(portion)" = t
    by_hand "update inventory.totals_state set cluster = '1/1/1'"
    by_hand "update inventory.receipts set created_in = created_in $later"
    by_hand "update inventory.receipt_revisions set replaced_in = replaced_in $later"
    by_hand "update inventory.totals_state set counted_in = counted_in $later"
    by_hand "insert into inventory.feed_events (change, written_in) values ('truncated', txid_current() + 100000)"
    check 'in another cluster nothing counted is used' uses_totals no
    check 'and views are exact' count_is_exact
    check 'until it is recounted' refreshed refresh
    check 'then it is used' uses_totals yes
    check 'which is exact too' count_is_exact
    check 'and then only what is written here is new' test "$(sql -c "
        select count(*) from inventory.totals_state as s cross join lateral inventory.written_since(s.counted_in)")" = 0
    check 'totals need only later events' test "$(sql -c "
        select inventory.totals_need_events_from()::text::bigint - counted_in from inventory.totals_state")" = 1
    sql -c "insert into inventory.feed_events (change) values ('truncated')"
    check 'a truncate too, which makes them invalid' test "$(sql -c "select max(written_in) filter (where change = 'truncated')
        >= inventory.totals_need_events_from()::text::bigint and inventory.totals_counted_in() is null from inventory.feed_events")" = t
    check 'until they are recounted' refreshed refresh
    check 'no event is left that this cluster has not had yet' test "$(sql -c "
        select count(*) from inventory.feed_events where written_in > txid_current()")" = 0
}

test_totals() {
    local seed
    begin_totals
    check 'before anything was counted, views are exact' count_is_exact
    for seed in 0.1 "0.$RANDOM"; do
        check "views are exact after whatever happens (seed $seed)" sql -c "call counted.play(100, $seed)"
    done
    check 'refreshed' refreshed refresh
    check 'counted rows are used' uses_totals yes
    check 'and exact' count_is_exact
    check 'silences are the same without them' test -z "$(sql -c 'begin' -c "set local client_min_messages = warning" \
        -c 'create temporary table with_totals as table reporting.silences' -c 'update inventory.totals_state set counted_in = null' \
        -c '(table with_totals except table reporting.silences) union all (table reporting.silences except table with_totals)' \
        -c 'rollback')"

    open unended receiptd_writer
    tell unended 'begin;' "$(deliver '{"request": 301, "unit_identifier": "open"}')"
    check 'a transaction is open' hears unended '{created}'
    by_hand "update inventory.warehouses set name = 'another'"
    check 'refreshed beside it' refreshed refresh
    tell unended 'commit;' '\echo done'
    check 'it is committed' hears unended 'done'
    check 'views have it' count_is_exact
    check 'it is in a view' test "$(sql -c "select units from reporting.asns where program_identifier = 'concurrency'")" = 1
    check 'which is refreshed' refreshed refresh

    open refresher receiptd_totals
    tell refresher 'begin;' 'select inventory.refresh_totals_portion();'
    check 'one refreshes' hears refresher t
    check 'another one returns at once' refresh
    check 'and has counted nothing' uses_totals yes
    tell refresher 'rollback;' '\echo done'
    check 'it has ended' hears refresher 'done'

    test_totals_beside_writers
    test_totals_time_zones
    test_totals_cancelled
    test_totals_restored
    sql -c "call counted.play(1, 0.5)" -c 'drop schema counted cascade'

    sql -c 'create publication everything for all tables'
    by_hand "update inventory.receipts set sku = 'published' where program_identifier = 'concurrency'"
    check 'with a publication of all tables totals are refreshed' refreshed refresh
    by_hand 'update inventory.totals_state set counted_in = null'
    check 'and counted from the start' refreshed refresh
    check 'and old rows purged' sql -U postgres -c "call inventory.purge(interval '3000 years', interval '90 days')"
    check 'each table has a key for it' test -z "$(sql -c "select oid::regclass from pg_class
        where relnamespace in ('inventory'::regnamespace, 'reporting'::regnamespace) and relkind in ('r', 'p') and relpersistence = 'p'
        and not exists (select from pg_index where indrelid = pg_class.oid and indisprimary)")"
    sql -c 'drop publication everything'
}
