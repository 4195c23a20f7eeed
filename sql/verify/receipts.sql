-- Verify receiptd:receipts on pg
--
-- What must be there; a later change, or a DBA with columns of their own, may have added to it.

begin;

-- So that definitions are shown with every name qualified.
set local search_path = pg_catalog;

do $$
declare
  problems text;
begin
  -- A column's type, collation, nullability, default and check.
  select string_agg(
    format(
      '%s is %s with %s', expected.name, coalesce(actual.definition, 'missing'), coalesce(actual.checks, 'no check')
    ),
    '; '
  )
  into problems
  from (
    values
      ('program_identifier', 'text collate "C" not null'),
      ('asn_number', 'text collate "C" not null'),
      ('shipment_identifier', 'text'),
      ('from_identifier', 'text not null'),
      ('from_type', 'text not null'),
      ('to_identifier', 'bigint not null'),
      ('to_type', 'text not null'),
      ('to_original_identifier', 'text not null'),
      ('carton_identifier', 'text'),
      ('reference_type', 'text'),
      ('reference_identifier', 'text'),
      ('reference_alternate_identifier', 'text'),
      ('line_identifier', 'text'),
      ('unit_identifier', 'text collate "C" not null'),
      ('reference_line_identifier', 'text'),
      ('sku', 'text not null'),
      ('upc', 'text'),
      ('serial_number', 'text'),
      ('initial_condition', 'text not null'),
      ('initial_channel', 'text not null'),
      ('return_reason', 'text'),
      ('ot_user_login', 'text not null'),
      ('merchant', 'text'),
      ('concept', 'text'),
      ('asin', 'text'),
      ('tracking_number', 'text'),
      ('location_identifier', 'text'),
      ('client_unit_identifier', 'text'),
      ('reject_reason', 'text'),
      ('extra', 'jsonb'),
      ('revision', 'integer not null default 0'),
      ('request_id', 'uuid not null'),
      ('revised_request_id', 'uuid'),
      ('api_key_name', 'text not null'),
      ('sender_headers', 'jsonb'),
      ('received_at', 'timestamp with time zone not null default now()'),
      ('revised_at', 'timestamp with time zone'),
      ('created_in', 'bigint default ((pg_current_xact_id())::text)::bigint'),
      ('changed_by', 'text'),
      ('changed_at', 'timestamp with time zone')
  ) as expected (name, definition)
  left join (
    select
      attname,
      concat_ws(
        ' ',
        format_type(atttypid, atttypmod),
        case when collname <> 'default' then format('collate %I', collname) end,
        case when attnotnull then 'not null' end,
        'default ' || pg_get_expr(adbin, adrelid),
        case when col_description(attrelid, attnum) is null then 'without a comment' end
      ),
      pg_get_constraintdef(pg_constraint.oid)
    from pg_attribute
    left join pg_collation on pg_collation.oid = attcollation
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    left join pg_constraint on conrelid = attrelid and conname = format('receipts_%s_check', attname)
    where attrelid = 'inventory.receipts'::regclass and attnum > 0 and not attisdropped
  ) as actual (name, definition, checks) using (name)
  where actual.definition is distinct from expected.definition
    or actual.checks is distinct from case
      when expected.name = 'unit_identifier' then 'CHECK ((LEAST(program_identifier, asn_number, unit_identifier) <> ''''::text))'
    end;
  if problems is not null then
    raise exception 'receipts: %', problems;
  end if;

  select string_agg(problem, '; ')
  into problems
  from (
    values
      (
        exists (
          select
          from pg_constraint
          where conrelid = 'inventory.receipts'::regclass
            and conname = 'receipts_pkey'
            and pg_get_constraintdef(oid) = 'PRIMARY KEY (program_identifier, asn_number, unit_identifier)'
        ),
        'the primary key is not (program_identifier, asn_number, unit_identifier)'
      ),
      (
        (select relowner from pg_class where oid = 'inventory.receipts'::regclass) = 'receiptd_owner'::regrole,
        'the table does not belong to receiptd_owner'
      ),
      (
        exists (
          select
          from pg_index
          join pg_class on pg_class.oid = indexrelid
          join pg_am on pg_am.oid = relam
          where indrelid = 'inventory.receipts'::regclass
            and indexrelid = to_regclass('inventory.receipts_received_at_idx')
            and amname = 'btree'
            and indisvalid
            and pg_get_indexdef(indexrelid, 1, true) = 'received_at'
        ),
        'there is no B-tree index receipts_received_at_idx on received_at'
      ),
      (
        exists (
          select
          from pg_index
          where indrelid = 'inventory.receipts'::regclass
            and indexrelid = to_regclass('inventory.receipts_unit_identifier_idx')
            and indisvalid
            and pg_get_indexdef(indexrelid, 1, true) = 'unit_identifier'
        ),
        'there is no index receipts_unit_identifier_idx on unit_identifier'
      ),
      (
        exists (
          select
          from pg_index
          join pg_class on pg_class.oid = indexrelid
          join pg_am on pg_am.oid = relam
          where indrelid = 'inventory.receipts'::regclass
            and indexrelid = to_regclass('inventory.receipts_created_in_idx')
            and amname = 'btree'
            and indisvalid
            and pg_get_indexdef(indexrelid, 1, true) = 'created_in'
        ),
        'there is no B-tree index receipts_created_in_idx on created_in'
      ),
      (
        has_table_privilege('receiptd_writer', 'inventory.receipts', 'select')
        and has_table_privilege('receiptd_writer', 'inventory.receipts', 'insert')
        and has_table_privilege('receiptd_writer', 'inventory.receipts', 'update'),
        'receiptd_writer may not select, insert and update'
      ),
      (
        not has_table_privilege('receiptd_writer', 'inventory.receipts', 'delete, truncate, references, trigger'),
        'receiptd_writer may do more than select, insert and update'
      ),
      (
        has_table_privilege('receiptd_reader', 'inventory.receipts', 'select'),
        'receiptd_reader may not select'
      ),
      (
        not has_table_privilege(
          'receiptd_reader', 'inventory.receipts', 'insert, update, delete, truncate, references, trigger'
        )
        and not has_any_column_privilege('receiptd_reader', 'inventory.receipts', 'insert, update, references'),
        'receiptd_reader may do more than select'
      ),
      (
        not has_table_privilege(
          'public', 'inventory.receipts', 'select, insert, update, delete, truncate, references, trigger'
        )
        and not has_any_column_privilege('public', 'inventory.receipts', 'select, insert, update, references'),
        'public has privileges on the table'
      ),
      (
        obj_description('inventory.receipts'::regclass, 'pg_class') <> '',
        'the table has no comment'
      )
  ) as checks (ok, problem)
  where ok is not true;
  if problems is not null then
    raise exception 'receipts: %', problems;
  end if;
end
$$;

rollback;
