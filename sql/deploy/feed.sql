-- Deploy receiptd:feed to pg
-- requires: receipt_revisions
-- requires: reporting

begin;

set local role receiptd_owner;

-- Changes that no row of receipts (created_in) or receipt_revisions (replaced_in) tells.
create table inventory.feed_events (
  event_id bigint generated always as identity,
  change text not null,
  program_identifier text collate "C",
  asn_number text collate "C",
  unit_identifier text collate "C",
  received_at timestamptz,
  written_in bigint not null default pg_current_xact_id()::text::bigint,
  written_at timestamptz not null default now(),
  constraint feed_events_pkey primary key (event_id),
  constraint feed_events_change_check check (change in ('deleted', 'written', 'truncated'))
);
create index feed_events_written_in_idx on inventory.feed_events (written_in);

create table inventory.feed_state (
  only_row boolean not null default true,
  token uuid not null default gen_random_uuid(),
  trimmed_in bigint,
  constraint feed_state_pkey primary key (only_row),
  constraint feed_state_only_row_check check (only_row)
);
insert into inventory.feed_state default values;

revoke all on inventory.feed_events, inventory.feed_state from public;
grant select on inventory.feed_events, inventory.feed_state to receiptd_reader;

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

-- Never one of the service's updates: those are revisions, which receipt_revisions tells, unless its trigger does not run.
create trigger receipts_tell_written
after update on inventory.receipts
for each row
when (
  new.revision = old.revision
  or new.received_at <> old.received_at
  or current_setting('session_replication_role') = 'replica'
)
execute function inventory.tell_written();

create trigger receipts_tell_truncated
after truncate on inventory.receipts
for each statement
execute function inventory.tell_truncated();

-- Whatever session_replication_role is: a restore sets it, and so does an apply worker.
alter table inventory.receipts enable always trigger receipts_stamp;
alter table inventory.receipts enable always trigger receipts_tell_deleted;
alter table inventory.receipts enable always trigger receipts_tell_written;
alter table inventory.receipts enable always trigger receipts_tell_truncated;

-- What a cursor is good for. It changes whenever changes may have been missed:
-- - the cluster and the database, by their numbers: a restore into another one, a copy made from a template, pg_upgrade
-- - the timeline of the log that is written now: a failover, a point-in-time recovery, a promoted copy. (The control file has
--   it only after the first checkpoint.)
-- - the rows of pg_trigger of all triggers that tell changes. A trigger that was disabled or created again has another
--   number or another xmin, so this notices a dump that was restored in place, although it brings the same rows back, and
--   rows that were restored with triggers disabled.
-- - the files of receipts and feed_events: truncate, which no trigger can tell in the order of transactions, and, because
--   that looks the same, vacuum full
-- - a token, for what none of these notices: a copy of files that was started without a recovery
-- After a crash, the numbers of transactions that were not yet flushed are given out again, and what they wrote is lost. So
-- whoever asks writes a record, and the end of their transaction flushes the log up to it: a cursor never leads beyond that.
create function inventory.feed_id()
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  timeline text;
  not_firing text;
  triggers text;
begin
  select
    string_agg(wanted.name, ', ' order by wanted.name) filter (where t.tgenabled in ('O', 'A') is not true),
    string_agg(concat_ws(' ', t.oid, t.xmin), ', ' order by wanted.name)
  into not_firing, triggers
  from unnest(
    array[
      'receipts_keep_revision',
      'receipts_stamp',
      'receipts_tell_deleted',
      'receipts_tell_truncated',
      'receipts_tell_written'
    ]
  ) as wanted (name)
  left join pg_trigger as t
    on t.tgrelid = to_regclass('inventory.receipts')
    and t.tgname = wanted.name;
  if not_firing is not null then
    raise exception 'the feed misses changes: on inventory.receipts, triggers are missing or disabled: %', not_firing
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'Enable them, or create them as sql/deploy has them. Then copy inventory.receipts again, with a new cursor.';
  end if;
  if pg_is_in_recovery() then
    select lpad(to_hex(received_tli), 8, '0')
    into timeline
    from pg_stat_wal_receiver;
    if timeline is null then
      raise exception 'on this standby the feed cannot know the timeline'
        using errcode = 'object_not_in_prerequisite_state',
          hint = 'It has to stream from its primary, and receiptd_owner needs the role pg_read_all_stats. Or read on the primary.';
    end if;
  else
    timeline := left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
    perform set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'receiptd', '');
  end if;
  return (
    select left(
      encode(
        sha256(
          convert_to(
            concat_ws(
              '/',
              s.system_identifier,
              d.oid,
              upper(timeline),
              triggers,
              pg_relation_filenode('inventory.receipts'),
              pg_relation_filenode('inventory.feed_events'),
              (select token from inventory.feed_state)
            ),
            'UTF8'
          )
        ),
        'hex'
      ),
      16
    )
    from pg_control_system() as s
    join pg_database as d on d.datname = current_database()
  );
end
$$;

-- A cursor says how far its reader got: the feed, a transaction, and within it a place, all in hexadecimal digits of fixed
-- width, so that cursors sort as text in any collation. A place is the hash of a key; the last one means all of the
-- transaction. Stable, so that it goes with the snapshot of a statement that copies the receipts at once.
create function inventory.changes_begin()
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    inventory.feed_id() || '-' || lpad(to_hex(pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1), 16, '0') || '-'
      || repeat('f', 16)
$$;

-- One page of keys that were written to. Of transactions up to the one before pg_snapshot_xmin all have ended, and
-- everything they have written is seen. (A place is not a number of rows: one that was told may be deleted before the next
-- page, and then another row would have its number.)
create function inventory.changed_keys(after text, most integer)
returns table (
  cursor text,
  program_identifier text,
  asn_number text,
  unit_identifier text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  feed constant text := inventory.feed_id();
  parts constant text[] := regexp_match(after, '^([0-9a-f]{16})-(0[0-9a-f]{15})-([0-9a-f]{16})$');
  certain constant bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1;
  trimmed constant bigint := (select s.trimmed_in from inventory.feed_state as s);
  -- All of this transaction, and of the one after it what is up to this place.
  done bigint := ('x' || parts[2])::bit(64)::bigint;
  reached text := parts[3];
  span bigint := greatest(most, 1);
  until bigint;
begin
  if parts is null then
    raise exception 'this is no cursor of the feed: %', coalesce(after, 'null')
      using errcode = 'invalid_parameter_value',
        hint = 'Take one from changes_begin(), before you copy the receipts.';
  end if;
  if most is null or most < 1 then
    raise exception 'most has to be at least 1' using errcode = 'invalid_parameter_value';
  end if;
  if parts[1] <> feed or (done > certain and not pg_is_in_recovery()) or (done < trimmed and trimmed <= certain) then
    raise exception 'changes since the cursor % may be missing', after
      using errcode = 'object_not_in_prerequisite_state',
        detail = case
          when parts[1] <> feed then
            'It is from before a failover, a restore, a truncate or vacuum full of inventory.receipts, or a time without the triggers of the feed.'
          when done > certain then format('It is ahead of this database, which is at transaction %s.', certain)
          else format('The feed was trimmed up to transaction %s.', trimmed)
        end,
        hint = 'Copy the receipts again, with a cursor from changes_begin() that was taken before.';
  end if;
  if reached < repeat('f', 16) then
    done := done - 1;
  else
    reached := null;
  end if;
  -- In growing steps, so that a reader who is far behind need not sort all that he lacks for each page of it.
  while done < certain loop
    until := least(done + span, certain);
    return query
    with event as (
      select r.created_in as xid, r.program_identifier, r.asn_number, r.unit_identifier
      from inventory.receipts as r
      where r.created_in > done and r.created_in <= until
      union
      select v.replaced_in, v.program_identifier, v.asn_number, v.unit_identifier
      from inventory.receipt_revisions as v
      where v.replaced_in > done and v.replaced_in <= until
      union
      select e.written_in, e.program_identifier, e.asn_number, e.unit_identifier
      from inventory.feed_events as e
      where e.written_in > done and e.written_in <= until and e.change <> 'truncated'
    ), placed as (
      select
        event.*,
        lpad(
          to_hex(
            hashtextextended(
              concat_ws(',', length(program_identifier), length(asn_number), program_identifier, asn_number, unit_identifier)
                collate "C",
              0
            )
          ),
          16,
          '0'
        ) collate "C" as place
      from event
    ), page as (
      select p.*, lead(p.xid) over (order by p.xid, p.place) as next_xid
      from placed as p
      where reached is null or p.xid > done + 1 or p.place > reached collate "C"
      -- With ties: of two keys with one hash, none is left behind.
      order by p.xid, p.place
      fetch first (most) rows with ties
    )
    select
      concat_ws('-', feed, lpad(to_hex(p.xid), 16, '0'), case when p.next_xid = p.xid then p.place else repeat('f', 16) end),
      p.program_identifier,
      p.asn_number,
      p.unit_identifier
    from page as p
    order by p.xid, p.place;
    if found then
      return;
    end if;
    done := until;
    reached := null;
    span := span * 4;
  end loop;
end
$$;

-- What a key is told with is its state now, not that of the transaction: transactions do not commit in the order of their
-- numbers, so one that deletes a receipt can have a higher number than a later one that creates it again.
create function inventory.changes_since(after text, most integer default 1000)
returns table (
  cursor text,
  change text,
  program_identifier text,
  asn_number text,
  unit_identifier text,
  receipt inventory.receipts
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select
    c.cursor,
    case when r.unit_identifier is null then 'deleted' else 'written' end,
    c.program_identifier,
    c.asn_number,
    c.unit_identifier,
    r
  from inventory.changed_keys(after, most) as c
  left join inventory.receipts as r using (program_identifier, asn_number, unit_identifier)
  order by c.cursor collate "C"
$$;

create function reporting.changes_begin()
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select inventory.changes_begin()
$$;

create function reporting.changes_since(after text, most integer default 1000)
returns table (
  cursor text,
  change text,
  program_identifier text,
  asn_number text,
  unit_identifier text
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    c.cursor,
    case when r.unit_identifier is null then 'deleted' else 'written' end,
    c.program_identifier,
    c.asn_number,
    c.unit_identifier
  from inventory.changed_keys(after, most) as c
  left join inventory.receipts as r using (program_identifier, asn_number, unit_identifier)
  order by c.cursor collate "C"
$$;

-- After rows of feed_events, or of the history, are gone, by whoever's hand, cursors from before them are refused, and totals
-- that have not yet counted them count everything.
create function inventory.tell_trimmed()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  current_in constant bigint := pg_current_xact_id()::text::bigint;
  gone_in bigint := current_in;
begin
  if tg_op = 'DELETE' then
    -- A higher number is from another cluster, in which this was dumped.
    if tg_table_name = 'receipt_revisions' then
      select max(replaced_in)
      into gone_in
      from gone
      where replaced_in <= current_in;
    else
      select max(written_in)
      into gone_in
      from gone
      where written_in <= current_in;
    end if;
  end if;
  if gone_in is null then
    return null;
  end if;
  insert into inventory.feed_state as s (trimmed_in)
  values (gone_in)
  on conflict (only_row) do update
  set trimmed_in = case
      when s.trimmed_in <= current_in then greatest(s.trimmed_in, excluded.trimmed_in)
      else excluded.trimmed_in
    end;
  if to_regclass('inventory.totals_state') is not null then
    execute 'update inventory.totals_state set counted_in = null, counting_in = null where least(counted_in, counting_in) < $1' using gone_in;
  end if;
  return null;
end
$$;

create trigger feed_events_tell_deleted
after delete on inventory.feed_events
referencing old table as gone
for each statement
execute function inventory.tell_trimmed();
create trigger feed_events_tell_truncated
after truncate on inventory.feed_events
for each statement
execute function inventory.tell_trimmed();
-- History that goes with its receipt is told as deleted.
create trigger receipt_revisions_tell_deleted
after delete on inventory.receipt_revisions
referencing old table as gone
for each statement
when (pg_trigger_depth() = 0)
execute function inventory.tell_trimmed();
create trigger receipt_revisions_tell_truncated
after truncate on inventory.receipt_revisions
for each statement
execute function inventory.tell_trimmed();
alter table inventory.feed_events enable always trigger feed_events_tell_deleted;
alter table inventory.feed_events enable always trigger feed_events_tell_truncated;
alter table inventory.receipt_revisions enable always trigger receipt_revisions_tell_deleted;
alter table inventory.receipt_revisions enable always trigger receipt_revisions_tell_truncated;

-- Events from before a time go, but those that totals have not counted yet.
create function inventory.trim_portion(older_than interval, portion integer)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  before constant timestamptz := now() - older_than;
  next_in constant bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
  until bigint := next_in;
  trimmed bigint;
begin
  if before > now() - interval '24 hours' or portion is null or portion < 1 then
    raise exception 'no event younger than a day is trimmed, and no portion is smaller than 1'
      using errcode = 'invalid_parameter_value';
  end if;
  if to_regprocedure('inventory.totals_need_events_from()') is not null then
    execute 'select inventory.totals_need_events_from()::text::bigint - 1' into until;
  end if;
  delete from inventory.feed_events
  where event_id in (
    select e.event_id
    from inventory.feed_events as e
    where e.written_at < before
      -- A higher number is from another cluster, in which this was dumped.
      and (e.written_in <= until or e.written_in >= next_in)
    order by e.event_id
    limit portion
  );
  get diagnostics trimmed = row_count;
  return trimmed;
end
$$;

-- Each portion committed separately. (A procedure that commits cannot have a search_path of its own, nor be security
-- definer.)
create procedure inventory.trim_feed(older_than interval, portion integer default 10000)
language plpgsql
as $$
begin
  while inventory.trim_portion(older_than, portion) operator(pg_catalog.>) 0 loop
    commit;
  end loop;
end
$$;

revoke all on function
  inventory.tell_deleted(),
  inventory.tell_written(),
  inventory.tell_truncated(),
  inventory.tell_trimmed(),
  inventory.feed_id(),
  inventory.changes_begin(),
  inventory.changed_keys(text, integer),
  inventory.changes_since(text, integer),
  inventory.trim_portion(interval, integer),
  reporting.changes_begin(),
  reporting.changes_since(text, integer)
from public;
revoke all on procedure inventory.trim_feed(interval, integer) from public;
grant execute on function
  inventory.changes_begin(),
  inventory.changed_keys(text, integer),
  inventory.changes_since(text, integer)
to receiptd_reader;
grant execute on function
  reporting.changes_begin(),
  reporting.changes_since(text, integer)
to receiptd_analyst, receiptd_reader;
grant execute on function inventory.trim_portion(interval, integer) to receiptd_purger;
grant execute on procedure inventory.trim_feed(interval, integer) to receiptd_purger;

comment on table inventory.feed_events is
  'Changes for inventory.changes_since that no other table tells: receipts that were deleted, and those that were written without a new version. Written by triggers on receipts. inventory.trim_feed deletes old rows.';
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
comment on column inventory.feed_events.written_at is
  'When that transaction began; for inventory.trim_feed. Example: 2026-11-24 08:30:00.654321+00';
comment on table inventory.feed_state is
  'Which cursors inventory.changes_since accepts: one row.';
comment on column inventory.feed_state.only_row is 'Keeps it to one row. Example: t';
comment on constraint feed_state_only_row_check on inventory.feed_state is 'Keeps it to one row.';
comment on column inventory.feed_state.token is
  'Part of every cursor. Set it to gen_random_uuid() after you start a copy of the database''s files, such as a snapshot of a disk, without a recovery: that refuses the cursors of the original. Example: 9d3c5b7a-0e1f-4a2b-8c3d-4e5f60718293';
comment on column inventory.feed_state.trimmed_in is
  'The number of the last transaction of which rows were deleted from inventory.feed_events or inventory.receipt_revisions: cursors from before it are refused. Null: of none. Example: 123456';
comment on function inventory.tell_deleted() is 'After a deletion of receipts: keeps for the feed which ones.';
comment on function inventory.tell_written() is
  'After an update of receipts that made no new version: keeps for the feed which one.';
comment on function inventory.tell_truncated() is 'After all receipts were truncated: keeps that for the totals.';
comment on function inventory.tell_trimmed() is
  'After a deletion from inventory.feed_events or inventory.receipt_revisions: refuses cursors from before it, and makes totals that have not counted those events count everything.';
comment on trigger receipts_tell_deleted on inventory.receipts is 'For inventory.changes_since.';
comment on trigger receipts_tell_written on inventory.receipts is 'For inventory.changes_since.';
comment on trigger receipts_tell_truncated on inventory.receipts is 'For inventory.totals_counted_in.';
comment on trigger feed_events_tell_deleted on inventory.feed_events is 'Refuses cursors from before the deleted events.';
comment on trigger receipt_revisions_tell_deleted on inventory.receipt_revisions is
  'Refuses cursors from before history that was deleted by hand.';
comment on trigger receipt_revisions_tell_truncated on inventory.receipt_revisions is
  'Refuses cursors from before history that was truncated.';
comment on trigger feed_events_tell_truncated on inventory.feed_events is 'Refuses cursors from before the deleted events.';
comment on function inventory.feed_id() is
  'Identifies the feed in its cursors. Another database, a failover, a restore, a truncate or vacuum full of inventory.receipts, or a time without the triggers of the feed changes it.';
comment on function inventory.changes_begin() is
  'A cursor for inventory.changes_since: take it, then copy inventory.receipts. The feed tells everything that is written from then on, and perhaps some of what was copied.';
comment on function inventory.changed_keys(text, integer) is
  'The keys of inventory.changes_since, with the cursor behind each.';
comment on function inventory.changes_since(text, integer) is
  'Receipts that were written to since a cursor and that no open transaction can still precede, oldest first: at most so many rows (more only where two keys have the same hash). Each row has the cursor behind it; without a row, use the same cursor the next time. change is written (receipt is the row as it is now) or deleted (there is no such row now). Fails if changes since the cursor may be missing.';
comment on function inventory.trim_portion(interval, integer) is
  'One portion of inventory.trim_feed; how many rows it deleted.';
comment on procedure inventory.trim_feed(interval, integer) is
  'Deletes events from inventory.feed_events that are older than an age (null: none; at least a day), except those that totals have not counted yet. Cursors from before them are refused from then on. In portions that are committed one by one.';
comment on function reporting.changes_begin() is
  'A cursor for reporting.changes_since: take it, then copy reporting.receipts.';
comment on function reporting.changes_since(text, integer) is
  'Keys of receipts that were written to since a cursor, oldest first, at most so many; join reporting.receipts to them in the same statement. Each row has the cursor behind it, and cursors sort as text: without a row, use the same cursor the next time. change is written or deleted (there is no such row now). Fails if changes since the cursor may be missing: then copy reporting.receipts again.';

commit;
