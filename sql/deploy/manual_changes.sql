-- Deploy receiptd:manual_changes to pg
-- requires: moved_fields

begin;

set local role receiptd_owner;

-- What the service did not do, and no row of receipts or receipt_revisions shows. Without content, so that it keeps nothing of a
-- person who is erased. Nobody but the owner writes here, and it has no privilege to grant: a trigger does, as the owner.
create table inventory.manual_changes (
  change_id bigint generated always as identity,
  changed_at timestamptz not null default now(),
  changed_by text not null default session_user,
  table_name text not null,
  operation text not null,
  row_key jsonb,
  changed_columns text[],
  constraint manual_changes_pkey primary key (change_id),
  constraint manual_changes_operation_check check (operation in ('insert', 'update', 'delete', 'truncate'))
);

revoke all on inventory.manual_changes from public;
grant select on inventory.manual_changes to receiptd_reader;

-- The service, or one of its timers, by the role that logged in: not by a setting, which anybody can set. Whoever may act as
-- the owner, a superuser too, is a person. (inventory.apply_once() and inventory.stamp_receipt() say the same, without a call.)
create function inventory.is_manual()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select pg_has_role(session_user, 'receiptd_owner', 'member')
    or not (
      pg_has_role(session_user, 'receiptd_writer', 'member')
      or pg_has_role(session_user, 'receiptd_purger', 'member')
      or pg_has_role(session_user, 'receiptd_totals', 'member')
    )
$$;

-- Of an update that changes nothing of ours, no row: somebody fills a column of their own, or inventory.move_field is at work.
create function inventory.log_change(table_name text, operation text, old_row jsonb, new_row jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  is_history constant boolean := table_name in ('receipts', 'receipt_revisions');
  columns text[];
begin
  -- On a node of a Citus cluster that is not the coordinator.
  if to_regclass('inventory.manual_changes') is null then
    return;
  end if;
  if operation = 'update' then
    columns := array(
      select name
      from jsonb_object_keys(new_row) as name
      where new_row -> name is distinct from old_row -> name
        and (not is_history or name = any (inventory.field_columns() || inventory.bookkeeping_columns()))
      order by name
    );
    if cardinality(columns) = 0
      or (
        is_history
        and columns <@ inventory.field_columns()
        and exists (select from inventory.moved_fields)
        and inventory.content_of(new_row) = inventory.content_of(old_row)
      )
    then
      return;
    end if;
  end if;
  insert into inventory.manual_changes (table_name, operation, row_key, changed_columns)
  select
    $1,
    $2,
    (
      select jsonb_object_agg(a.attname, coalesce(old_row, new_row) -> a.attname::text)
      from pg_index as i
      join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
      where i.indrelid = to_regclass('inventory.' || $1)
        and i.indisprimary
        and coalesce(old_row, new_row) is not null
    ),
    columns;
end
$$;

create function inventory.log_manual_change()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if inventory.is_manual() then
    perform inventory.log_change(tg_argv[0], lower(tg_op), to_jsonb(old), to_jsonb(new));
  end if;
  return null;
end
$$;

revoke all on function
  inventory.is_manual(),
  inventory.log_change(text, text, jsonb, jsonb),
  inventory.log_manual_change()
from public;

comment on table inventory.manual_changes is
  'Changes that neither the service nor a timer made, and when and by whom. A receipt that was inserted or corrected by hand has changed_by and changed_at in receipts or receipt_revisions instead. Written by triggers.';
comment on column inventory.manual_changes.change_id is 'The number of this row. Example: 1';
comment on column inventory.manual_changes.changed_at is 'When it was changed. Example: 2026-11-24 08:30:00.654321+00';
comment on column inventory.manual_changes.changed_by is
  'The login (session_user) that changed it, whatever role it had set. Example: jack';
comment on column inventory.manual_changes.table_name is 'The table in the schema inventory. Example: receipts';
comment on column inventory.manual_changes.operation is 'insert, update, delete or truncate. Example: delete';
comment on constraint manual_changes_operation_check on inventory.manual_changes is 'What can happen to a row.';
comment on column inventory.manual_changes.row_key is
  'The primary key of the row, before; null if the statement is meant. Example: {"asn_number": "SO00001234", "unit_identifier": "123456891011", "program_identifier": "returns"}';
comment on column inventory.manual_changes.changed_columns is
  'The columns that an update changed, without their values. Example: {api_key_name}';
comment on function inventory.is_manual() is
  'Whether the session belongs to a person, that is, its login is not that of the service or of a timer.';
comment on function inventory.log_change(text, text, jsonb, jsonb) is
  'Adds a row to inventory.manual_changes, unless an update changed nothing of ours.';
comment on function inventory.log_manual_change() is
  'After a change: adds a row to inventory.manual_changes, unless the service or a timer made it.';

commit;
