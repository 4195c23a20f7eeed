-- Deploy receiptd:totals to pg
-- requires: reporting
-- requires: feed
--
-- Needs the role receiptd_totals of roles.sql.

begin;

set local role receiptd_owner;

-- The reports on millions of receipts are counted beforehand, up to a transaction: totals_state.counted_in. Each day and
-- ASN that was written to since then is "fresh": a view counts it when somebody asks. So the views are exact at every moment,
-- however long ago refresh_totals ran; running it makes them fast. A delivery does no work for this: the indexes of the feed
-- find what was written since.
--
-- refresh_totals lists the fresh days and ASNs in totals_work, then recounts them in portions that it commits one by one.
-- Only when the list is empty does counted_in move. Until then the views count all of them as fresh, so a run may be killed at
-- any point, and the next one continues with what is left of the list.
--
-- After a truncate, or in another cluster or database than the one that counted, nothing counted is used until
-- refresh_totals has counted everything.
--
-- Tried with 3.3 million receipts and none of this: a year by month, warehouse and condition in 2.8 s, the ASNs of a week
-- in 20 s; and an index of receipts on the carton, or on the reference, took 10 to 20 % of all insertions a second.
create table inventory.totals_state (
  only_row boolean not null default true,
  counted_in bigint,
  counting_in bigint,
  cluster text,
  counted_at timestamptz,
  constraint totals_state_pkey primary key (only_row),
  constraint totals_state_only_row_check check (only_row)
);
insert into inventory.totals_state default values;

create table inventory.totals_work (
  row_id bigint generated always as identity,
  day date,
  program_identifier text collate "C",
  asn_number text collate "C",
  and_later boolean not null default false,
  constraint totals_work_pkey primary key (row_id)
);

-- Rows have numbers as their key, which a publication of all tables needs to let them be deleted: the columns can be null,
-- or too long for an index. Months are there because a year of days of 50 million receipts is 3 million rows, which take
-- 2.5 s to sum up. Units of returns and of transfers have columns of their own: with the type of the reference as one more
-- column to count by, there were more than twice as many rows.
create table inventory.totals_by_date (
  grain text not null,
  first_day date not null,
  program_identifier text collate "C" not null,
  to_identifier bigint not null,
  initial_condition text not null,
  initial_channel text not null,
  return_reason text,
  units bigint not null,
  return_units bigint not null,
  transfer_units bigint not null,
  row_id bigint generated always as identity (cache 1000),
  constraint totals_by_date_pkey primary key (row_id),
  constraint totals_by_date_grain_check check (grain in ('day', 'month'))
);
create index totals_by_date_first_day_idx on inventory.totals_by_date (grain, first_day, to_identifier);

create table inventory.totals_by_asn (
  program_identifier text collate "C" not null,
  asn_number text collate "C" not null,
  units bigint not null,
  cartons bigint not null,
  first_received_at timestamptz not null,
  last_received_at timestamptz not null,
  return_units bigint not null,
  transfer_units bigint not null,
  constraint totals_by_asn_pkey primary key (program_identifier, asn_number)
);
create index totals_by_asn_last_received_at_idx on inventory.totals_by_asn (last_received_at);

-- In which ASNs to look for a carton or a reference. They are looked up there, so an extra row does no harm: one
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

-- For reporting.silences.
create table inventory.totals_by_hour (
  program_identifier text collate "C" not null,
  to_identifier bigint not null,
  hour timestamptz not null,
  units bigint not null,
  constraint totals_by_hour_pkey primary key (program_identifier, to_identifier, hour)
);
create index totals_by_hour_hour_idx on inventory.totals_by_hour (hour);

-- reporting.silences as refresh_totals has found it: each worker reads it once a minute, for its metrics.
create table inventory.totals_silences (
  program_identifier text collate "C" not null,
  to_identifier bigint not null,
  usual_units double precision not null,
  constraint totals_silences_pkey primary key (program_identifier, to_identifier)
);

-- A restore into another cluster, another database, or the same one after its tables were dropped.
create function inventory.totals_cluster()
returns text
language sql
stable
parallel safe
as $$
  select concat_ws('/', s.system_identifier, d.oid, 'inventory.receipts'::regclass::oid)
  from pg_control_system() as s
  join pg_database as d on d.datname = current_database()
$$;

-- Numbers above those that this cluster has given out are from one that the data were dumped in.
create function inventory.totals_until()
returns bigint
language sql
stable
parallel safe
as $$
  select greatest(
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    pg_current_xact_id_if_assigned()::text::bigint
  )
$$;

create function inventory.totals_counted_in()
returns bigint
language sql
stable
parallel safe
as $$
  select s.counted_in
  from inventory.totals_state as s
  where s.cluster = inventory.totals_cluster()
    and not exists (
      select
      from inventory.feed_events as e
      where e.written_in > s.counted_in
        and e.written_in <= inventory.totals_until()
        and e.change = 'truncated'
    )
$$;

create function inventory.totals_need_events_from()
returns xid8
language sql
stable
as $$
  -- Of what is invalid after a truncate too: without that event it would seem valid.
  select (coalesce(
    (select coalesce(s.counted_in, s.counting_in) from inventory.totals_state as s where s.cluster = inventory.totals_cluster()),
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1
  ) + 1)::text::xid8
$$;

-- One row for each time that a receipt was written, with its present content.
create function inventory.written_since(since bigint)
returns table (
  program_identifier text,
  asn_number text,
  unit_identifier text,
  received_at timestamptz,
  carton_identifier text,
  reference_identifier text,
  reference_alternate_identifier text
)
language plpgsql
stable
parallel safe
rows 10000
set enable_seqscan = off
set max_parallel_workers_per_gather = 0
as $$
#variable_conflict use_column
declare
  until constant bigint := inventory.totals_until();
begin
  return query
  with touched as (
    select v.program_identifier, v.asn_number, v.unit_identifier
    from inventory.receipt_revisions as v
    where v.replaced_in > since and v.replaced_in <= until
    union all
    select e.program_identifier, e.asn_number, e.unit_identifier
    from inventory.feed_events as e
    where e.written_in > since and e.written_in <= until and e.change = 'written'
  )
  select
    r.program_identifier,
    r.asn_number,
    r.unit_identifier,
    r.received_at,
    r.carton_identifier,
    r.reference_identifier,
    r.reference_alternate_identifier
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
    r.reference_alternate_identifier
  from touched
  join inventory.receipts as r using (program_identifier, asn_number, unit_identifier)
  union all
  -- Where the receipt was before it was deleted or moved to another time.
  select
    e.program_identifier,
    e.asn_number,
    e.unit_identifier,
    e.received_at,
    null,
    null,
    null
  from inventory.feed_events as e
  where e.written_in > since and e.written_in <= until and e.change <> 'truncated';
end
$$;

create function inventory.zones_of_days()
returns setof text
language sql
stable
parallel safe
as $$
  select 'UTC'
  union
  select day_zone
  from inventory.day_zones
$$;

-- Puts the time zones of inventory.warehouses into effect, and says of which warehouses that changes the days.
create function inventory.set_zones()
returns bigint[]
language sql
as $$
  with changed as (
    insert into inventory.day_zones as z (to_identifier, time_zone)
    select to_identifier, coalesce(w.time_zone, 'UTC')
    from inventory.warehouses as w
    full join inventory.day_zones as z using (to_identifier)
    where coalesce(inventory.known_time_zone(w.time_zone), 'UTC') <> coalesce(z.day_zone, 'UTC')
    on conflict on constraint day_zones_pkey do update
    set time_zone = excluded.time_zone
    returning z.to_identifier
  )
  select array_agg(to_identifier)
  from changed
$$;

-- Days, or the first days of months. Which day it is for a receipt depends on its warehouse, which a revision may have
-- changed: so the days in all time zones are fresh.
create function inventory.fresh_dates(grain text)
returns date[]
language plpgsql
stable
parallel safe
as $$
declare
  since constant bigint := inventory.totals_counted_in();
begin
  if since is null then
    return null;
  end if;
  return (
    select coalesce(array_agg(distinct date_trunc(grain, written.at at time zone zone.day_zone)::date), '{}')
    from (
      select distinct to_timestamp(floor(extract(epoch from received_at) / 900) * 900) as at
      from inventory.written_since(since)
    ) as written
    cross join inventory.zones_of_days() as zone (day_zone)
  );
end
$$;

-- All days without a list.
create function inventory.count_days(days date[])
returns table (
  day date,
  program_identifier text,
  to_identifier bigint,
  initial_condition text,
  initial_channel text,
  return_reason text,
  units bigint,
  return_units bigint,
  transfer_units bigint
)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
begin
  if days is null then
    return query
    select
      (r.received_at at time zone coalesce(z.day_zone, 'UTC'))::date,
      r.program_identifier,
      r.to_identifier,
      r.initial_condition,
      r.initial_channel,
      r.return_reason,
      count(*),
      count(*) filter (where inventory.is_return(r.reference_type)),
      count(*) filter (where inventory.is_transfer(r.reference_type))
    from inventory.receipts as r
    left join inventory.day_zones as z using (to_identifier)
    group by 1, 2, 3, 4, 5, 6;
    return;
  end if;
  return query
  with zone as materialized (
    select *
    from inventory.zones_of_days() as z (day_zone)
  )
  select listed.day, counted.*
  from unnest(days) as listed (day)
  cross join lateral (
    select
      r.program_identifier,
      r.to_identifier,
      r.initial_condition,
      r.initial_channel,
      r.return_reason,
      count(*),
      count(*) filter (where inventory.is_return(r.reference_type)),
      count(*) filter (where inventory.is_transfer(r.reference_type))
    from inventory.receipts as r
    left join inventory.day_zones as z using (to_identifier)
    where r.received_at >= (select min(listed.day::timestamp at time zone zone.day_zone) from zone)
      and r.received_at < (select max((listed.day + 1)::timestamp at time zone zone.day_zone) from zone)
      and (r.received_at at time zone coalesce(z.day_zone, 'UTC'))::date = listed.day
    group by 1, 2, 3, 4, 5
  ) as counted;
end
$$;

-- In place of the rows of inventory.totals_by_date for these days or months.
create function inventory.fresh_by_date(grain text)
returns table (
  first_day date,
  program_identifier text,
  to_identifier bigint,
  initial_condition text,
  initial_channel text,
  return_reason text,
  units bigint,
  return_units bigint,
  transfer_units bigint
)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
declare
  days constant date[] := inventory.fresh_dates('day');
begin
  return query
  select
    date_trunc($1, d.day)::date,
    d.program_identifier,
    d.to_identifier,
    d.initial_condition,
    d.initial_channel,
    d.return_reason,
    sum(d.units)::bigint,
    sum(d.return_units)::bigint,
    sum(d.transfer_units)::bigint
  from (
    select t.first_day as day, t.program_identifier, t.to_identifier, t.initial_condition, t.initial_channel, t.return_reason,
      t.units, t.return_units, t.transfer_units
    from (select distinct date_trunc('month', day)::date as month from unnest(days) as day) as touched
    join inventory.totals_by_date as t
      on t.grain = 'day' and t.first_day >= touched.month and t.first_day < touched.month + interval '1 month'
    where $1 = 'month'
      and t.first_day <> all (days)
    union all
    select *
    from inventory.count_days(days)
  ) as d
  group by 1, 2, 3, 4, 5, 6;
end
$$;

-- All ASNs without lists. An ASN of which nothing is left has 0 units.
create function inventory.count_asns(program_identifiers text[], asn_numbers text[])
returns table (
  program_identifier text,
  asn_number text,
  units bigint,
  cartons bigint,
  first_received_at timestamptz,
  last_received_at timestamptz,
  return_units bigint,
  transfer_units bigint
)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
begin
  if program_identifiers is null then
    return query
    select
      r.program_identifier,
      r.asn_number,
      count(*),
      count(distinct r.carton_identifier),
      min(r.received_at),
      max(r.received_at),
      count(*) filter (where inventory.is_return(r.reference_type)),
      count(*) filter (where inventory.is_transfer(r.reference_type))
    from inventory.receipts as r
    group by 1, 2;
    return;
  end if;
  return query
  select listed.*, counted.*
  from unnest(program_identifiers, asn_numbers) as listed (program_identifier, asn_number)
  cross join lateral (
    select
      count(*),
      count(distinct r.carton_identifier),
      min(r.received_at),
      max(r.received_at),
      count(*) filter (where inventory.is_return(r.reference_type)),
      count(*) filter (where inventory.is_transfer(r.reference_type))
    from inventory.receipts as r
    where (r.program_identifier, r.asn_number) = (listed.program_identifier, listed.asn_number)
  ) as counted;
end
$$;

create function inventory.fresh_by_asn()
returns table (
  program_identifier text,
  asn_number text,
  units bigint,
  cartons bigint,
  first_received_at timestamptz,
  last_received_at timestamptz,
  return_units bigint,
  transfer_units bigint
)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
declare
  since constant bigint := inventory.totals_counted_in();
  programs text[];
  asns text[];
begin
  if since is not null then
    select coalesce(array_agg(program_identifier), '{}'), coalesce(array_agg(asn_number), '{}')
    into programs, asns
    from (select distinct program_identifier, asn_number from inventory.written_since(since)) as touched;
  end if;
  return query
  select *
  from inventory.count_asns(programs, asns);
end
$$;

create function inventory.fresh_by_number()
returns table (kind text, number text, program_identifier text, asn_number text)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
declare
  since constant bigint := inventory.totals_counted_in();
begin
  if since is null then
    -- Each column separately: the planner knows how many values it has, and does not sort all rows.
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

-- Of days in UTC; all of them without a list.
create function inventory.count_hours(days date[])
returns table (program_identifier text, to_identifier bigint, hour timestamptz, units bigint)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
begin
  if days is null then
    return query
    select r.program_identifier, r.to_identifier, date_trunc('hour', r.received_at, 'UTC'), count(*)
    from inventory.receipts as r
    group by 1, 2, 3;
    return;
  end if;
  return query
  select counted.*
  from unnest(days) as listed (day)
  cross join lateral (
    select r.program_identifier, r.to_identifier, date_trunc('hour', r.received_at, 'UTC'), count(*)
    from inventory.receipts as r
    where r.received_at >= listed.day::timestamp at time zone 'UTC'
      and r.received_at < (listed.day + 1)::timestamp at time zone 'UTC'
    group by 1, 2, 3
  ) as counted;
end
$$;

-- The four weeks before the last receipt, or as many as there are since the first one, say what is usual: for each whole week
-- of the silence their average, and for the rest of it the same span of these weeks. Hours that are partly in a span count in
-- proportion. A receipt that claims to be from the future counts only from then on.
create function inventory.find_silences()
returns table (program_identifier text, to_identifier bigint, silent_since timestamptz, usual_units double precision)
language plpgsql
stable
parallel safe
as $$
#variable_conflict use_column
declare
  week constant interval := '168 hours';
  days constant date[] := inventory.fresh_dates('day');
begin
  return query
  with fresh as materialized (
    select *
    from inventory.count_hours(days)
  ), pair as (
    select distinct t.program_identifier, t.to_identifier
    from inventory.totals_by_date as t
    where t.grain = 'month' and days is not null
    union
    select f.program_identifier, f.to_identifier
    from fresh as f
  ), span as (
    select pair.*, least(t.first, f.first) as first, greatest(t.last, f.last) as last
    from pair
    cross join lateral (
      select
        (
          select h.hour
          from inventory.totals_by_hour as h
          where (h.program_identifier, h.to_identifier) = (pair.program_identifier, pair.to_identifier)
            and (h.hour at time zone 'UTC')::date <> all (days)
          order by h.hour
          limit 1
        ) as first,
        (
          select h.hour
          from inventory.totals_by_hour as h
          where (h.program_identifier, h.to_identifier) = (pair.program_identifier, pair.to_identifier)
            and h.hour <= now()
            and (h.hour at time zone 'UTC')::date <> all (days)
          order by h.hour desc
          limit 1
        ) as last
    ) as t
    cross join lateral (
      select min(fresh.hour) as first, max(fresh.hour) as last
      from fresh
      where (fresh.program_identifier, fresh.to_identifier) = (pair.program_identifier, pair.to_identifier)
        and fresh.hour <= now()
    ) as f
  ), silence as materialized (
    select
      span.program_identifier,
      span.to_identifier,
      span.last,
      r.silent_since,
      least(greatest(floor(date_part('epoch', span.last - span.first) / date_part('epoch', week)), 1), 4) as weeks,
      floor(date_part('epoch', now() - r.silent_since) / date_part('epoch', week)) as whole_weeks
    from span
    cross join lateral (
      select coalesce(max(r.received_at), span.last) as silent_since
      from inventory.receipts as r
      where r.received_at >= span.last
        and r.received_at < span.last + interval '1 hour'
        and r.received_at <= now()
        and (r.program_identifier, r.to_identifier) = (span.program_identifier, span.to_identifier)
    ) as r
    where span.last is not null
  )
  select
    s.program_identifier,
    s.to_identifier,
    s.silent_since,
    coalesce(
      sum(
        part.weight / s.weeks * h.units
          * date_part('epoch', least(h.hour + interval '1 hour', part.until) - greatest(h.hour, part.since)) / 3600
      ),
      0
    )
  from silence as s
  cross join lateral (
    select s.silent_since - ago * week as since, now() - (s.whole_weeks + ago) * week as until, 1 as weight
    from generate_series(1, s.weeks::integer) as ago
    union all
    select s.last + interval '1 hour' - s.weeks * week, s.last + interval '1 hour', s.whole_weeks
    where s.whole_weeks > 0
  ) as part
  left join lateral (
    select t.hour, t.units
    from inventory.totals_by_hour as t
    where (t.program_identifier, t.to_identifier) = (s.program_identifier, s.to_identifier)
      and t.hour > part.since - interval '1 hour'
      and t.hour < part.until
      and (t.hour at time zone 'UTC')::date <> all (days)
    union all
    select f.hour, f.units
    from fresh as f
    where (f.program_identifier, f.to_identifier) = (s.program_identifier, s.to_identifier)
      and f.hour > part.since - interval '1 hour'
      and f.hour < part.until
  ) as h on true
  group by s.program_identifier, s.to_identifier, s.silent_since;
end
$$;

create function inventory.recount_day(listed date)
returns void
language plpgsql
as $$
begin
  delete from inventory.totals_by_date
  where grain = 'day' and first_day = listed;
  insert into inventory.totals_by_date
    (grain, first_day, program_identifier, to_identifier, initial_condition, initial_channel, return_reason, units,
     return_units, transfer_units)
  select 'day', c.*
  from inventory.count_days(array[listed]) as c;
  delete from inventory.totals_by_hour
  where hour >= listed::timestamp at time zone 'UTC' and hour < (listed + 1)::timestamp at time zone 'UTC';
  insert into inventory.totals_by_hour
  select *
  from inventory.count_hours(array[listed]);
end
$$;

create function inventory.recount_month(listed date)
returns void
language plpgsql
as $$
begin
  delete from inventory.totals_by_date
  where grain = 'month' and first_day = listed;
  insert into inventory.totals_by_date
    (grain, first_day, program_identifier, to_identifier, initial_condition, initial_channel, return_reason, units,
     return_units, transfer_units)
  select 'month', listed, program_identifier, to_identifier, initial_condition, initial_channel, return_reason, sum(units),
    sum(return_units), sum(transfer_units)
  from inventory.totals_by_date
  where grain = 'day' and first_day >= listed and first_day < listed + interval '1 month'
  group by 3, 4, 5, 6, 7;
end
$$;

create function inventory.recount_asns(program_identifiers text[], asn_numbers text[])
returns void
language plpgsql
as $$
begin
  with counted as materialized (
    select *
    from inventory.count_asns(program_identifiers, asn_numbers)
  ), gone as (
    delete from inventory.totals_by_asn as t
    using counted as c
    where c.units = 0 and (t.program_identifier, t.asn_number) = (c.program_identifier, c.asn_number)
  )
  insert into inventory.totals_by_asn as t
  select *
  from counted
  where units > 0
  on conflict on constraint totals_by_asn_pkey do update
  set
    units = excluded.units,
    cartons = excluded.cartons,
    first_received_at = excluded.first_received_at,
    last_received_at = excluded.last_received_at,
    return_units = excluded.return_units,
    transfer_units = excluded.transfer_units
  where t is distinct from excluded;

  with listed as (
    select *
    from unnest(program_identifiers, asn_numbers) as l (program_identifier, asn_number)
  ), found as materialized (
    select n.kind, n.number, l.program_identifier, l.asn_number
    from listed as l
    cross join lateral (
      select distinct n.kind, n.number
      from inventory.receipts as r
      cross join lateral (
        values
          ('carton', r.carton_identifier),
          ('reference', r.reference_identifier),
          ('reference', r.reference_alternate_identifier)
      ) as n (kind, number)
      where (r.program_identifier, r.asn_number) = (l.program_identifier, l.asn_number)
        and n.number is not null
    ) as n
  ), kept as materialized (
    select t.*
    from listed as l
    join inventory.totals_by_number as t using (program_identifier, asn_number)
  ), gone as (
    delete from inventory.totals_by_number as t
    where t.row_id in (
      select k.row_id
      from kept as k
      left join found as f using (kind, number, program_identifier, asn_number)
      where f.kind is null
    )
  )
  insert into inventory.totals_by_number (kind, number, program_identifier, asn_number)
  select f.*
  from found as f
  left join kept as k using (kind, number, program_identifier, asn_number)
  where k.kind is null;
end
$$;

-- The list of a new run, and the transaction up to which everything is counted when it is empty. Everything is on it where
-- nothing that was counted can be used, and where reading what was written since would take longer.
create function inventory.begin_totals()
returns void
language plpgsql
as $$
declare
  certain constant bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1;
  since constant bigint := inventory.totals_counted_in();
  until constant bigint := inventory.totals_until();
  enough bigint := 100000;
  written bigint;
begin
  delete from inventory.totals_work;
  if since is null then
    -- Nobody changes a time zone meanwhile (inventory.follow_zones).
    lock table inventory.warehouses in share mode;
    perform inventory.set_zones();
    -- Numbers that this cluster has not given out, so they are another one's. When it came to them, they would seem new.
    delete from inventory.feed_events
    where written_in > until;
  else
    select greatest(reltuples / 10, enough)
    into enough
    from pg_class
    where oid = 'inventory.receipts'::regclass;
    select count(*)
    into written
    from (
      (select from inventory.receipts where created_in > since and created_in <= until limit enough)
      union all
      (select from inventory.receipt_revisions where replaced_in > since and replaced_in <= until limit enough)
      union all
      (select from inventory.feed_events where written_in > since and written_in <= until limit enough)
    ) as w;
  end if;
  if since is null or written >= enough then
    -- From the first receipt of a day to the first one of a later day.
    insert into inventory.totals_work (day)
    with recursive seen as (
      select min(received_at) as at
      from inventory.receipts
      where received_at > '-infinity'
      union all
      select (
          select min(r.received_at)
          from inventory.receipts as r
          where r.received_at >= ((seen.at at time zone 'UTC')::date + 1)::timestamp at time zone 'UTC'
        )
      from seen
      where isfinite(seen.at)
    )
    select (at at time zone 'UTC')::date + near
    from seen
    -- The day in other time zones.
    cross join generate_series(-1, 1) as near
    where isfinite(at)
    union
    select first_day
    from inventory.totals_by_date
    where grain = 'day'
    union
    select (hour at time zone 'UTC')::date
    from inventory.totals_by_hour
    order by 1;
    insert into inventory.totals_work (program_identifier, asn_number, and_later)
    values ('', '', true);
  else
    insert into inventory.totals_work (day)
    select day
    from unnest(inventory.fresh_dates('day')) as day
    order by 1;
    insert into inventory.totals_work (program_identifier, asn_number)
    select distinct program_identifier, asn_number
    from inventory.written_since(since)
    order by 1, 2;
  end if;
  update inventory.totals_state
  set counted_in = since, counting_in = certain, cluster = inventory.totals_cluster();
end
$$;

-- One portion of the list; false: it is empty.
create function inventory.work_on_totals(portion integer)
returns boolean
language plpgsql
as $$
declare
  work constant inventory.totals_work[] := array(
    select w
    from inventory.totals_work as w
    order by row_id
    limit greatest(portion, 2)
  );
  programs text[];
  asns text[];
begin
  if cardinality(work) = 0 then
    return false;
  end if;
  if work[1].day is not null then
    perform inventory.recount_day(work[1].day);
    if date_trunc('month', work[2].day) is distinct from date_trunc('month', work[1].day) then
      perform inventory.recount_month(date_trunc('month', work[1].day)::date);
    end if;
    delete from inventory.totals_work
    where row_id = work[1].row_id;
  elsif work[1].and_later then
    with recursive next as (
      select work[1].program_identifier, work[1].asn_number
      union all
      select later.*
      from next
      cross join lateral (
        select r.program_identifier, r.asn_number
        from inventory.receipts as r
        where (r.program_identifier, r.asn_number) > (next.program_identifier, next.asn_number)
        order by 1, 2
        limit 1
      ) as later
    ), listed as (
      select *
      from (
        (select program_identifier, asn_number from next offset 1 limit portion)
        union
        (
          select t.program_identifier, t.asn_number
          from inventory.totals_by_asn as t
          where (t.program_identifier, t.asn_number) > (work[1].program_identifier, work[1].asn_number)
          order by 1, 2
          limit portion
        )
      ) as either (program_identifier, asn_number)
      order by 1, 2
      limit portion
    )
    select array_agg(program_identifier order by program_identifier, asn_number),
      array_agg(asn_number order by program_identifier, asn_number)
    into programs, asns
    from listed;
    if programs is null then
      delete from inventory.totals_work
      where row_id = work[1].row_id;
    else
      perform inventory.recount_asns(programs, asns);
      update inventory.totals_work
      set program_identifier = programs[cardinality(programs)], asn_number = asns[cardinality(asns)]
      where row_id = work[1].row_id;
    end if;
  else
    select array_agg(w.program_identifier), array_agg(w.asn_number)
    into programs, asns
    from unnest(work) as w;
    perform inventory.recount_asns(programs, asns);
    delete from inventory.totals_work as w
    using unnest(work) as done
    where w.row_id = done.row_id;
  end if;
  return true;
end
$$;

create function inventory.end_totals()
returns void
language plpgsql
as $$
declare
  changed bigint[];
  first date;
  last date;
begin
  -- Warehouses with another time zone: what was counted of them says from which days their receipts are. Which ones were
  -- written to since is fresh as before.
  changed := inventory.set_zones();
  if changed is not null then
    select min(first_day), max(first_day)
    into first, last
    from inventory.totals_by_date
    where grain = 'day' and to_identifier = any (changed);
    delete from inventory.totals_by_date
    where to_identifier = any (changed);
    insert into inventory.totals_by_date
      (grain, first_day, program_identifier, to_identifier, initial_condition, initial_channel, return_reason, units,
       return_units, transfer_units)
    select
      'day',
      (r.received_at at time zone coalesce(z.day_zone, 'UTC'))::date,
      r.program_identifier,
      r.to_identifier,
      r.initial_condition,
      r.initial_channel,
      r.return_reason,
      count(*),
      count(*) filter (where inventory.is_return(r.reference_type)),
      count(*) filter (where inventory.is_transfer(r.reference_type))
    from inventory.receipts as r
    join inventory.day_zones as z using (to_identifier)
    where r.to_identifier = any (changed)
      and r.received_at >= (first - 1)::timestamp at time zone 'UTC'
      and r.received_at < (last + 2)::timestamp at time zone 'UTC'
    group by 2, 3, 4, 5, 6, 7;
    insert into inventory.totals_by_date
      (grain, first_day, program_identifier, to_identifier, initial_condition, initial_channel, return_reason, units,
       return_units, transfer_units)
    select
      'month',
      date_trunc('month', first_day)::date,
      program_identifier,
      to_identifier,
      initial_condition,
      initial_channel,
      return_reason,
      sum(units),
      sum(return_units),
      sum(transfer_units)
    from inventory.totals_by_date
    where to_identifier = any (changed)
    group by 2, 3, 4, 5, 6, 7;
  end if;
  update inventory.totals_state
  set counted_in = counting_in, counting_in = null, counted_at = clock_timestamp();
  delete from inventory.totals_silences;
  insert into inventory.totals_silences
  select program_identifier, to_identifier, usual_units
  from reporting.silences
  where usual_units > 0;
end
$$;

-- A transaction of refresh_totals; false: nothing is left to do, or another session is at it.
create function inventory.refresh_totals_portion(portion integer default 1000)
returns boolean
language plpgsql
-- Not with the settings of the service, which only ever looks up a key. Each statement here has an index to go by.
set enable_seqscan = off
set enable_hashjoin = on
set enable_mergejoin = on
set lock_timeout = 0
set work_mem = '64MB'
as $$
declare
  state inventory.totals_state;
begin
  select *
  into state
  from inventory.totals_state
  for update skip locked;
  if not found then
    return false;
  end if;
  if state.counting_in is null or state.cluster is distinct from inventory.totals_cluster() then
    perform inventory.begin_totals();
    return true;
  end if;
  if inventory.work_on_totals(portion) then
    return true;
  end if;
  perform inventory.end_totals();
  return false;
end
$$;

-- (A procedure that commits cannot have a search_path of its own, nor be security definer: hence the function.)
create procedure inventory.refresh_totals()
language plpgsql
as $$
begin
  while inventory.refresh_totals_portion() loop
    commit;
  end loop;
end
$$;

-- For the metrics: no rows where the result is older than an hour.
create function inventory.silences()
returns table (program_identifier text, to_identifier bigint, usual_units double precision)
language sql
stable
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
as $$
  select counted_at
  from inventory.totals_state
  where inventory.totals_counted_in() is not null
$$;

-- While something is counted, refresh_totals takes over a time zone, with what it has changed.
create function inventory.follow_zones()
returns trigger
language plpgsql
as $$
begin
  if not exists (
    select
    from inventory.totals_state as s
    where s.cluster = inventory.totals_cluster() and (s.counted_in is not null or s.counting_in is not null)
  ) then
    perform inventory.set_zones();
  end if;
  return null;
end
$$;
create trigger warehouses_follow_zones
after insert or update or delete or truncate on inventory.warehouses
for each statement
execute function inventory.follow_zones();

-- Reports of 50 million receipts take longer to compile than to run, and plans are of no more use for being made again.
do $$
declare
  name text;
begin
  for name in
    select oid::regprocedure
    from pg_proc
    where oid = any (
      array[
        'inventory.totals_cluster()',
        'inventory.totals_until()',
        'inventory.totals_counted_in()',
        'inventory.totals_need_events_from()',
        'inventory.written_since(bigint)',
        'inventory.zones_of_days()',
        'inventory.set_zones()',
        'inventory.fresh_dates(text)',
        'inventory.count_days(date[])',
        'inventory.fresh_by_date(text)',
        'inventory.count_asns(text[], text[])',
        'inventory.fresh_by_asn()',
        'inventory.fresh_by_number()',
        'inventory.count_hours(date[])',
        'inventory.find_silences()',
        'inventory.recount_day(date)',
        'inventory.recount_month(date)',
        'inventory.recount_asns(text[], text[])',
        'inventory.begin_totals()',
        'inventory.work_on_totals(integer)',
        'inventory.end_totals()',
        'inventory.refresh_totals_portion(integer)',
        'inventory.silences()',
        'inventory.totals_counted_at()',
        'inventory.follow_zones()'
      ]::regprocedure[]
    )
  loop
    execute format('alter function %s security definer set search_path = pg_catalog, pg_temp', name);
    execute format('alter function %s set jit = off', name);
    execute format('alter function %s set plan_cache_mode = force_generic_plan', name);
    execute format('revoke all on function %s from public', name);
  end loop;
  for name in
    select oid::regclass
    from pg_class
    where relnamespace = 'inventory'::regnamespace and relname like 'totals\_%' and relkind = 'r'
  loop
    execute format('revoke all on %s from public', name);
    execute format('grant select on %s to receiptd_reader', name);
  end loop;
end
$$;
revoke all on procedure inventory.refresh_totals() from public;
grant usage on schema inventory to receiptd_totals;
grant execute on function inventory.refresh_totals_portion(integer) to receiptd_totals;
grant execute on procedure inventory.refresh_totals() to receiptd_totals;
grant execute on function
  inventory.silences(),
  inventory.totals_counted_at()
to receiptd_writer;
-- Whoever reads a view calls its functions.
grant execute on function
  inventory.totals_counted_in(),
  inventory.fresh_dates(text),
  inventory.fresh_by_date(text),
  inventory.fresh_by_asn(),
  inventory.fresh_by_number(),
  inventory.find_silences()
to receiptd_analyst, receiptd_reader;

create view reporting.asns as
with fresh as materialized (
  select *
  from inventory.fresh_by_asn()
)
select t.program_identifier, t.asn_number, t.units, t.cartons, t.first_received_at, t.last_received_at, t.return_units,
  t.transfer_units
from inventory.totals_by_asn as t
where (select inventory.totals_counted_in()) is not null
  and not exists (
    select
    from fresh as f
    where (f.program_identifier, f.asn_number) = (t.program_identifier, t.asn_number)
  )
union all
select f.program_identifier, f.asn_number, f.units, f.cartons, f.first_received_at, f.last_received_at, f.return_units,
  f.transfer_units
from fresh as f
where f.units > 0;

-- Where nothing counted is used, there is no list of dates, and no date differs from all of it.
do $$
declare
  grain text;
begin
  foreach grain in array array['day', 'month'] loop
    execute format(
      $view$
        create view reporting.receipts_by_%1$s as
        select
          c.first_day as %1$s,
          c.program_identifier,
          c.to_identifier,
          coalesce(w.name, c.to_identifier::text) as warehouse,
          c.initial_condition,
          m.meaning as condition_meaning,
          c.initial_channel,
          c.return_reason,
          c.units,
          c.return_units,
          c.transfer_units
        from (
          select t.first_day, t.program_identifier, t.to_identifier, t.initial_condition, t.initial_channel, t.return_reason,
            t.units, t.return_units, t.transfer_units
          from inventory.totals_by_date as t
          where t.grain = %1$L
            and t.first_day <> all ((select inventory.fresh_dates(%1$L))::date[])
          union all
          select f.*
          from inventory.fresh_by_date(%1$L) as f
        ) as c
        left join inventory.warehouses as w on w.to_identifier = c.to_identifier
        left join inventory.condition_codes as m on m.initial_condition = c.initial_condition
      $view$,
      grain
    );
  end loop;
end
$$;

create view reporting.cartons as
select
  r.carton_identifier,
  r.program_identifier,
  r.asn_number,
  count(*) as units,
  min(r.received_at) as first_received_at,
  max(r.received_at) as last_received_at,
  count(*) filter (where inventory.is_return(r.reference_type)) as return_units,
  count(*) filter (where inventory.is_transfer(r.reference_type)) as transfer_units
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

create view reporting.silences as
select
  s.program_identifier,
  s.to_identifier,
  coalesce(w.name, s.to_identifier::text) as warehouse,
  s.silent_since,
  now() - s.silent_since as silent_for,
  round(s.usual_units::numeric, 1) as usual_units
from inventory.find_silences() as s
left join inventory.warehouses as w on w.to_identifier = s.to_identifier
where w.closed_on is null or now() < w.closed_on;

grant select on
  reporting.asns,
  reporting.receipts_by_day,
  reporting.receipts_by_month,
  reporting.cartons,
  reporting.reference_numbers,
  reporting.silences
to receiptd_analyst, receiptd_reader;

comment on table inventory.totals_state is
  'How far inventory.refresh_totals has counted: one row.';
comment on column inventory.totals_state.only_row is 'Keeps it to one row. Example: t';
comment on constraint totals_state_only_row_check on inventory.totals_state is 'Keeps it to one row.';
comment on column inventory.totals_state.counted_in is
  'The number of a transaction: everything that it and all before it wrote is counted. Null: nothing is. Example: 123456';
comment on column inventory.totals_state.counting_in is
  'What counted_in becomes when inventory.totals_work is empty; null: no run of inventory.refresh_totals has begun since. Example: 123789';
comment on column inventory.totals_state.cluster is
  'The cluster, database and table of which these are transactions (inventory.totals_cluster). Example: 7318945012345678901/16390/16412';
comment on column inventory.totals_state.counted_at is
  'When inventory.refresh_totals ended last. Example: 2026-11-24 08:30:00.654321+00';
comment on table inventory.totals_work is
  'What inventory.refresh_totals has still to recount: days, then ASNs.';
comment on column inventory.totals_work.row_id is 'The number of the row. Example: 1';
comment on column inventory.totals_work.day is
  'A day in the time zone of each warehouse; null: an ASN. Example: 2026-11-23';
comment on column inventory.totals_work.program_identifier is 'The program of the ASN. Example: returns';
comment on column inventory.totals_work.asn_number is 'The number of the ASN. Example: SO00001234';
comment on column inventory.totals_work.and_later is
  'Not this ASN, but all that sort after it. Example: f';
comment on table inventory.totals_by_date is
  'Counted beforehand for reporting.receipts_by_day and reporting.receipts_by_month. Dates that were written to since inventory.totals_state.counted_in may differ here: read the views.';
comment on column inventory.totals_by_date.grain is 'day or month. Example: day';
comment on constraint totals_by_date_grain_check on inventory.totals_by_date is 'What is counted.';
comment on column inventory.totals_by_date.first_day is
  'The day, or the first day of the month, in the time zone of the warehouse. Example: 2026-11-23';
comment on column inventory.totals_by_date.units is 'How many units. Example: 42';
comment on column inventory.totals_by_date.row_id is 'The number of the row. Example: 1';
comment on index inventory.totals_by_date_first_day_idx is 'For a span of days.';
comment on table inventory.totals_by_asn is
  'Counted beforehand for reporting.asns. ASNs that were written to since inventory.totals_state.counted_in may differ here: read the view.';
comment on column inventory.totals_by_asn.units is 'How many units. Example: 12';
comment on column inventory.totals_by_asn.cartons is 'How many cartons these were in. Example: 2';
comment on index inventory.totals_by_asn_last_received_at_idx is 'For the ASNs with a recent receipt.';
comment on table inventory.totals_by_number is
  'In which ASNs a carton or a reference may be found, for reporting.cartons and reporting.reference_numbers. There may be extra rows, for numbers that a revision has replaced.';
comment on column inventory.totals_by_number.kind is
  'carton: receipts.carton_identifier; reference: receipts.reference_identifier or receipts.reference_alternate_identifier. Example: carton';
comment on constraint totals_by_number_kind_check on inventory.totals_by_number is 'What is looked for.';
comment on column inventory.totals_by_number.number is 'The number. Example: CT0C3AC5201';
comment on column inventory.totals_by_number.row_id is 'The number of the row. Example: 1';
comment on index inventory.totals_by_number_number_idx is 'For one carton or reference.';
comment on index inventory.totals_by_number_asn_idx is 'For inventory.refresh_totals.';
comment on table inventory.totals_by_hour is
  'Counted beforehand for reporting.silences. Hours of days that were written to since inventory.totals_state.counted_in may differ here: read the view.';
comment on column inventory.totals_by_hour.hour is 'The beginning of the hour. Example: 2026-11-23 12:00:00+00';
comment on column inventory.totals_by_hour.units is 'How many units. Example: 12';
comment on index inventory.totals_by_hour_hour_idx is 'For inventory.refresh_totals.';
comment on table inventory.totals_silences is
  'reporting.silences when inventory.refresh_totals ran last, for warehouses and programs that usually receive something in that time.';
comment on column inventory.totals_silences.usual_units is
  'How many units usually arrive in a time as long as the silence. Example: 31.5';
comment on trigger warehouses_follow_zones on inventory.warehouses is
  'Puts a time zone into effect while nothing is counted.';
comment on function inventory.follow_zones() is
  'After a change of inventory.warehouses: puts time zones into effect, unless inventory.refresh_totals has to recount for it.';
comment on function inventory.totals_cluster() is
  'The cluster, the database and the table receipts: numbers of transactions from another one mean nothing here.';
comment on function inventory.totals_until() is
  'A number that no transaction of this cluster has reached yet, except the present one.';
comment on function inventory.totals_counted_in() is
  'The transaction up to which the tables totals_... are counted. Null: they are not to be used, since nothing was counted, or in another cluster or database, or receipts was truncated since; inventory.refresh_totals puts that right.';
comment on function inventory.totals_need_events_from() is
  'The first transaction whose rows of inventory.feed_events the totals still need; those of earlier ones may be deleted, as far as the totals go.';
comment on function inventory.written_since(bigint) is
  'Receipts that were written to after a transaction; deleted ones with the time at which they had been received.';
comment on function inventory.zones_of_days() is 'The time zones in which days are counted.';
comment on function inventory.set_zones() is
  'Puts the time zones of inventory.warehouses into effect, and returns the warehouses that had another one; null: none.';
comment on function inventory.fresh_dates(text) is
  'The days (day), or the first days of the months (month), that were written to since they were counted. Null: nothing counted can be used.';
comment on function inventory.count_days(date[]) is
  'Units of these days in the time zone of their warehouse, by all dimensions of inventory.totals_by_date; null: of all days.';
comment on function inventory.fresh_by_date(text) is
  'What takes the place of rows of inventory.totals_by_date: all of each day (day) or month (month) that was written to since it was counted; everything if nothing counted can be used.';
comment on function inventory.count_asns(text[], text[]) is
  'Units and cartons of these ASNs (programs, numbers); null: of all ASNs.';
comment on function inventory.fresh_by_asn() is
  'What takes the place of rows of inventory.totals_by_asn: each ASN that was written to since it was counted; everything if nothing counted can be used.';
comment on function inventory.fresh_by_number() is
  'What is missing in inventory.totals_by_number: the numbers of receipts that were written since it was filled; everything if nothing counted can be used.';
comment on function inventory.count_hours(date[]) is
  'Units by program, warehouse and hour of these days in UTC; null: of all days.';
comment on function inventory.find_silences() is
  'For reporting.silences: each program and warehouse, the time of its last receipt, and how many units usually arrive in a time as long as has passed since.';
comment on function inventory.recount_day(date) is 'For inventory.refresh_totals: counts a day and its hours.';
comment on function inventory.recount_month(date) is 'For inventory.refresh_totals: counts a month from its days.';
comment on function inventory.recount_asns(text[], text[]) is
  'For inventory.refresh_totals: counts ASNs, and lists their cartons and references.';
comment on function inventory.begin_totals() is 'For inventory.refresh_totals: makes the list of what to recount.';
comment on function inventory.work_on_totals(integer) is
  'For inventory.refresh_totals: recounts one day, or at most so many ASNs; false: the list is empty.';
comment on function inventory.end_totals() is
  'For inventory.refresh_totals, when the list is empty: puts changed time zones into effect, and moves counted_in.';
comment on function inventory.refresh_totals_portion(integer) is
  'A transaction of inventory.refresh_totals; false: nothing is left to do, or another session is doing it.';
comment on procedure inventory.refresh_totals() is
  'Counts for reports what was written since it ran last, in portions that it commits; one that was interrupted is continued. Returns at once if another session is doing it. The views of the schema reporting are right without it too, and the slower the longer ago it ran. Every five minutes is often enough.';
comment on function inventory.silences() is
  'For the metrics of the service: inventory.totals_silences, the largest first, unless that is older than an hour.';
comment on function inventory.totals_counted_at() is
  'For the metrics of the service: when inventory.refresh_totals ended last; null: nothing is counted, or it cannot be used.';

comment on view reporting.asns is
  'One row for each advance ship notice (ASN) against which a unit was received: what has come so far. What was announced is not known here. For those with a recent receipt: where last_received_at > ....';
comment on view reporting.receipts_by_day is
  'Units received by day, in the time zone of the warehouse (inventory.warehouses; else UTC), and by condition, channel and reason. A unit counts on the day it was first received, under what was reported of it last. For months and years: reporting.receipts_by_month.';
comment on view reporting.receipts_by_month is
  'reporting.receipts_by_day by month.';
comment on view reporting.cartons is
  'One row for each carton and ASN in which a unit was received: look for one carton here, and for its units in reporting.receipts, by program_identifier, asn_number and carton_identifier.';
comment on view reporting.reference_numbers is
  'One row for each number of an RMA, an order or another reference, and ASN in which a unit was received: look for one number here, and for its units in reporting.receipts, by program_identifier and asn_number.';
comment on view reporting.silences is
  'One row for each warehouse and program that has ever received a unit: how long it has been silent, and how many units usually arrive in such a time, judged by the four weeks before it fell silent. Worth a question where usual_units is high: at night it is low. A warehouse is left out from the day in inventory.warehouses.closed_on.';
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
        'reporting.silences',
        'inventory.totals_by_date',
        'inventory.totals_by_asn',
        'inventory.totals_by_number',
        'inventory.totals_by_hour',
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
        ('return_units', 'How many of the units are returns: reference_type is RMA, RA or ReturnsPortalOrder. Example: 3'),
        ('transfer_units', 'How many of the units are transfers: reference_type is StockTransferOrder. Example: 9'),
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
comment on column reporting.silences.silent_since is
  'When the last unit was received there. Example: 2026-11-24 08:30:00.654321+00';
comment on column reporting.silences.silent_for is
  'How long ago that is. Example: 02:15:00';
comment on column reporting.silences.usual_units is
  'How many units usually arrive in a time as long as silent_for: each whole week of it counts as an average week, the rest as the same span of the week, on average of the four weeks (or fewer, if the first unit arrived later) before silent_since. 0 in the first week of a new warehouse. Example: 31.5';

commit;
