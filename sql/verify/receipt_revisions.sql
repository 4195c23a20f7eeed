-- Verify receiptd:receipt_revisions on pg
--
-- What must be there; a later change, or a DBA with columns of their own, may have added to it.

begin;

-- So that definitions are shown with every name qualified.
set local search_path = pg_catalog;

do $$
declare
  problems text;
begin
  select string_agg(format('%s is %s', expected.name, coalesce(actual.definition, 'missing')), '; ')
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
      ('revision', 'integer not null'),
      ('request_id', 'uuid'),
      ('api_key_name', 'text not null'),
      ('sender_headers', 'jsonb'),
      ('received_at', 'timestamp with time zone not null'),
      ('replaced_at', 'timestamp with time zone not null default now()'),
      ('replaced_in', 'bigint default ((pg_current_xact_id())::text)::bigint'),
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
      )
    from pg_attribute
    left join pg_collation on pg_collation.oid = attcollation
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid = 'inventory.receipt_revisions'::regclass and attnum > 0 and not attisdropped
  ) as actual (name, definition) using (name)
  where actual.definition is distinct from expected.definition;
  if problems is not null then
    raise exception 'receipt_revisions: %', problems;
  end if;

  select string_agg(format('constraint %s is %s', name, coalesce(pg_get_constraintdef(oid), 'missing')), '; ')
  into problems
  from (
    values
      ('receipt_revisions_pkey', 'PRIMARY KEY (program_identifier, asn_number, unit_identifier, revision)'),
      (
        'receipt_revisions_receipts_fkey',
        'FOREIGN KEY (program_identifier, asn_number, unit_identifier)'
        ' REFERENCES inventory.receipts(program_identifier, asn_number, unit_identifier) ON DELETE CASCADE'
      )
  ) as expected (name, definition)
  left join pg_constraint on conname = name and conrelid = 'inventory.receipt_revisions'::regclass
  where pg_get_constraintdef(oid) is distinct from definition;
  if problems is not null then
    raise exception 'receipt_revisions: %', problems;
  end if;
  select string_agg(problem, '; ')
  into problems
  from (
    values
      (
        (select relowner from pg_class where oid = 'inventory.receipt_revisions'::regclass)
        = 'receiptd_owner'::regrole,
        'the table does not belong to receiptd_owner'
      ),
      (
        exists (
          select
          from pg_index
          join pg_class on pg_class.oid = indexrelid
          join pg_am on pg_am.oid = relam
          where indrelid = 'inventory.receipt_revisions'::regclass
            and indexrelid = to_regclass('inventory.receipt_revisions_replaced_in_idx')
            and amname = 'btree'
            and indisvalid
            and pg_get_indexdef(indexrelid, 1, true) = 'replaced_in'
        ),
        'there is no B-tree index receipt_revisions_replaced_in_idx on replaced_in'
      ),
      (
        exists (
          select
          from pg_trigger
          where tgrelid = 'inventory.receipts'::regclass
            and tgname = 'receipts_number_revision'
            and tgfoid = to_regprocedure('inventory.number_revision()')
            and tgenabled = 'O'
            -- pg_trigger.h: 1 for each row, 2 before, 16 update
            and tgtype = 1 + 2 + 16
            and pg_get_triggerdef(oid) like '%WHEN (%new.revision IS DISTINCT FROM (old.revision + 1)%'
        ),
        'the trigger receipts_number_revision is missing, disabled or not before each update of a row'
      ),
      (
        exists (
          select
          from pg_trigger
          where tgrelid = 'inventory.receipts'::regclass
            and tgname = 'receipts_keep_revision'
            and tgfoid = to_regprocedure('inventory.keep_revision()')
            and tgenabled = 'O'
            and tgtype = 1 + 16
            and pg_get_triggerdef(oid) like '%WHEN (%new.revision IS DISTINCT FROM old.revision%'
        ),
        'the trigger receipts_keep_revision is missing, disabled or not after each update of a row'
      ),
      (
        (
          select bool_and(
            proowner = 'receiptd_owner'::regrole
            and coalesce(proconfig, '{}') = array['search_path=pg_catalog, pg_temp']
            and prosecdef
          )
          from pg_proc
          where pronamespace = 'inventory'::regnamespace and proname in ('keep_revision', 'number_revision')
        ),
        'a trigger function has another owner, search_path or security than it should'
      ),
      (
        not has_function_privilege('public', 'inventory.keep_revision()', 'execute')
        and not has_function_privilege('public', 'inventory.number_revision()', 'execute'),
        'public may execute a trigger function'
      ),
      (
        not has_table_privilege(
          'receiptd_writer',
          'inventory.receipt_revisions',
          'select, insert, update, delete, truncate, references, trigger'
        )
        and not has_any_column_privilege(
          'receiptd_writer', 'inventory.receipt_revisions', 'select, insert, update, references'
        ),
        'receiptd_writer has privileges on the table'
      ),
      (
        has_table_privilege('receiptd_reader', 'inventory.receipt_revisions', 'select'),
        'receiptd_reader may not select'
      ),
      (
        not has_table_privilege(
          'receiptd_reader', 'inventory.receipt_revisions', 'insert, update, delete, truncate, references, trigger'
        )
        and not has_any_column_privilege(
          'receiptd_reader', 'inventory.receipt_revisions', 'insert, update, references'
        ),
        'receiptd_reader may do more than select'
      ),
      (
        not has_table_privilege(
          'public', 'inventory.receipt_revisions', 'select, insert, update, delete, truncate, references, trigger'
        )
        and not has_any_column_privilege(
          'public', 'inventory.receipt_revisions', 'select, insert, update, references'
        ),
        'public has privileges on the table'
      ),
      (
        obj_description('inventory.receipt_revisions'::regclass, 'pg_class') <> ''
        and obj_description('inventory.keep_revision()'::regprocedure, 'pg_proc') <> ''
        and obj_description('inventory.number_revision()'::regprocedure, 'pg_proc') <> '',
        'the table or a trigger function has no comment'
      )
  ) as checks (ok, problem)
  where ok is not true;
  if problems is not null then
    raise exception 'receipt_revisions: %', problems;
  end if;
end
$$;

rollback;
