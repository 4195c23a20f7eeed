-- Verify receiptd:rejected_receipts on pg
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
      ('rejection_id', 'uuid not null default gen_random_uuid()'),
      ('received_at', 'timestamp with time zone not null default now()'),
      ('request_id', 'uuid not null'),
      ('api_key_name', 'text not null'),
      ('status', 'smallint not null'),
      ('message', 'text not null'),
      ('errors', 'jsonb'),
      ('body', 'bytea not null'),
      ('program_identifier', 'text collate "C"'),
      ('asn_number', 'text collate "C"'),
      ('unit_identifier', 'text collate "C"'),
      ('sender_headers', 'jsonb'),
      ('digest', 'uuid'),
      ('deliveries', 'integer not null default 1'),
      ('last_received_at', 'timestamp with time zone not null default now()'),
      ('repeat_request_ids', 'uuid[]'),
      ('resolved_at', 'timestamp with time zone'),
      ('resolution', 'text')
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
    where attrelid = 'inventory.rejected_receipts'::regclass and attnum > 0 and not attisdropped
  ) as actual (name, definition) using (name)
  where actual.definition is distinct from expected.definition;
  if problems is not null then
    raise exception 'rejected_receipts: %', problems;
  end if;

  select string_agg(format('constraint %s is %s', name, coalesce(pg_get_constraintdef(oid), 'missing')), '; ')
  into problems
  from (
    values
      ('rejected_receipts_pkey', 'PRIMARY KEY (rejection_id)'),
      ('rejected_receipts_request_id_key', 'UNIQUE (request_id)'),
      ('rejected_receipts_status_check', 'CHECK ((status = ANY (ARRAY[400, 422])))'),
      ('rejected_receipts_resolution_check', 'CHECK (((resolved_at IS NULL) = (resolution IS NULL)))'),
      ('rejected_receipts_deliveries_check', 'CHECK ((deliveries > 0))')
  ) as expected (name, definition)
  left join pg_constraint on conname = name and conrelid = 'inventory.rejected_receipts'::regclass
  where pg_get_constraintdef(oid) is distinct from definition;
  if problems is not null then
    raise exception 'rejected_receipts: %', problems;
  end if;

  select string_agg(problem, '; ')
  into problems
  from (
    values
      (
        (select relowner from pg_class where oid = 'inventory.rejected_receipts'::regclass)
        = 'receiptd_owner'::regrole,
        'the table does not belong to receiptd_owner'
      ),
      (
        exists (
          select
          from pg_index
          where indrelid = 'inventory.rejected_receipts'::regclass
            and indexrelid = to_regclass('inventory.rejected_receipts_unresolved_idx')
            and indisvalid
            and pg_get_indexdef(indexrelid, 1, true) = 'received_at'
            and pg_get_indexdef(indexrelid, 2, true) = 'rejection_id'
            and pg_get_expr(indpred, indrelid) = '(resolved_at IS NULL)'
        ),
        'there is no index rejected_receipts_unresolved_idx on what is not resolved'
      ),
      (
        exists (
          select
          from pg_trigger
          where tgrelid = 'inventory.rejected_receipts'::regclass
            and tgname = 'rejected_receipts_stamp'
            and tgenabled = 'O'
            and tgfoid = to_regprocedure('inventory.stamp_rejection()')
            -- Before, each row, on insert and update.
            and tgtype = 1 + 2 + 4 + 16
            and tgqual is null
        ),
        'the trigger rejected_receipts_stamp is missing, disabled or another'
      ),
      (
        exists (
          select
          from pg_index
          where indrelid = 'inventory.rejected_receipts'::regclass
            and indexrelid = to_regclass('inventory.rejected_receipts_digest_idx')
            and indisvalid
            and indisunique
            and pg_get_indexdef(indexrelid, 1, true) = 'digest'
            and pg_get_expr(indpred, indrelid)
              = '((resolved_at IS NULL) OR (resolution = ANY (ARRAY[''created''::text, ''revised''::text, ''unchanged''::text, ''superseded''::text])))'
        ),
        'there is no unique index rejected_receipts_digest_idx on what is open or was resolved by a receipt'
      ),
      (
        exists (
          select
          from pg_trigger
          where tgrelid = 'inventory.rejected_receipts'::regclass
            and tgname = 'rejected_receipts_forget_digest'
            and tgenabled in ('O', 'A')
        ),
        'there is no trigger rejected_receipts_forget_digest'
      ),
      (
        has_table_privilege('receiptd_writer', 'inventory.open_rejections', 'select')
        and has_table_privilege('receiptd_reader', 'inventory.open_rejections', 'select')
        and not has_table_privilege('public', 'inventory.open_rejections', 'select'),
        'receiptd_writer and receiptd_reader, and nobody else, may not select from open_rejections'
      ),
      (
        has_function_privilege('receiptd_writer', 'inventory.mark_superseded()', 'execute')
        and not has_function_privilege('public', 'inventory.mark_superseded()', 'execute'),
        'receiptd_writer may not execute mark_superseded()'
      ),
      (
        has_function_privilege('receiptd_writer', 'inventory.is_superseded(timestamptz, text, text, text)', 'execute')
        and has_function_privilege('receiptd_reader', 'inventory.is_superseded(timestamptz, text, text, text)', 'execute')
        and has_function_privilege('receiptd_analyst', 'inventory.is_superseded(timestamptz, text, text, text)', 'execute')
        and not has_function_privilege('public', 'inventory.is_superseded(timestamptz, text, text, text)', 'execute'),
        'receiptd_writer, receiptd_reader and receiptd_analyst, and nobody else, may not execute is_superseded()'
      ),
      (
        has_table_privilege('receiptd_writer', 'inventory.rejected_receipts', 'select')
        and has_table_privilege('receiptd_writer', 'inventory.rejected_receipts', 'insert')
        and (
          select bool_and(has_column_privilege('receiptd_writer', 'inventory.rejected_receipts', name, 'update'))
          from unnest(array[
            'status', 'message', 'errors', 'deliveries', 'last_received_at', 'repeat_request_ids', 'resolved_at', 'resolution'
          ]) as name
        ),
        'receiptd_writer may not select, insert, count repeats and resolve'
      ),
      (
        not has_table_privilege(
          'receiptd_writer', 'inventory.rejected_receipts', 'update, delete, truncate, references, trigger'
        )
        and not exists (
          select
          from pg_attribute
          where attrelid = 'inventory.rejected_receipts'::regclass
            and attnum > 0
            and attname not in (
              'status', 'message', 'errors', 'deliveries', 'last_received_at', 'repeat_request_ids', 'resolved_at', 'resolution'
            )
            and has_column_privilege('receiptd_writer', attrelid, attnum, 'update')
        ),
        'receiptd_writer may change what was received'
      ),
      (
        has_table_privilege('receiptd_reader', 'inventory.rejected_receipts', 'select'),
        'receiptd_reader may not select'
      ),
      (
        not has_table_privilege(
          'receiptd_reader', 'inventory.rejected_receipts', 'insert, update, delete, truncate, references, trigger'
        )
        and not has_any_column_privilege('receiptd_reader', 'inventory.rejected_receipts', 'insert, update, references'),
        'receiptd_reader may do more than select'
      ),
      (
        not has_table_privilege(
          'public', 'inventory.rejected_receipts', 'select, insert, update, delete, truncate, references, trigger'
        )
        and not has_any_column_privilege(
          'public', 'inventory.rejected_receipts', 'select, insert, update, references'
        ),
        'public has privileges on the table'
      ),
      (
        obj_description('inventory.rejected_receipts'::regclass, 'pg_class') <> '',
        'the table has no comment'
      )
  ) as checks (ok, problem)
  where ok is not true;
  if problems is not null then
    raise exception 'rejected_receipts: %', problems;
  end if;
end
$$;

rollback;
