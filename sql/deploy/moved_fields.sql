-- Deploy receiptd:moved_fields to pg
-- requires: receipts

begin;

set local role receiptd_owner;

-- A program that is older than a field keeps its value in extra, a newer one in the column. While both may run, the two mean
-- the same: a row is compared, and kept in the history, with the value in one place. See CONTRIBUTING.md, "A new field".
create table inventory.moved_fields (
  column_name text collate "C" not null,
  path text[] not null,
  direction text not null default 'column',
  moved_at timestamptz,
  constraint moved_fields_pkey primary key (column_name),
  constraint moved_fields_path_check check (cardinality(path) > 0 and array_position(path, null) is null),
  constraint moved_fields_direction_check check (direction in ('column', 'extra', 'returned'))
);
revoke all on inventory.moved_fields from public;
grant select on inventory.moved_fields to receiptd_reader;

-- For a trigger that leaves a receipt as it is, although the service has begun to revise it. The service notes each such
-- revision in receiptd.begun, and looks for those that other people's triggers drop; see write_upsert in fcgi/statements.c.
create function inventory.decline_revision(request_id uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  select set_config('receiptd.begun', replace(current_setting('receiptd.begun', true), request_id || ' ', ''), true)
$$;

-- The one place that says what the content of a receipt is. Any other column is somebody's own, whatever its name and in
-- whichever table: filling it makes no revision. The service reads the list out of the text, so that a schema without this
-- function is no error to it; so the body has to stay one array. inventory.add_field and inventory.remove_field write it again.
create function inventory.field_columns()
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$ select '{program_identifier,asn_number,shipment_identifier,from_identifier,from_type,to_identifier,to_type,to_original_identifier,carton_identifier,reference_type,reference_identifier,reference_alternate_identifier,line_identifier,unit_identifier,reference_line_identifier,sku,upc,serial_number,initial_condition,initial_channel,return_reason,ot_user_login,merchant,concept,asin,tracking_number,location_identifier,client_unit_identifier,reject_reason,extra}'::text[] $$;

-- What else is ours in receipts and receipt_revisions.
create function inventory.bookkeeping_columns()
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$ select '{revision,request_id,revised_request_id,api_key_name,sender_headers,received_at,revised_at,created_in,changed_by,changed_at,replaced_at,replaced_in}'::text[] $$;

create function inventory.write_field_columns(names text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format(
    'create or replace function inventory.field_columns() returns text[] language sql immutable '
      'set search_path = pg_catalog, pg_temp as %L',
    format(' select %L::text[] ', names)
  );
  perform inventory.record_schema('function', 'inventory.field_columns()');
end
$$;

-- Those columns of the content that are there. (If one is missing, the service keeps its values in extra.)
create function inventory.content_columns()
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select r.attname::text
    from pg_attribute as r
    join pg_attribute as h on h.attname = r.attname
    where r.attrelid = 'inventory.receipts'::regclass
      and h.attrelid = 'inventory.receipt_revisions'::regclass
      and r.attnum > 0
      and h.attnum > 0
      and not r.attisdropped
      and not h.attisdropped
      and h.attgenerated = ''
      and r.attname = any (inventory.field_columns())
    order by r.attname
  );
end
$$;

-- The columns of a row, and its extra, that change when values are put in their place; null: none. On the way to the column, a
-- JSON string that is not blank, or a number that is an integer, goes into a text column; an integer in range, as a number or
-- in a string, into a bigint; null and blank mean absent; anything else stays in extra. What extra has wins, also a null: an older program writes there, and leaves the column
-- as it was. On the way back, extra keeps what it has as it was sent. Only with direction `returned`, for comparing, is it
-- written as it was if it came out of a column.
create function inventory.fold(receipt jsonb, only_direction text default null)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  field record;
  extra jsonb := nullif(receipt -> 'extra', 'null');
  before jsonb := nullif(receipt -> 'extra', 'null');
  changes jsonb := '{}';
  held jsonb;
  value jsonb;
  is_absent boolean;
begin
  for field in
    select m.column_name as name, m.path, m.direction, coalesce(a.atttypid = 'bigint'::regtype, false) as is_bigint
    from inventory.moved_fields as m
    left join pg_attribute as a
      on a.attrelid = 'inventory.receipts'::regclass and a.attname = m.column_name and not a.attisdropped
    where case
        when only_direction is null then m.direction <> 'returned'
        when only_direction = 'returned' then m.direction <> 'column'
        else m.direction = only_direction
      end
    order by m.column_name
  loop
    value := extra #> field.path;
    if field.direction <> 'column' and only_direction is distinct from 'returned' then
      held := nullif(receipt -> field.name, 'null');
      if held is not null then
        changes := changes || jsonb_build_object(field.name, null);
      end if;
      if held is not null and value is null then
        for depth in 1 .. cardinality(field.path) - 1 loop
          if extra #> field.path[1:depth] is null then
            extra := jsonb_set(coalesce(extra, '{}'), field.path[1:depth], '{}');
          end if;
        end loop;
        extra := jsonb_set(coalesce(extra, '{}'), field.path, held);
        if extra #> field.path is distinct from held then
          raise exception 'the value of % cannot be put into extra at %: there is another value in its way', field.name, field.path;
        end if;
      end if;
      continue;
    end if;
    is_absent := jsonb_typeof(value) = 'null'
      or (jsonb_typeof(value) = 'string' and value #>> '{}' ~ '^[ \t\n\v\f\r]*$');
    -- So short an exponent costs nothing.
    if field.is_bigint
      and jsonb_typeof(value) = 'string'
      and value #>> '{}' ~ '^[ \t\n\v\f\r]*[-+]?[0-9]{1,100}([.][0-9]{1,100})?([eE][-+]?[0-9]{1,2})?[ \t\n\v\f\r]*$'
    then
      value := to_jsonb(btrim(value #>> '{}', E' \t\n\x0B\f\r')::numeric);
    end if;
    if jsonb_typeof(value) = 'number' and value::numeric = trunc(value::numeric) then
      value := to_jsonb(trunc(value::numeric));
    end if;
    if value is null or (not is_absent and (
      jsonb_typeof(value) not in ('string', 'number')
      or (jsonb_typeof(value) = 'number' and value::text !~ '^-?[0-9]+$')
      or (field.is_bigint and jsonb_typeof(value) = 'string')
      or (field.is_bigint and value::numeric not between -9223372036854775808 and 9223372036854775807)
    )) then
      continue;
    end if;
    if is_absent then
      value := null;
    elsif not field.is_bigint then
      value := to_jsonb(value #>> '{}');
    end if;
    if field.direction = 'column' then
      changes := changes || jsonb_build_object(field.name, value);
    elsif value is not null then
      extra := jsonb_set(extra, field.path, value);
      continue;
    end if;
    -- It is gone from extra, and so are objects that held nothing else.
    extra := extra #- field.path;
    for depth in reverse cardinality(field.path) - 1 .. 1 loop
      if extra #> field.path[1:depth] = '{}' then
        extra := extra #- field.path[1:depth];
      end if;
    end loop;
    extra := nullif(extra, '{}');
  end loop;
  if extra is distinct from before then
    changes := changes || jsonb_build_object('extra', extra);
  end if;
  return nullif(changes, '{}');
end
$$;

-- What a row says, wherever values are: two rows with the same are the same version. A column has forgotten whether a value was
-- sent as an integer, as null, or blank: so from the way back on, that makes no difference in extra either.
create function inventory.content_of(receipt jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  folded jsonb := receipt || coalesce(inventory.fold(receipt), '{}');
begin
  folded := folded || coalesce(inventory.fold(folded, 'returned'), '{}');
  return (
    select jsonb_object_agg(name, folded -> name)
    from unnest(inventory.content_columns()) as name
  );
end
$$;

-- As its owner: whoever may update receipts need not know of the table.
create function inventory.fold_extra()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changes jsonb;
begin
  if tg_op = 'INSERT' then
    -- Where the row is there already, "on conflict" has an older program leave the column alone, so nothing may go there.
    changes := inventory.fold(to_jsonb(new), 'extra');
  else
    if new.revision = old.revision + 1
      and new.revised_request_id is not null
      and inventory.content_of(to_jsonb(new)) = inventory.content_of(to_jsonb(old))
    then
      perform inventory.decline_revision(new.revised_request_id);
      return null;
    end if;
    changes := inventory.fold(to_jsonb(new));
  end if;
  if changes is not null then
    new := jsonb_populate_record(new, changes);
  end if;
  return new;
end
$$;

-- The trigger exists only while a field is moved, so that other deliveries do not pay for it. Its name sorts before
-- receipts_number_revision, which then numbers the row as it will be stored.
create function inventory.write_fold_trigger()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set client_min_messages = warning
as $$
begin
  drop trigger if exists receipts_fold_extra on inventory.receipts;
  if exists (select from inventory.moved_fields where direction = 'extra') then
    create trigger receipts_fold_extra
    before insert or update on inventory.receipts
    for each row
    execute function inventory.fold_extra();
    comment on trigger receipts_fold_extra on inventory.receipts is
      'Moves values from their columns into extra, while a field returns there.';
  elsif exists (select from inventory.moved_fields) then
    create trigger receipts_fold_extra
    before update on inventory.receipts
    for each row
    when (old.extra is not null or new.extra is not null)
    execute function inventory.fold_extra();
    comment on trigger receipts_fold_extra on inventory.receipts is
      'Moves values from extra into their columns, and compares receipts wherever a value is.';
  end if;
  perform inventory.record_schema('trigger', 'receipts_fold_extra');
end
$$;

-- One portion of inventory.move_field, in the order of the key: `portion` rows behind `after`, or those up to `until`. Leaves
-- rows that are locked.
create function inventory.move_portion(
  field text,
  history boolean,
  after text[],
  until text[],
  portion integer,
  out seen bigint,
  out left_behind bigint,
  out reached text[]
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  relation constant text := case when history then 'inventory.receipt_revisions' else 'inventory.receipts' end;
  key constant text := 'program_identifier, asn_number, unit_identifier' || case when history then ', revision' else '' end;
  place constant text := '$1[1], $1[2], $1[3]' || case when history then ', $1[4]::integer' else '' end;
  move inventory.moved_fields;
  assignments text;
begin
  select *
  into move
  from inventory.moved_fields
  where column_name = field and direction <> 'returned';
  if not found then
    raise exception 'no field % is being moved', field
      using errcode = 'invalid_parameter_value', hint = 'See inventory.add_field and inventory.return_field.';
  end if;
  select string_agg(
    format(
      '%1$I = case when locked.changes ? %1$L then (locked.changes ->> %1$L)::%2$s else r.%1$I end',
      m.column_name, format_type(a.atttypid, a.atttypmod)
    ),
    ', '
  )
  into assignments
  from inventory.moved_fields as m
  join pg_attribute as a on a.attrelid = relation::regclass and a.attname = m.column_name and not a.attisdropped;
  execute format(
    $query$
      with page as materialized (
        select
          %2$s,
          case when %3$s is not null then inventory.fold(to_jsonb(r)) is not null else false end as to_move
        from %1$s as r
        where (%2$s) > (%4$s) %9$s
        order by %2$s
        limit case when $2 is null then $3 end
      ), locked as materialized (
        select %2$s, inventory.fold(to_jsonb(r)) as changes
        from %1$s as r
        join page using (%2$s)
        where page.to_move
        for no key update of r skip locked
      ), moved as (
        update %1$s as r
        set
          extra = case when locked.changes ? 'extra' then nullif(locked.changes -> 'extra', 'null') else r.extra end,
          %5$s
        from locked
        where (%6$s) = (%7$s)
        returning 1
      )
      select
        (select count(*) from page),
        (select count(*) from page where to_move) - (select count(*) from moved),
        (select array[%8$s] from page order by %2$s desc limit 1)
    $query$,
    relation,
    key,
    case when move.direction = 'extra' then format('r.%I', field) else format('extra #> %L', move.path) end,
    place,
    assignments,
    'r.' || replace(key, ', ', ', r.'),
    'locked.' || replace(key, ', ', ', locked.'),
    replace(key, 'revision', 'revision::text'),
    case when until is not null then format('and (%s) <= (%s)', key, replace(place, '$1', '$2')) end
  )
  using after, until, portion
  into seen, left_behind, reached;
end
$$;

-- Each portion committed by itself, so that no delivery waits for long; run again, it goes on with what is left. (A procedure
-- that commits cannot have a search_path of its own.)
create procedure inventory.move_field(field text, portion integer default 500)
language plpgsql
as $$
declare
  history boolean;
  after text[];
  pending jsonb; -- portions in which rows were locked: where each begins and ends
  done record;
begin
  foreach history in array array[false, true] loop
    after := array['', '', '', '-1'];
    pending := '[]';
    loop
      commit;
      -- A row that somebody else has just written is read again, not an error.
      set transaction isolation level read committed;
      select * into done from inventory.move_portion(field, history, after, null, portion);
      if done.left_behind > 0 then
        pending := pending || jsonb_build_array(jsonb_build_array(after, done.reached));
      end if;
      exit when done.seen < portion;
      after := done.reached;
    end loop;
    -- Only these again: under load another pass over all would always find some row locked.
    while pending <> '[]' loop
      commit;
      perform pg_catalog.pg_sleep(0.1);
      commit;
      set transaction isolation level read committed;
      select p.*
      into done
      from (
        select
          array(select jsonb_array_elements_text(pending #> '{0,0}')) as after,
          array(select jsonb_array_elements_text(pending #> '{0,1}')) as until
      ) as place,
        inventory.move_portion(field, history, place.after, place.until, portion) as p;
      pending := (pending - 0) || case when done.left_behind > 0 then jsonb_build_array(pending -> 0) else '[]' end;
    end loop;
  end loop;
  update inventory.moved_fields set moved_at = now() where column_name = field;
  commit;
end
$$;

-- Rewrites everything that depends on the columns of both tables, and records it.
create function inventory.columns_changed(variadic names text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform inventory.write_keep_revision();
  perform inventory.write_has_replaced();
  perform inventory.write_fold_trigger();
  perform inventory.write_keep_erased();
  perform inventory.record_schema('column', 'receipts.' || name, 'receipt_revisions.' || name)
  from unnest(names) as name;
end
$$;

create function inventory.add_field(field text, path text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if 2 <> (
    select count(*)
    from pg_attribute
    where attrelid in ('inventory.receipts'::regclass, 'inventory.receipt_revisions'::regclass)
      and attname = field
      and attname <> all (inventory.bookkeeping_columns())
      and attgenerated = ''
      and not attisdropped
  ) then
    raise exception 'there is no column % in both inventory.receipts and inventory.receipt_revisions', field
      using errcode = 'undefined_column';
  end if;
  insert into inventory.moved_fields (column_name, path)
  values (field, path)
  on conflict on constraint moved_fields_pkey do update
  set path = excluded.path, direction = 'column', moved_at = null;
  if field <> all (inventory.field_columns()) then
    perform inventory.write_field_columns(inventory.field_columns() || field);
  end if;
  execute format(
    'comment on column inventory.receipt_revisions.%I is %L',
    field,
    (select col_description(attrelid, attnum) from pg_attribute where attrelid = 'inventory.receipts'::regclass and attname = field)
  );
  perform inventory.columns_changed(field);
end
$$;

-- From the commit of this on nobody can put a value into the column: so it is empty once all rows were moved.
create function inventory.return_field(field text, path text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into inventory.moved_fields (column_name, path, direction)
  values (field, path, 'extra')
  on conflict on constraint moved_fields_pkey do update
  set path = excluded.path, direction = 'extra', moved_at = null;
  perform inventory.columns_changed(field);
end
$$;

create function inventory.remove_field(field text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from inventory.moved_fields where column_name = field and direction = 'extra' and moved_at is not null
  ) then
    raise exception 'the values of % have not all returned to extra', field
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'First select inventory.return_field(...), commit, and call inventory.move_field(...).';
  end if;
  -- In the order in which the service locks them.
  lock table inventory.receipts, inventory.receipt_revisions in access exclusive mode;
  update inventory.moved_fields set direction = 'returned' where column_name = field;
  perform inventory.write_field_columns(array_remove(inventory.field_columns(), field));
  execute format('alter table inventory.receipts drop column %I', field);
  execute format('alter table inventory.receipt_revisions drop column %I', field);
  perform inventory.columns_changed(field);
end
$$;

create function inventory.end_move(field text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from inventory.moved_fields
  where column_name = field and direction <> 'extra' and moved_at is not null;
  if not found then
    raise exception 'there is no field % whose values have all been moved', field
      using errcode = 'object_not_in_prerequisite_state', hint = 'First call inventory.move_field(...).';
  end if;
  perform inventory.columns_changed(field);
end
$$;

revoke all on function
  inventory.decline_revision(uuid),
  inventory.field_columns(),
  inventory.bookkeeping_columns(),
  inventory.write_field_columns(text[]),
  inventory.content_columns(),
  inventory.fold(jsonb, text),
  inventory.content_of(jsonb),
  inventory.fold_extra(),
  inventory.write_fold_trigger(),
  inventory.move_portion(text, boolean, text[], text[], integer),
  inventory.columns_changed(text[]),
  inventory.add_field(text, text[]),
  inventory.return_field(text, text[]),
  inventory.remove_field(text),
  inventory.end_move(text)
from public;
grant execute on function inventory.decline_revision(uuid) to receiptd_writer;
-- For inventory.schema_problems, and for whoever wants to know.
grant execute on function inventory.field_columns(), inventory.bookkeeping_columns() to receiptd_writer, receiptd_reader;
revoke all on procedure inventory.move_field(text, integer) from public;

comment on table inventory.moved_fields is
  'Fields whose values are moved between extra and a column of their own, so that programs with and without the field may run side by side. Normally empty. inventory.end_move deletes a row: with direction column, once no program without the field is left; with direction returned, once the sender no longer sends deliveries from before the return.';
comment on column inventory.moved_fields.column_name is 'The column, of receipts and of receipt_revisions. Example: color';
comment on column inventory.moved_fields.path is 'Where the value is in extra. Example: {to,region}';
comment on constraint moved_fields_path_check on inventory.moved_fields is 'The path leads somewhere.';
comment on column inventory.moved_fields.direction is
  'Where the value belongs: column; extra while the column is about to be dropped; returned once it is dropped. Example: column';
comment on constraint moved_fields_direction_check on inventory.moved_fields is 'These are the states of a move.';
comment on column inventory.moved_fields.moved_at is
  'When inventory.move_field had moved all rows; null: not yet. Example: 2026-11-24 08:30:00.654321+00';
comment on function inventory.decline_revision(uuid) is
  'Called by a trigger of the service that leaves a receipt as it is, so that the service does not take the revision for one that was lost.';
comment on function inventory.field_columns() is
  'The content of a receipt: its fields, and extra. Any other column of receipts or receipt_revisions is bookkeeping or somebody''s own.';
comment on function inventory.bookkeeping_columns() is
  'What receipts and receipt_revisions have besides the content, and receiptd uses.';
comment on function inventory.write_field_columns(text[]) is
  'Writes inventory.field_columns() again, when a field was added or removed.';
comment on function inventory.content_columns() is
  'The columns that make up what a receipt says: those of inventory.field_columns() that receipts and receipt_revisions both have.';
comment on function inventory.fold(jsonb, text) is
  'The columns of a receipt that change when the values of moved fields are put where inventory.moved_fields says; null: none.';
comment on function inventory.content_of(jsonb) is
  'What a receipt says, with the values of moved fields in their place: the same for two rows of the same content.';
comment on function inventory.fold_extra() is
  'Before an update of receipts: puts the values of moved fields in their place, and leaves the row alone when a delivery differs in nothing else.';
comment on function inventory.write_fold_trigger() is
  'Creates, replaces or drops the trigger receipts_fold_extra, depending on inventory.moved_fields.';
comment on function inventory.move_portion(text, boolean, text[], text[], integer) is
  'One portion of inventory.move_field: how many rows it looked at, how many it left to those who had locked them, and the key that it reached.';
comment on procedure inventory.move_field(text, integer) is
  'Moves the values of a field that are in the wrong place, in receipts and their history, in portions that are committed one by one, beside the service. No row gets a new version, and the feed reports each of receipts. It may be stopped and run again.';
comment on function inventory.columns_changed(text[]) is
  'For a change that has added or dropped a column of receipts and receipt_revisions: writes the functions that name the columns, and records them.';
comment on function inventory.add_field(text, text[]) is
  'Declares that a column, just added to receipts and receipt_revisions, and a path in extra mean the same. Then call inventory.move_field.';
comment on function inventory.return_field(text, text[]) is
  'Declares that the values of a column belong into extra again. From the commit on the column takes no value. Then call inventory.move_field, and inventory.remove_field.';
comment on function inventory.remove_field(text) is
  'Drops the column of a field from receipts and receipt_revisions, once all of its values have returned to extra.';
comment on function inventory.end_move(text) is
  'Ends the move of a field: from then on a value in extra and the same value in the column are different content.';

commit;
