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
), asked as (
  select 'asn' as view, to_jsonb(q) as row
  from (
    select program_identifier, asn_number, count(*) as units, count(distinct carton_identifier) as cartons,
      min(received_at) as first_received_at, max(received_at) as last_received_at
    from reporting.receipts
    group by program_identifier, asn_number
  ) as q
  union all
  select 'day', to_jsonb(q)
  from (
    select received_on as day, program_identifier, to_identifier, warehouse, initial_condition, condition_meaning,
      initial_channel, return_reason, count(*) as units
    from reporting.receipts
    group by 1, 2, 3, 4, 5, 6, 7, 8
  ) as q
  union all
  select 'month', to_jsonb(q)
  from (
    select date_trunc('month', received_on)::date as month, program_identifier, to_identifier, warehouse,
      initial_condition, condition_meaning, initial_channel, return_reason, count(*) as units
    from reporting.receipts
    group by 1, 2, 3, 4, 5, 6, 7, 8
  ) as q
  union all
  select 'carton', to_jsonb(q)
  from (
    select carton_identifier, program_identifier, asn_number, count(*) as units,
      min(received_at) as first_received_at, max(received_at) as last_received_at
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
      'erase', 'time zone', 'name', 'truncate', 'refresh', 'refresh', 'refresh', 'refresh', 'undo', 'all of a day'
    ])[1 + floor(random() * 20)];
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
        'reference_identifier', 'R' || floor(random() * 5),
        'reference_alternate_identifier', case when random() < 0.5 then 'R' || floor(random() * 5) end,
        'received_at', now() - random() * interval '3 days' - floor(random() * 2) * interval '30 days',
        'created_in', pg_current_xact_id()::text::bigint
      ))).*
      from counted.sample as s
      cross join generate_series(1, 1 + floor(random() * 8)::integer);
    when 'revise' then
      execute 'update inventory.receipts set initial_condition = chr(65 + floor(random() * 3)::integer),
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
      perform inventory.erase_person('somebody');
    when 'time zone' then
      insert into inventory.warehouses values (floor(random() * 3), 'W',
        (array['UTC', 'America/Los_Angeles', 'Pacific/Kiritimati', 'Asia/Kathmandu'])[1 + floor(random() * 4)])
      on conflict (to_identifier) do update set time_zone = excluded.time_zone;
    when 'name' then
      update inventory.warehouses set name = 'W' || random();
    when 'truncate' then
      if random() < 0.3 then
        truncate inventory.receipts cascade;
      end if;
    when 'refresh' then
      perform inventory.refresh_totals();
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
    sql -c 'create table counted.sample as select * from inventory.receipts limit 1' -c 'truncate inventory.receipts cascade'
}

count_is_exact() {
    local differing
    differing=$(sql -c 'table counted.differing')
    [[ -z $differing ]] || { echo "$differing"; return 1; }
}

refresh() {
    sql -U receiptd_writer -c 'select inventory.refresh_totals()'
}

# uses_totals YES|NO: whether views read what was counted.
uses_totals() {
    [[ $(sql -c "select case when inventory.totals_counted_in() is null then 'no' else 'yes' end") == "$1" ]]
}

test_totals() {
    local seed
    begin_totals
    check 'before anything was counted, views are exact' count_is_exact
    for seed in 0.1 "0.$RANDOM"; do
        check "views are exact after whatever happens (seed $seed)" sql -c "call counted.play(100, $seed)"
    done
    by_hand "update inventory.warehouses set time_zone = 'UTC'"
    check 'refreshed, as the service may' test -n "$(refresh)"
    check 'what was counted is used' uses_totals yes
    check 'and exact' count_is_exact

    open unended receiptd_writer
    tell unended 'begin;' "$(deliver '{"request": 301, "unit_identifier": "open"}')"
    check 'a transaction is open' hears unended '{created}'
    by_hand "update inventory.warehouses set name = 'another'"
    check 'refreshed beside it' test -n "$(refresh)"
    tell unended 'commit;' '\echo done'
    check 'it is committed' hears unended 'done'
    check 'views have it' count_is_exact
    check 'it is in a view' test "$(sql -c "select units from reporting.asns where program_identifier = 'concurrency'")" = 1

    open refresher receiptd_writer
    tell refresher 'begin;' 'select inventory.refresh_totals() is not null;'
    check 'one refreshes' hears refresher t
    check 'another one does not wait for it' test -z "$(refresh)"
    tell refresher 'commit;' '\echo done'
    check 'it has ended' hears refresher 'done'

    # As in a dump of another cluster: none of its numbers is one of this cluster.
    by_hand 'update inventory.totals_state set system_identifier = 1'
    by_hand 'update inventory.receipts set created_in = created_in + (1::bigint << 40)'
    check 'in another cluster nothing counted is used' uses_totals no
    check 'and views are exact' count_is_exact
    refresh >/dev/null
    check 'until it is counted anew' uses_totals yes
    check 'which is exact too' count_is_exact
    check 'and then only what is written here is new' test "$(sql -c "
        select count(*) from inventory.totals_state as s cross join lateral inventory.written_since(s.counted_in)")" = 0
    sql -c "call counted.play(1, 0.5)" -c 'drop schema counted cascade'

    sql -c 'create publication everything for all tables'
    by_hand "update inventory.receipts set sku = 'published' where program_identifier = 'concurrency'"
    check 'with a publication of all tables totals are refreshed' test -n "$(refresh)"
    by_hand 'update inventory.totals_state set counted_in = null'
    check 'and counted from the start' test -n "$(refresh)"
    check 'and old rows purged' sql -U postgres -c "call inventory.purge(interval '3000 years', interval '90 days')"
    check 'each table has a key for it' test -z "$(sql -c "select oid::regclass from pg_class
        where relnamespace in ('inventory'::regnamespace, 'reporting'::regnamespace) and relkind in ('r', 'p')
        and not exists (select from pg_index where indrelid = pg_class.oid and indisprimary)")"
    sql -c 'drop publication everything'
}
