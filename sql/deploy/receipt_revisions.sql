-- Deploy receiptd:receipt_revisions to pg
-- requires: receipts
-- requires: moved_fields
-- requires: manual_changes

begin;

set local role receiptd_owner;

-- No checks: what is copied here has passed those of receipts, perhaps before they were narrowed.
-- A deleted receipt takes its history with it. Were it left behind, a receipt that is delivered again after that would
-- count from 0 again, and could never be revised, because its history would be there already.
create table inventory.receipt_revisions (
  program_identifier text collate "C" not null,
  asn_number text collate "C" not null,
  shipment_identifier text,
  from_identifier text not null,
  from_type text not null,
  to_identifier bigint not null,
  to_type text not null,
  to_original_identifier text not null,
  carton_identifier text,
  reference_type text,
  reference_identifier text,
  reference_alternate_identifier text,
  line_identifier text,
  unit_identifier text collate "C" not null,
  reference_line_identifier text,
  sku text not null,
  upc text,
  serial_number text,
  initial_condition text not null,
  initial_channel text not null,
  return_reason text,
  ot_user_login text not null,
  merchant text,
  concept text,
  asin text,
  tracking_number text,
  location_identifier text,
  client_unit_identifier text,
  reject_reason text,
  extra jsonb,
  revision integer not null,
  request_id uuid,
  api_key_name text not null,
  sender_headers jsonb,
  received_at timestamptz not null,
  replaced_at timestamptz not null default now(),
  replaced_in bigint default pg_current_xact_id()::text::bigint,
  changed_by text,
  changed_at timestamptz,
  constraint receipt_revisions_pkey primary key (program_identifier, asn_number, unit_identifier, revision),
  constraint receipt_revisions_receipts_fkey foreign key (program_identifier, asn_number, unit_identifier)
    references inventory.receipts (program_identifier, asn_number, unit_identifier) on delete cascade
);

-- See receipts_created_in_idx.
create index receipt_revisions_replaced_in_idx on inventory.receipt_revisions (replaced_in);

revoke all on inventory.receipt_revisions from public;
grant select on inventory.receipt_revisions to receiptd_reader;

-- As its owner: whoever may update receipts need not know what it calls.
create function inventory.number_revision()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Only inventory.apply_once() sets this: the owner is erasing a person. The version stays what it was, without the
  -- person: a revision would keep a copy with them.
  if new.revision = -1 then
    new.revision := old.revision;
    perform inventory.log_change('receipts', 'update', to_jsonb(old), to_jsonb(new));
    return new;
  end if;

  if (new.program_identifier, new.asn_number, new.unit_identifier)
    is distinct from (old.program_identifier, old.asn_number, old.unit_identifier)
  then
    raise exception 'the key of a receipt cannot be changed'
      using errcode = 'integrity_constraint_violation',
        hint = 'Insert a receipt with the other key, and delete this one.';
  end if;

  new.revision := old.revision;
  if inventory.content_of(to_jsonb(new)) is distinct from inventory.content_of(to_jsonb(old)) then
    new.revision := old.revision + 1;
    new.revised_request_id := null;
    new.revised_at := now();
    new.changed_by := session_user;
    new.changed_at := now();
  else
    new.changed_by := old.changed_by;
    new.changed_at := old.changed_at;
    perform inventory.log_change('receipts', 'update', to_jsonb(old), to_jsonb(new));
  end if;
  return new;
end
$$;

-- Immutable, which it is not: so PostgreSQL evaluates it when it plans a statement. It plans it again after each change to a
-- table that the statement names. For inventory.keep_revision(), which names both.
create function inventory.content_columns_as_planned()
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return inventory.content_columns();
end
$$;

-- The statement that keeps a version, for the columns that there are.
create function inventory.keep_statement(old_row text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select format(
      'insert into inventory.receipt_revisions (%1$s, revision, request_id, api_key_name, sender_headers, received_at, changed_by, '
        'changed_at) '
        'values (%2$s, %3$s.revision, case when %3$s.revision = 0 then %3$s.request_id else %3$s.revised_request_id end, '
        '%3$s.api_key_name, %3$s.sender_headers, coalesce(%3$s.revised_at, %3$s.received_at), %3$s.changed_by, '
        '%3$s.changed_at)',
      string_agg(quote_ident(name), ', '),
      string_agg(format('%s.%I', old_row, name), ', '),
      old_row
    )
    from unnest(inventory.content_columns()) as name
  );
end
$$;

-- Writes inventory.keep_revision() with the statement spelled out: composed and planned for each version, it made one cost
-- three times as much, and through jsonb a third more. As long as nobody has called this after a change of columns, it is composed.
create function inventory.write_keep_revision()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format(
    $create$
      create or replace function inventory.keep_revision()
      returns trigger
      language plpgsql
      security definer
      set search_path = pg_catalog, pg_temp
      as $function$
      declare
        changes jsonb;
        kept bigint;
      begin
        if new.revision <> old.revision + 1 then
          -- Somebody may set who revised it; that is no revision.
          if new.revision = old.revision and inventory.content_of(to_jsonb(new)) = inventory.content_of(to_jsonb(old)) then
            return null;
          end if;
          raise exception 'a revision of a receipt must count one up: a trigger on inventory.receipts has reset it'
            using errcode = 'triggered_action_exception';
        end if;
        %s
        -- Planned once a session, and again when one of the two tables has changed; the comparison with them is for that.
        if inventory.content_columns_as_planned() = %L::text[]
          and (tg_relid = 'inventory.receipts'::regclass and tg_relid = 'inventory.receipt_revisions'::regclass) is not null
        then
          %s;
        else
          execute inventory.keep_statement('($1)') using old;
        end if;
        get diagnostics kept = row_count;
        if kept <> 1 then
          raise exception 'the version that an update replaces cannot be kept: a trigger or a rule of inventory.receipt_revisions drops it'
            using errcode = 'triggered_action_exception';
        end if;
        return null;
      end
      $function$
    $create$,
    -- Revisions do not pay for moves while no field is moved.
    case
      when exists (select from inventory.moved_fields) then
        $fold$changes := inventory.fold(to_jsonb(old));
        if changes is not null then
          old := jsonb_populate_record(old, changes);
        end if;$fold$
    end,
    inventory.content_columns(),
    inventory.keep_statement('old')
  );
  -- As it is now is as it should be.
  if to_regprocedure('inventory.record_schema(text, text[])') is not null then
    execute $record$ select inventory.record_schema('function', 'inventory.keep_revision()') $record$;
  end if;
end
$$;

-- As its owner, since the service has no privilege on receipt_revisions.
do $$
begin
  perform inventory.write_keep_revision();
end
$$;

revoke all on function
  inventory.number_revision(),
  inventory.keep_revision(),
  inventory.content_columns_as_planned(),
  inventory.keep_statement(text),
  inventory.write_keep_revision()
from public;

-- What rows do not show: receipts and versions that are gone, and versions that are not what they were. (Versions that go with
-- their receipt are not worth a row each.)
create trigger receipts_log_delete
after delete on inventory.receipts
for each row
execute function inventory.log_manual_change('receipts');

create trigger receipts_log_truncate
after truncate on inventory.receipts
for each statement
execute function inventory.log_manual_change('receipts');

create trigger receipt_revisions_log_change
after update or delete on inventory.receipt_revisions
for each row
when (pg_trigger_depth() = 0)
execute function inventory.log_manual_change('receipt_revisions');

create trigger receipt_revisions_log_truncate
after truncate on inventory.receipt_revisions
for each statement
execute function inventory.log_manual_change('receipt_revisions');

-- The service raises revision itself; every other update has it set here.
create trigger receipts_number_revision
before update on inventory.receipts
for each row
when (new.revision is distinct from old.revision + 1)
execute function inventory.number_revision();

create trigger receipts_keep_revision
after update on inventory.receipts
for each row
when (
  new.revision is distinct from old.revision
  or new.revised_request_id is distinct from old.revised_request_id
)
execute function inventory.keep_revision();

comment on function inventory.number_revision() is
  'Before an update of receipts other than the service''s own: counts a correction by hand as a revision, keeps revision free of gaps, and refuses another key.';
comment on function inventory.keep_revision() is
  'After an update of receipts that raised revision: copies the version it replaced into receipt_revisions.';
comment on function inventory.content_columns_as_planned() is
  'inventory.content_columns() as of when a statement was planned.';
comment on function inventory.keep_statement(text) is
  'The statement with which inventory.keep_revision() keeps a version, for the columns that there are.';
comment on function inventory.write_keep_revision() is
  'Writes inventory.keep_revision() for the columns that there are: makes it faster after a column was added or dropped.';
comment on trigger receipts_number_revision on inventory.receipts is
  'Counts a correction by hand as a revision.';
comment on trigger receipts_log_delete on inventory.receipts is 'For inventory.manual_changes.';
comment on trigger receipts_log_truncate on inventory.receipts is 'For inventory.manual_changes.';
comment on trigger receipt_revisions_log_change on inventory.receipt_revisions is 'For inventory.manual_changes.';
comment on trigger receipt_revisions_log_truncate on inventory.receipt_revisions is 'For inventory.manual_changes.';
comment on trigger receipts_keep_revision on inventory.receipts is
  'Keeps the version that an update has replaced.';

comment on table inventory.receipt_revisions is
  'What a receipt said before it was replaced: one row for each version that is no longer the present one, which is in receipts. A receipt with revision 3 has the rows 0, 1 and 2 here. Written by a trigger on receipts and by nothing else; deleting a receipt deletes its history.';
comment on constraint receipt_revisions_receipts_fkey on inventory.receipt_revisions is
  'A deleted receipt takes its history with it.';

-- A field means the same in both tables.
do $$
declare
  field record;
begin
  for field in
    select attname, col_description(attrelid, attnum) as meaning
    from pg_attribute
    where attrelid = 'inventory.receipts'::regclass
      and attnum > 0
      and attname in (
        select attname
        from pg_attribute
        where attrelid = 'inventory.receipt_revisions'::regclass
      )
  loop
    execute format('comment on column inventory.receipt_revisions.%I is %L', field.attname, field.meaning);
  end loop;
end
$$;
comment on column inventory.receipt_revisions.revision is
  'Which version this was: 0 as first received, then 1, 2, ... without a gap. Example: 0';
comment on column inventory.receipt_revisions.request_id is
  'The delivery that brought this version, as answered in X-Request-Id and written to the service''s log; null for a correction by hand. Example: 5f0c2b1e-7a3d-4c58-9a6b-1d2e3f405162';
comment on column inventory.receipt_revisions.api_key_name is
  'The name, in the service''s key file, of the API key with which this version was sent; of a correction by hand: that of the version before it. Example: optoro-2026';
comment on column inventory.receipt_revisions.sender_headers is
  'The headers by which the sender identifies the delivery that brought this version, as in receipts; of a correction by hand: those of the version before it. Example: {"x-optiturn-id": "2f6c1d0a", "x-optiturn-api-version": "1.0.0"}';
comment on column inventory.receipt_revisions.received_at is
  'When this version arrived. Example: 2026-11-23 12:00:00.123456+00';
comment on column inventory.receipt_revisions.replaced_at is
  'When the version that replaced it arrived. Example: 2026-11-24 08:30:00.654321+00';
comment on column inventory.receipt_revisions.replaced_in is
  'The number of the transaction that brought the version after this one, for inventory.changes_since. Example: 123789';
comment on index inventory.receipt_revisions_replaced_in_idx is 'For inventory.changes_since.';
comment on column inventory.receipt_revisions.changed_by is
  'The login (session_user) of the person or program that made this version by hand; null if the service did. Example: jack';
comment on column inventory.receipt_revisions.changed_at is
  'When changed_by did it; null if the service did. Example: 2026-11-24 08:30:00.654321+00';

commit;
