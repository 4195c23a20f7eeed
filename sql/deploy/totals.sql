-- Deploy receiptd:totals to pg
-- requires: reporting
-- requires: feed

begin;

set local role receiptd_owner;

-- What reports ask of millions of receipts, counted beforehand, up to a transaction: totals_state.counted_in. What was
-- written to since (a day, an ASN) is counted anew as a whole when somebody asks, so the views are exact at every moment,
-- however long ago refresh_totals ran; that it ran lately makes them fast. A delivery does nothing for it: what was
-- written since is found by its transaction's number, through the indexes of the feed. What cannot be told of like that
-- makes all of it invalid, until refresh_totals has counted everything: another cluster, other time zones, a truncate.
--
-- Tried with 3.3 million receipts and none of this: a year by month, warehouse and condition in 2.8 s, the ASNs of a week
-- in 20 s; and an index of receipts on the carton, or on the reference, took 10 to 20 % of all insertions a second.
create table inventory.totals_state (
  only_row boolean not null default true,
  counted_in bigint,
  system_identifier bigint,
  time_zones text,
  counted_at timestamptz,
  constraint totals_state_pkey primary key (only_row),
  constraint totals_state_only_row_check check (only_row)
);
insert into inventory.totals_state default values;

-- Rows have numbers as their key, which a publication of all tables needs to let them be deleted: what they say can be null,
-- or too long for an index.
create table inventory.totals_by_day (
  day date not null,
  program_identifier text collate "C" not null,
  to_identifier bigint not null,
  initial_condition text not null,
  initial_channel text not null,
  return_reason text,
  units bigint not null,
  row_id bigint generated always as identity (cache 1000),
  constraint totals_by_day_pkey primary key (row_id)
);
create index totals_by_day_day_idx on inventory.totals_by_day (day, to_identifier);

-- A year of days of 50 million receipts is 3 million rows, which take 2.5 s to sum up.
create table inventory.totals_by_month (
  month date not null,
  program_identifier text collate "C" not null,
  to_identifier bigint not null,
  initial_condition text not null,
  initial_channel text not null,
  return_reason text,
  units bigint not null,
  row_id bigint generated always as identity (cache 1000),
  constraint totals_by_month_pkey primary key (row_id)
);
create index totals_by_month_month_idx on inventory.totals_by_month (month, to_identifier);

create table inventory.totals_by_asn (
  program_identifier text collate "C" not null,
  asn_number text collate "C" not null,
  units bigint not null,
  cartons bigint not null,
  first_received_at timestamptz not null,
  last_received_at timestamptz not null,
  constraint totals_by_asn_pkey primary key (program_identifier, asn_number)
);
create index totals_by_asn_last_received_at_idx on inventory.totals_by_asn (last_received_at);

-- In which ASNs to look for a carton or a reference. They are looked up there, so a row too many does no harm: one
-- stays when a revision has another number.
create table inventory.totals_by_number (
  kind text not null,
  number text not null,
  program_identifier text collate "C" not null,
  asn_number text collate "C" not null,
  row_id bigint generated always as identity (cache 1000),
  constraint totals_by_number_pkey primary key (row_id),
  constraint totals_by_number_kind_check check (kind in ('carton', 'reference'))
);
-- Hashed: a number may be too long for a B-tree.
create index totals_by_number_number_idx on inventory.totals_by_number using hash (number);
create index totals_by_number_asn_idx on inventory.totals_by_number (program_identifier, asn_number);

-- reporting.silences as refresh_totals has found it: looked at once a minute by each worker, for its metrics.
create table inventory.totals_silences (
  program_identifier text collate "C" not null,
  to_identifier bigint not null,
  usual_units double precision not null,
  constraint totals_silences_pkey primary key (program_identifier, to_identifier)
);

revoke all on
  inventory.totals_state,
  inventory.totals_by_day,
  inventory.totals_by_month,
  inventory.totals_by_asn,
  inventory.totals_by_number,
  inventory.totals_silences
from public;
grant select on
  inventory.totals_state,
  inventory.totals_by_day,
  inventory.totals_by_month,
  inventory.totals_by_asn,
  inventory.totals_by_number,
  inventory.totals_silences
to receiptd_reader;

create function inventory.time_zones()
returns text
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(to_identifier || ' ' || day_zone, ', ' order by to_identifier), '')
  from inventory.warehouses
$$;

create function inventory.totals_counted_in()
returns bigint
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
  select s.counted_in
  from inventory.totals_state as s
  where s.system_identifier = (select system_identifier from pg_control_system())
    and s.time_zones = inventory.time_zones()
    and not exists (
      select
      from inventory.feed_events as e
      where e.written_in > s.counted_in
        and e.change = 'truncated'
    )
$$;

-- One row for each time that a receipt was written, with what it says now. Numbers above those that this cluster has given
-- out are from one that the data were dumped in.
create function inventory.written_since(since bigint)
returns table (
  program_identifier text,
  asn_number text,
  unit_identifier text,
  received_at timestamptz,
  carton_identifier text,
  reference_identifier text,
  reference_alternate_identifier text,
  deleted boolean
)
language plpgsql
stable
parallel safe
security definer
rows 10000
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set max_parallel_workers_per_gather = 0
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  until constant bigint := greatest(
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    pg_current_xact_id_if_assigned()::text::bigint
  );
begin
  return query
  select
    r.program_identifier,
    r.asn_number,
    r.unit_identifier,
    r.received_at,
    r.carton_identifier,
    r.reference_identifier,
    r.reference_alternate_identifier,
    false
  from inventory.receipts as r
  where r.created_in > since and r.created_in <= until
  union all
  select
    r.program_identifier,
    r.asn_number,
    r.unit_identifier,
    r.received_at,
    r.carton_identifier,
    r.reference_identifier,
    r.reference_alternate_identifier,
    false
  from inventory.receipt_revisions as v
  join inventory.receipts as r using (program_identifier, asn_number, unit_identifier)
  where v.replaced_in > since and v.replaced_in <= until
  union all
  select
    e.program_identifier,
    e.asn_number,
    e.unit_identifier,
    e.received_at,
    null,
    null,
    null,
    e.change = 'deleted'
  from inventory.feed_events as e
  where e.written_in > since and e.written_in <= until and e.change <> 'truncated'
  union all
  select
    r.program_identifier,
    r.asn_number,
    r.unit_identifier,
    r.received_at,
    r.carton_identifier,
    r.reference_identifier,
    r.reference_alternate_identifier,
    false
  from inventory.feed_events as e
  join inventory.receipts as r using (program_identifier, asn_number, unit_identifier)
  where e.written_in > since and e.written_in <= until and e.change = 'written';
end
$$;

-- Which day it is for a receipt depends on its warehouse, which a revision may have changed: so every day that it may have
-- been is counted.
create function inventory.fresh_days()
returns date[]
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return (
    select coalesce(array_agg(distinct (written.at at time zone zone.time_zone)::date), '{}')
    from (
      select distinct to_timestamp(floor(extract(epoch from received_at) / 900) * 900) as at
      from inventory.written_since(inventory.totals_counted_in())
    ) as written
    cross join (
      select 'UTC' as time_zone
      union
      select day_zone
      from inventory.warehouses
    ) as zone
  );
end
$$;

create function inventory.fresh_by_day()
returns table (
  day date,
  program_identifier text,
  to_identifier bigint,
  initial_condition text,
  initial_channel text,
  return_reason text,
  units bigint
)
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  if inventory.totals_counted_in() is null then
    return query
    select
      (r.received_at at time zone coalesce(w.day_zone, 'UTC'))::date,
      r.program_identifier,
      r.to_identifier,
      r.initial_condition,
      r.initial_channel,
      r.return_reason,
      count(*)
    from inventory.receipts as r
    left join inventory.warehouses as w using (to_identifier)
    group by 1, 2, 3, 4, 5, 6;
    return;
  end if;
  return query
  with zone as materialized (
    select 'UTC' as time_zone
    union
    select day_zone
    from inventory.warehouses
  )
  select touched.day, counted.*
  from unnest(inventory.fresh_days()) as touched (day)
  cross join lateral (
    select
      r.program_identifier,
      r.to_identifier,
      r.initial_condition,
      r.initial_channel,
      r.return_reason,
      count(*)
    from inventory.receipts as r
    left join inventory.warehouses as w using (to_identifier)
    where r.received_at >= (select min(touched.day::timestamp at time zone zone.time_zone) from zone)
      and r.received_at < (select max((touched.day + 1)::timestamp at time zone zone.time_zone) from zone)
      and (r.received_at at time zone coalesce(w.day_zone, 'UTC'))::date = touched.day
    group by 1, 2, 3, 4, 5
  ) as counted;
end
$$;

-- Months with a day that was written to: first days of these.
create function inventory.fresh_months()
returns date[]
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct date_trunc('month', day)::date), '{}')
  from unnest(inventory.fresh_days()) as day
$$;

create function inventory.fresh_by_month()
returns table (
  month date,
  program_identifier text,
  to_identifier bigint,
  initial_condition text,
  initial_channel text,
  return_reason text,
  units bigint
)
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  counted constant boolean := inventory.totals_counted_in() is not null;
  days constant date[] := inventory.fresh_days();
begin
  return query
  select
    date_trunc('month', d.day)::date,
    d.program_identifier,
    d.to_identifier,
    d.initial_condition,
    d.initial_channel,
    d.return_reason,
    sum(d.units)::bigint
  from (
    select t.day, t.program_identifier, t.to_identifier, t.initial_condition, t.initial_channel, t.return_reason, t.units
    from unnest(inventory.fresh_months()) as touched (month)
    join inventory.totals_by_day as t on t.day >= touched.month and t.day < touched.month + interval '1 month'
    where counted
      and t.day <> all (days)
    union all
    select *
    from inventory.fresh_by_day()
  ) as d
  group by 1, 2, 3, 4, 5, 6;
end
$$;

-- An ASN of which nothing is left is here with 0 units.
create function inventory.fresh_by_asn()
returns table (
  program_identifier text,
  asn_number text,
  units bigint,
  cartons bigint,
  first_received_at timestamptz,
  last_received_at timestamptz
)
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  since constant bigint := inventory.totals_counted_in();
begin
  if since is null then
    return query
    select
      r.program_identifier,
      r.asn_number,
      count(*),
      count(distinct r.carton_identifier),
      min(r.received_at),
      max(r.received_at)
    from inventory.receipts as r
    group by 1, 2;
    return;
  end if;
  return query
  select touched.*, counted.*
  from (
    select distinct program_identifier, asn_number
    from inventory.written_since(since)
  ) as touched
  cross join lateral (
    select count(*), count(distinct r.carton_identifier), min(r.received_at), max(r.received_at)
    from inventory.receipts as r
    where (r.program_identifier, r.asn_number) = (touched.program_identifier, touched.asn_number)
  ) as counted;
end
$$;

create function inventory.fresh_by_number()
returns table (kind text, number text, program_identifier text, asn_number text)
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  since constant bigint := inventory.totals_counted_in();
begin
  if since is null then
    -- One by one: of these the planner knows how many there are, and does not sort them all.
    return query
    select distinct 'carton', r.carton_identifier, r.program_identifier, r.asn_number
    from inventory.receipts as r
    where r.carton_identifier is not null
    union all
    select distinct 'reference', r.reference_identifier, r.program_identifier, r.asn_number
    from inventory.receipts as r
    where r.reference_identifier is not null
    union all
    select distinct 'reference', r.reference_alternate_identifier, r.program_identifier, r.asn_number
    from inventory.receipts as r
    where r.reference_alternate_identifier is not null;
    return;
  end if;
  return query
  select n.kind, n.number, written.program_identifier, written.asn_number
  from inventory.written_since(since) as written
  cross join lateral (
    values
      ('carton', written.carton_identifier),
      ('reference', written.reference_identifier),
      ('reference', written.reference_alternate_identifier)
  ) as n (kind, number)
  where n.number is not null;
end
$$;

-- Each table in one statement, so that what is counted and what it replaces are of one moment. (Later ones may see more
-- than counted_in says: that is counted again the next time, as a whole.)
create function inventory.refresh_totals()
returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- Not as the role of the service has them, which only ever looks up a key.
set enable_seqscan = on
set enable_hashjoin = on
set enable_mergejoin = on
set lock_timeout = 0
set jit = off
set work_mem = '64MB'
set plan_cache_mode = force_generic_plan
as $$
declare
  certain constant bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1;
  since bigint;
begin
  perform
  from inventory.totals_state
  for update skip locked;
  if not found then
    return null;
  end if;
  -- Nobody changes a time zone meanwhile.
  lock table inventory.warehouses in share mode;
  -- A time zone that this server knows no longer, or again.
  perform set_config('receiptd.refreshing', 'on', true);
  update inventory.warehouses
  set time_zone = time_zone
  where day_zone is distinct from inventory.known_time_zone(time_zone);
  perform set_config('receiptd.refreshing', '', true);
  since := inventory.totals_counted_in();
  if since is null then
    delete from inventory.totals_by_day;
    delete from inventory.totals_by_month;
    delete from inventory.totals_by_asn;
    delete from inventory.totals_by_number;
    insert into inventory.totals_by_day
      (day, program_identifier, to_identifier, initial_condition, initial_channel, return_reason, units)
    select *
    from inventory.fresh_by_day()
    order by day, to_identifier;
    insert into inventory.totals_by_month
      (month, program_identifier, to_identifier, initial_condition, initial_channel, return_reason, units)
    select
      date_trunc('month', day)::date,
      program_identifier,
      to_identifier,
      initial_condition,
      initial_channel,
      return_reason,
      sum(units)
    from inventory.totals_by_day
    group by 1, 2, 3, 4, 5, 6
    order by 1, 3;
    insert into inventory.totals_by_asn select * from inventory.fresh_by_asn();
    insert into inventory.totals_by_number (kind, number, program_identifier, asn_number)
    select *
    from inventory.fresh_by_number();
  else
    with gone as (
      delete from inventory.totals_by_month
      where month = any ((select inventory.fresh_months())::date[])
    )
    insert into inventory.totals_by_month
      (month, program_identifier, to_identifier, initial_condition, initial_channel, return_reason, units)
    select *
    from inventory.fresh_by_month();

    with gone as (
      delete from inventory.totals_by_day
      where day = any ((select inventory.fresh_days())::date[])
    )
    insert into inventory.totals_by_day
      (day, program_identifier, to_identifier, initial_condition, initial_channel, return_reason, units)
    select *
    from inventory.fresh_by_day();

    with fresh as materialized (
      select *
      from inventory.fresh_by_asn()
    ), gone as (
      delete from inventory.totals_by_asn
      where (program_identifier, asn_number) in (select program_identifier, asn_number from fresh where units = 0)
    )
    insert into inventory.totals_by_asn as t
    select *
    from fresh
    where units > 0
    on conflict on constraint totals_by_asn_pkey do update
    set
      units = excluded.units,
      cartons = excluded.cartons,
      first_received_at = excluded.first_received_at,
      last_received_at = excluded.last_received_at
    where (t.units, t.cartons, t.first_received_at, t.last_received_at)
      is distinct from (excluded.units, excluded.cartons, excluded.first_received_at, excluded.last_received_at);

    insert into inventory.totals_by_number (kind, number, program_identifier, asn_number)
    select *
    from inventory.fresh_by_number()
    except
    select t.kind, t.number, t.program_identifier, t.asn_number
    from (
      select distinct program_identifier, asn_number
      from inventory.written_since(since)
    ) as touched
    join inventory.totals_by_number as t using (program_identifier, asn_number);

    delete from inventory.totals_by_number as t
    using (
      select distinct program_identifier, asn_number
      from inventory.written_since(since)
      where deleted
    ) as touched
    where (t.program_identifier, t.asn_number) = (touched.program_identifier, touched.asn_number)
      and not exists (
        select
        from inventory.receipts as r
        where (r.program_identifier, r.asn_number) = (t.program_identifier, t.asn_number)
          and case t.kind
            when 'carton' then r.carton_identifier = t.number
            else t.number in (r.reference_identifier, r.reference_alternate_identifier)
          end
      );
  end if;
  delete from inventory.totals_silences;
  insert into inventory.totals_silences
  select program_identifier, to_identifier, usual_units
  from reporting.silences
  where usual_units > 0;
  update inventory.totals_state
  set
    counted_in = certain,
    system_identifier = (select system_identifier from pg_control_system()),
    time_zones = inventory.time_zones(),
    counted_at = clock_timestamp();
  return clock_timestamp();
end
$$;

-- For the metrics: none where they are not of now.
create function inventory.silences()
returns table (program_identifier text, to_identifier bigint, usual_units double precision)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select t.*
  from inventory.totals_silences as t
  where exists (select from inventory.totals_state where counted_at > now() - interval '1 hour')
  order by t.usual_units desc
  limit 32
$$;

-- For the metrics too.
create function inventory.totals_counted_at()
returns timestamptz
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select counted_at
  from inventory.totals_state
  where inventory.totals_counted_in() is not null
$$;

revoke all on function
  inventory.silences(),
  inventory.totals_counted_at(),
  inventory.time_zones(),
  inventory.totals_counted_in(),
  inventory.written_since(bigint),
  inventory.fresh_days(),
  inventory.fresh_by_day(),
  inventory.fresh_months(),
  inventory.fresh_by_month(),
  inventory.fresh_by_asn(),
  inventory.fresh_by_number(),
  inventory.refresh_totals()
from public;
-- Whoever reads a view calls its functions.
grant execute on function
  inventory.totals_counted_in(),
  inventory.fresh_days(),
  inventory.fresh_by_day(),
  inventory.fresh_months(),
  inventory.fresh_by_month(),
  inventory.fresh_by_asn(),
  inventory.fresh_by_number()
to receiptd_analyst, receiptd_reader;
grant execute on function
  inventory.refresh_totals(),
  inventory.silences(),
  inventory.totals_counted_at()
to receiptd_writer;

create view reporting.asns as
with fresh as materialized (
  select *
  from inventory.fresh_by_asn()
)
select t.program_identifier, t.asn_number, t.units, t.cartons, t.first_received_at, t.last_received_at
from inventory.totals_by_asn as t
where (select inventory.totals_counted_in()) is not null
  and not exists (
    select
    from fresh as f
    where (f.program_identifier, f.asn_number) = (t.program_identifier, t.asn_number)
  )
union all
select f.program_identifier, f.asn_number, f.units, f.cartons, f.first_received_at, f.last_received_at
from fresh as f
where f.units > 0;

create view reporting.receipts_by_day as
select
  c.day,
  c.program_identifier,
  c.to_identifier,
  coalesce(w.name, c.to_identifier::text) as warehouse,
  c.initial_condition,
  m.meaning as condition_meaning,
  c.initial_channel,
  c.return_reason,
  c.units
from (
  select t.day, t.program_identifier, t.to_identifier, t.initial_condition, t.initial_channel, t.return_reason, t.units
  from inventory.totals_by_day as t
  where (select inventory.totals_counted_in()) is not null
    and t.day <> all ((select inventory.fresh_days())::date[])
  union all
  select f.*
  from inventory.fresh_by_day() as f
) as c
left join inventory.warehouses as w on w.to_identifier = c.to_identifier
left join inventory.condition_codes as m on m.initial_condition = c.initial_condition;

create view reporting.receipts_by_month as
select
  c.month,
  c.program_identifier,
  c.to_identifier,
  coalesce(w.name, c.to_identifier::text) as warehouse,
  c.initial_condition,
  m.meaning as condition_meaning,
  c.initial_channel,
  c.return_reason,
  c.units
from (
  select t.month, t.program_identifier, t.to_identifier, t.initial_condition, t.initial_channel, t.return_reason, t.units
  from inventory.totals_by_month as t
  where (select inventory.totals_counted_in()) is not null
    and t.month <> all ((select inventory.fresh_months())::date[])
  union all
  select f.*
  from inventory.fresh_by_month() as f
) as c
left join inventory.warehouses as w on w.to_identifier = c.to_identifier
left join inventory.condition_codes as m on m.initial_condition = c.initial_condition;

create view reporting.cartons as
select
  r.carton_identifier,
  r.program_identifier,
  r.asn_number,
  count(*) as units,
  min(r.received_at) as first_received_at,
  max(r.received_at) as last_received_at
from (
  select t.program_identifier, t.asn_number, t.number
  from inventory.totals_by_number as t
  where t.kind = 'carton'
    and (select inventory.totals_counted_in()) is not null
  union
  select f.program_identifier, f.asn_number, f.number
  from inventory.fresh_by_number() as f
  where f.kind = 'carton'
) as found
join inventory.receipts as r
  on r.program_identifier = found.program_identifier
  and r.asn_number = found.asn_number
  and r.carton_identifier = found.number
group by r.carton_identifier, r.program_identifier, r.asn_number;

create view reporting.reference_numbers as
select
  found.number as reference_number,
  r.reference_type,
  r.program_identifier,
  r.asn_number,
  count(*) as units,
  min(r.received_at) as first_received_at,
  max(r.received_at) as last_received_at
from (
  select t.program_identifier, t.asn_number, t.number
  from inventory.totals_by_number as t
  where t.kind = 'reference'
    and (select inventory.totals_counted_in()) is not null
  union
  select f.program_identifier, f.asn_number, f.number
  from inventory.fresh_by_number() as f
  where f.kind = 'reference'
) as found
join inventory.receipts as r
  on r.program_identifier = found.program_identifier
  and r.asn_number = found.asn_number
  and found.number in (r.reference_identifier, r.reference_alternate_identifier)
group by found.number, r.reference_type, r.program_identifier, r.asn_number;

grant select on
  reporting.asns,
  reporting.receipts_by_day,
  reporting.receipts_by_month,
  reporting.cartons,
  reporting.reference_numbers
to receiptd_analyst, receiptd_reader;

comment on table inventory.totals_state is
  'How far inventory.refresh_totals has counted: one row.';
comment on column inventory.totals_state.only_row is 'Keeps it to one row. Example: t';
comment on constraint totals_state_only_row_check on inventory.totals_state is 'Keeps it to one row.';
comment on column inventory.totals_state.counted_in is
  'The number of a transaction: whatever it and all before it wrote is counted. Null: nothing is. Example: 123456';
comment on column inventory.totals_state.system_identifier is
  'The cluster of which that is a transaction, as pg_control_system says. Example: 7318945012345678901';
comment on column inventory.totals_state.time_zones is
  'The time zones of inventory.warehouses that days were counted in. Example: 1352 America/Kentucky/Louisville';
comment on column inventory.totals_state.counted_at is
  'When inventory.refresh_totals ended last. Example: 2026-11-24 08:30:00.654321+00';
comment on table inventory.totals_by_day is
  'Counted beforehand for reporting.receipts_by_day. What was written to since inventory.totals_state.counted_in may differ here: read the view.';
comment on column inventory.totals_by_day.day is 'The day in the time zone of the warehouse. Example: 2026-11-23';
comment on column inventory.totals_by_day.units is 'How many units. Example: 42';
comment on column inventory.totals_by_day.row_id is 'The number of the row. Example: 1';
comment on index inventory.totals_by_day_day_idx is 'For a span of days.';
comment on table inventory.totals_by_month is
  'Counted beforehand for reporting.receipts_by_month, from inventory.totals_by_day.';
comment on column inventory.totals_by_month.month is
  'The first day of the month, in the time zone of the warehouse. Example: 2026-11-01';
comment on column inventory.totals_by_month.units is 'How many units. Example: 1250';
comment on column inventory.totals_by_month.row_id is 'The number of the row. Example: 1';
comment on index inventory.totals_by_month_month_idx is 'For a span of months.';
comment on table inventory.totals_by_asn is
  'Counted beforehand for reporting.asns. What was written to since inventory.totals_state.counted_in may differ here: read the view.';
comment on column inventory.totals_by_asn.units is 'How many units. Example: 12';
comment on column inventory.totals_by_asn.cartons is 'How many cartons these were in. Example: 2';
comment on index inventory.totals_by_asn_last_received_at_idx is 'For the ASNs with a receipt lately.';
comment on table inventory.totals_by_number is
  'In which ASNs a carton or a reference may be found, for reporting.cartons and reporting.reference_numbers. There may be rows too many: of what a revision has changed.';
comment on column inventory.totals_by_number.kind is
  'carton: receipts.carton_identifier; reference: receipts.reference_identifier or receipts.reference_alternate_identifier. Example: carton';
comment on constraint totals_by_number_kind_check on inventory.totals_by_number is 'What is looked for.';
comment on column inventory.totals_by_number.number is 'The number. Example: CT0C3AC5201';
comment on column inventory.totals_by_number.row_id is 'The number of the row. Example: 1';
comment on index inventory.totals_by_number_number_idx is 'For one carton or reference.';
comment on index inventory.totals_by_number_asn_idx is 'For inventory.refresh_totals.';
comment on table inventory.totals_silences is
  'reporting.silences when inventory.refresh_totals ran last, where something usually comes in that time.';
comment on column inventory.totals_silences.usual_units is
  'How many units came in the same span of time of the week, on average of the four weeks before. Example: 31.5';
comment on function inventory.silences() is
  'For the metrics of the service: inventory.totals_silences, the largest first, unless that is older than an hour.';
comment on function inventory.totals_counted_at() is
  'For the metrics of the service: when inventory.refresh_totals ended last; null: nothing is counted, or it is not to be used.';
comment on function inventory.time_zones() is 'The time zones of inventory.warehouses, as one text.';
comment on function inventory.totals_counted_in() is
  'The transaction up to which the tables totals_... are counted. Null: they are not to be used, since nothing was counted, or in another cluster or other time zones, or receipts was truncated since; inventory.refresh_totals puts that right.';
comment on function inventory.written_since(bigint) is
  'Receipts that were written to after a transaction; deleted ones with the time at which they had been received.';
comment on function inventory.fresh_days() is
  'The days that were written to since they were counted.';
comment on function inventory.fresh_by_day() is
  'What takes the place of rows of inventory.totals_by_day: all of each day that was written to since it was counted; everything, where nothing is.';
comment on function inventory.fresh_months() is
  'The months with a day that was written to since it was counted, by their first days.';
comment on function inventory.fresh_by_month() is
  'What takes the place of rows of inventory.totals_by_month: all of each month that was written to since it was counted; everything, where nothing is.';
comment on function inventory.fresh_by_asn() is
  'What takes the place of rows of inventory.totals_by_asn: each ASN that was written to since it was counted; everything, where nothing is.';
comment on function inventory.fresh_by_number() is
  'What is missing in inventory.totals_by_number: the numbers of what was written to since it was filled; everything, where nothing is.';
comment on function inventory.refresh_totals() is
  'Counts for reports what was written since it ran last, and says when it was done; null: another session is at it. The views of the schema reporting are right without it too, and the slower the longer ago it ran. Every five minutes is often enough.';

comment on view reporting.asns is
  'One row for each advance ship notice (ASN) against which a unit was received: what has come so far. What was announced is not known here. For those with a receipt lately: where last_received_at > ....';
comment on view reporting.receipts_by_day is
  'Units received by day, in the time zone of the warehouse (inventory.warehouses; else UTC), and by condition, channel and reason. A unit counts on the day it was first received, under what was reported of it last. For months and years: reporting.receipts_by_month.';
comment on view reporting.receipts_by_month is
  'reporting.receipts_by_day by month.';
comment on view reporting.cartons is
  'One row for each carton and ASN in which a unit was received: look for one carton here, and for its units in reporting.receipts, by program_identifier, asn_number and carton_identifier.';
comment on view reporting.reference_numbers is
  'One row for each number of an RMA, an order or another reference, and ASN in which a unit was received: look for one number here, and for its units in reporting.receipts, by program_identifier and asn_number.';
-- A column that is one of receipts means the same; the others mean the same in each view.
do $$
declare
  field record;
begin
  for field in
    select viewed.attrelid::regclass as relation, viewed.attname as name, coalesce(told.meaning, col_description(kept.attrelid, kept.attnum)) as meaning
    from pg_attribute as viewed
    join unnest(
      array[
        'reporting.asns',
        'reporting.receipts_by_day',
        'reporting.receipts_by_month',
        'reporting.cartons',
        'reporting.reference_numbers',
        'inventory.totals_by_day',
        'inventory.totals_by_month',
        'inventory.totals_by_asn',
        'inventory.totals_by_number',
        'inventory.totals_silences'
      ]::regclass[]
    ) as relation on relation = viewed.attrelid
    left join pg_attribute as kept on kept.attrelid = 'inventory.receipts'::regclass and kept.attname = viewed.attname
    left join (
      values
        ('warehouse', 'The warehouse by the name in inventory.warehouses; else its number. Example: Louisville'),
        ('condition_meaning', 'What the condition means, from inventory.condition_codes; null where the company has not filled that in. Example: opened, complete'),
        ('first_received_at', 'When the first of them was received. Example: 2026-11-23 12:00:00.123456+00'),
        ('last_received_at', 'When the last of them was received. Example: 2026-11-24 08:30:00.654321+00'),
        ('reference_number', 'The number: reference_identifier or reference_alternate_identifier of the units. Example: 10012345')
    ) as told (name, meaning) on told.name = viewed.attname
    where viewed.attnum > 0
      and (told.name is not null or kept.attname is not null)
  loop
    execute format('comment on column %s.%I is %L', field.relation, field.name, field.meaning);
  end loop;
end
$$;
comment on column reporting.asns.units is
  'How many units have been received against it. Example: 12';
comment on column reporting.asns.cartons is
  'How many cartons these were in, as far as that was reported. Example: 2';
comment on column reporting.receipts_by_day.day is
  'The day, in the time zone of the warehouse. Example: 2026-11-23';
comment on column reporting.receipts_by_day.units is
  'How many units were received. Example: 42';
comment on column reporting.receipts_by_month.month is
  'The first day of the month, in the time zone of the warehouse. Example: 2026-11-01';
comment on column reporting.receipts_by_month.units is
  'How many units were received. Example: 1250';
comment on column reporting.cartons.units is
  'How many units were received in it. Example: 12';
comment on column reporting.reference_numbers.units is
  'How many units were received for it. Example: 3';

commit;
