-- Deploy receiptd:feed to pg
-- requires: receipt_revisions

begin;

set local role receiptd_owner;

-- What no row of receipts (created_in) or receipt_revisions (replaced_in) tells.
create table inventory.feed_events (
  event_id bigint generated always as identity,
  change text not null,
  program_identifier text collate "C",
  asn_number text collate "C",
  unit_identifier text collate "C",
  received_at timestamptz,
  written_in bigint not null default pg_current_xact_id()::text::bigint,
  constraint feed_events_pkey primary key (event_id),
  constraint feed_events_change_check check (change in ('deleted', 'written', 'truncated'))
);
create index feed_events_written_in_idx on inventory.feed_events (written_in);
revoke all on inventory.feed_events from public;
grant select on inventory.feed_events to receiptd_reader;

create function inventory.tell_deleted()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into inventory.feed_events (change, program_identifier, asn_number, unit_identifier, received_at)
  select 'deleted', program_identifier, asn_number, unit_identifier, received_at
  from gone;
  return null;
end
$$;

create function inventory.tell_written()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Somebody has filled a column of their own.
  if not exists (
    select
    from unnest(inventory.field_columns() || inventory.bookkeeping_columns()) as name
    where to_jsonb(new) -> name is distinct from to_jsonb(old) -> name
  ) then
    return null;
  end if;
  insert into inventory.feed_events (change, program_identifier, asn_number, unit_identifier, received_at)
  values ('written', old.program_identifier, old.asn_number, old.unit_identifier, old.received_at);
  return null;
end
$$;

create function inventory.tell_truncated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into inventory.feed_events (change) values ('truncated');
  return null;
end
$$;

create trigger receipts_tell_deleted
after delete on inventory.receipts
referencing old table as gone
for each statement
execute function inventory.tell_deleted();

-- Never one of the service's updates: those are revisions.
create trigger receipts_tell_written
after update on inventory.receipts
for each row
when (new.revision = old.revision or new.received_at <> old.received_at)
execute function inventory.tell_written();

create trigger receipts_tell_truncated
after truncate on inventory.receipts
for each statement
execute function inventory.tell_truncated();

-- A transaction number means nothing in another cluster, nor behind a point to which this one was reset.
create function inventory.feed_cluster()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select s.system_identifier || '/' || c.timeline_id
  from pg_control_system() as s
  cross join pg_control_checkpoint() as c
$$;

create function inventory.changes_begin()
returns text
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
  select inventory.feed_cluster() || ':' || (pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1)
$$;

-- Of transactions up to the one before pg_snapshot_xmin all have ended, and whatever they have written is seen. A cursor
-- says how far its reader got: all of that transaction, and of the next one all up to a key. (Not a number of rows: one
-- that was told may be deleted before the next page, and then another row would have its number.)
create function inventory.changes_since(after text, most integer default 1000)
returns table (
  cursor text,
  change text,
  program_identifier text,
  asn_number text,
  unit_identifier text,
  receipt inventory.receipts
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  cluster constant text := inventory.feed_cluster();
  parts constant text[] := regexp_match(after, '^([0-9]+/[0-9]+):([0-9]+)(?:\+(\["[01]",".*",".*",".*"\]))?$');
  certain constant bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1;
  done bigint := parts[2]::bigint;
  told jsonb := parts[3]::jsonb;
  span bigint := greatest(most, 1);
  until bigint;
begin
  if parts is null then
    raise exception 'this is no cursor of the feed: %', coalesce(after, 'null')
      using errcode = 'invalid_parameter_value',
        hint = 'Take one from inventory.changes_begin(), before you copy inventory.receipts.';
  end if;
  if most is null or most < 1 then
    raise exception 'most has to be at least 1' using errcode = 'invalid_parameter_value';
  end if;
  if parts[1] <> cluster or done > certain then
    raise exception 'the cursor % is of another cluster, or of a time that this one was set back from', after
      using errcode = 'object_not_in_prerequisite_state',
        detail = format('This is %s, at transaction %s.', cluster, certain),
        hint = 'Copy inventory.receipts anew, with a cursor from inventory.changes_begin() taken before.';
  end if;
  -- In growing steps, so that a reader who is far behind need not sort all that he lacks for each page of it.
  while done < certain loop
    until := least(done + span, certain);
    return query
    with event as (
      select r.created_in as xid, 1 as place, 'written' as change, r.program_identifier, r.asn_number, r.unit_identifier
      from inventory.receipts as r
      where r.created_in > done and r.created_in <= until
      union all
      select v.replaced_in, 1, 'written', v.program_identifier, v.asn_number, v.unit_identifier
      from inventory.receipt_revisions as v
      where v.replaced_in > done and v.replaced_in <= until
      union all
      select e.written_in, case e.change when 'written' then 1 else 0 end, e.change, e.program_identifier, e.asn_number,
        e.unit_identifier
      from inventory.feed_events as e
      where e.written_in > done and e.written_in <= until
    ), page as (
      select
        e.*,
        lead(e.xid) over (order by e.xid, e.place, e.program_identifier, e.asn_number, e.unit_identifier) as next_xid
      from (
        select distinct
          xid,
          place,
          change,
          coalesce(program_identifier, '') as program_identifier,
          coalesce(asn_number, '') as asn_number,
          coalesce(unit_identifier, '') as unit_identifier
        from event
      ) as e
      where told is null
        or e.xid > done + 1
        or (e.place::text, e.program_identifier, e.asn_number, e.unit_identifier)
          > (told ->> 0, (told ->> 1) collate "C", (told ->> 2) collate "C", (told ->> 3) collate "C")
      order by e.xid, e.place, e.program_identifier, e.asn_number, e.unit_identifier
      limit most + 1
    )
    select
      cluster || ':' || case
        when p.next_xid = p.xid then (p.xid - 1)
          || '+["' || p.place || '",' || to_json(p.program_identifier) || ',' || to_json(p.asn_number) || ','
          || to_json(p.unit_identifier) || ']'
        else p.xid::text
      end,
      p.change,
      nullif(p.program_identifier, ''),
      nullif(p.asn_number, ''),
      nullif(p.unit_identifier, ''),
      r
    from page as p
    left join inventory.receipts as r
      on p.change = 'written'
      and (r.program_identifier, r.asn_number, r.unit_identifier)
        = (p.program_identifier, p.asn_number, p.unit_identifier)
    order by p.xid, p.place, p.program_identifier, p.asn_number, p.unit_identifier
    limit most;
    if found then
      return;
    end if;
    done := until;
    told := null;
    span := span * 4;
  end loop;
end
$$;

revoke all on function
  inventory.tell_deleted(),
  inventory.tell_written(),
  inventory.tell_truncated(),
  inventory.feed_cluster(),
  inventory.changes_begin(),
  inventory.changes_since(text, integer)
from public;
grant execute on function
  inventory.feed_cluster(),
  inventory.changes_begin(),
  inventory.changes_since(text, integer)
to receiptd_reader;

comment on table inventory.feed_events is
  'What inventory.changes_since has to tell and no other table does: receipts that were deleted, and those that were written without a new version. Written by triggers on receipts. Old rows may be deleted, once every reader of the feed, and inventory.totals_state, has gone past them.';
comment on index inventory.feed_events_written_in_idx is 'For inventory.changes_since.';
comment on constraint feed_events_change_check on inventory.feed_events is 'What can happen to a receipt.';
comment on column inventory.feed_events.event_id is 'The number of this row. Example: 1';
comment on column inventory.feed_events.change is
  'deleted; written: a column that is no content was changed, or a person erased; truncated: all receipts are gone. Example: deleted';
comment on column inventory.feed_events.program_identifier is
  'The receipt''s program_identifier; null when all are meant. Example: returns';
comment on column inventory.feed_events.asn_number is
  'The receipt''s asn_number; null when all are meant. Example: SO00001234';
comment on column inventory.feed_events.unit_identifier is
  'The receipt''s unit_identifier; null when all are meant. Example: 123456891011';
comment on column inventory.feed_events.received_at is
  'When the receipt had been received, before that; for inventory.totals_by_day. Example: 2026-11-23 12:00:00.123456+00';
comment on column inventory.feed_events.written_in is
  'The number of the transaction that did it. Example: 123456';
comment on function inventory.tell_deleted() is 'After a deletion of receipts: keeps for the feed which ones.';
comment on function inventory.tell_written() is
  'After an update of receipts that made no new version: keeps for the feed which one.';
comment on function inventory.tell_truncated() is 'After all receipts were truncated: keeps that for the feed.';
comment on trigger receipts_tell_deleted on inventory.receipts is 'For inventory.changes_since.';
comment on trigger receipts_tell_written on inventory.receipts is 'For inventory.changes_since.';
comment on trigger receipts_tell_truncated on inventory.receipts is 'For inventory.changes_since.';
comment on function inventory.feed_cluster() is
  'Which cluster this is, and on which timeline: what cursors of the feed are good for.';
comment on function inventory.changes_begin() is
  'A cursor for inventory.changes_since: take it, then copy inventory.receipts; what is written from then on, and perhaps some of what was copied, the feed tells.';
comment on function inventory.changes_since(text, integer) is
  'What was written to inventory.receipts since a cursor and is certain by now, at most so many rows, oldest first. Each row has the cursor behind it; without a row, the same cursor is good for the next time. change is written (receipt has the row as it is now; null: it was deleted since, which is told later), deleted, or truncated (all of them). What is written while another transaction is open that began before is told when that has ended. Fails where the cursor is of another cluster.';

commit;
