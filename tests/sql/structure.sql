-- What is in the schema, and that a DBA finds it explained there.

begin;
set local search_path = inventory, tap;
set local test.program = 'structure';
\ir include/deliver.psql

select plan(38);

select tables_are('inventory', array['receipts', 'receipt_revisions', 'rejected_receipts', 'warehouses', 'day_zones', 'condition_codes', 'feed_events', 'feed_state', 'erased_people', 'erasure_state', 'people_to_erase', 'totals_state',
  'totals_work', 'totals_by_date', 'totals_by_asn', 'totals_by_number', 'totals_by_hour', 'totals_silences', 'schema_objects', 'moved_fields', 'manual_changes']);

prepare columns_of (name) as
  select
    (attname || ' ' || format_type(atttypid, atttypmod) || case when attnotnull then ' not null' else '' end)
      collate "default"
  from pg_attribute
  where attrelid = ('inventory.' || $1)::regclass and attnum > 0 and not attisdropped
  order by attnum;

-- A field that the vendor adds has its column behind all others, so order is no matter.
create temp table content as
select concat_ws(' ', name, type, case when required then 'not null' end) as line from field
union all
values ('extra jsonb');

select set_eq(
  'execute columns_of (''receipts'')',
  $$
    select line from content
    union all
    values
      ('revision integer not null'),
      ('request_id uuid not null'),
      ('revised_request_id uuid'),
      ('api_key_name text not null'),
      ('sender_headers jsonb'),
      ('received_at timestamp with time zone not null'),
      ('revised_at timestamp with time zone'),
      ('created_in bigint'),
      ('changed_by text'),
      ('changed_at timestamp with time zone')
  $$,
  'receipts has a column for each of the worker''s fields, and those of the service'
);
select set_eq(
  'execute columns_of (''receipt_revisions'')',
  $$
    select line from content
    union all
    values
      ('revision integer not null'),
      ('request_id uuid'),
      ('api_key_name text not null'),
      ('sender_headers jsonb'),
      ('received_at timestamp with time zone not null'),
      ('replaced_at timestamp with time zone not null'),
      ('replaced_in bigint'),
      ('changed_by text'),
      ('changed_at timestamp with time zone')
  $$,
  'receipt_revisions has the same content, and when it was received and replaced'
);

select results_eq(
  'execute columns_of (''rejected_receipts'')',
  $$
    values
      ('rejection_id uuid not null'),
      ('received_at timestamp with time zone not null'),
      ('request_id uuid not null'),
      ('api_key_name text not null'),
      ('status smallint not null'),
      ('message text not null'),
      ('errors jsonb'),
      ('body bytea not null'),
      ('program_identifier text'),
      ('asn_number text'),
      ('unit_identifier text'),
      ('sender_headers jsonb'),
      ('digest uuid'),
      ('deliveries integer not null'),
      ('last_received_at timestamp with time zone not null'),
      ('repeat_request_ids uuid[]'),
      ('resolved_at timestamp with time zone'),
      ('resolution text')
  $$,
  'rejected_receipts has what was received, why it was refused, and what became of it'
);

select col_default_is('receipts', 'revision', '0', 'revision starts at 0');
select col_default_is('receipts', 'received_at', 'now()', 'received_at is the time of arrival');
select col_default_is(
  'rejected_receipts', 'received_at', 'now()', 'received_at is the time of arrival there too'
);
select col_default_is('rejected_receipts', 'rejection_id', 'gen_random_uuid()', 'rejection_id is given by the table');
select col_is_pk('rejected_receipts', 'rejection_id', 'the key of rejected_receipts');
select col_is_unique('rejected_receipts', 'request_id', 'a refused delivery is kept once');
select col_is_pk('receipts', array['program_identifier', 'asn_number', 'unit_identifier'], 'the key of receipts');
select col_is_pk(
  'receipt_revisions',
  array['program_identifier', 'asn_number', 'unit_identifier', 'revision'],
  'the key of receipt_revisions'
);
select fk_ok(
  'inventory', 'receipt_revisions', array['program_identifier', 'asn_number', 'unit_identifier'],
  'inventory', 'receipts', array['program_identifier', 'asn_number', 'unit_identifier'],
  'a history is always that of a receipt'
);

-- Citus can then distribute both tables by unit_identifier; rejected_receipts is small and stays where it is.
select is_empty(
  $$
    select indexrelid::regclass
    from pg_index
    where indrelid in ('receipts'::regclass, 'receipt_revisions'::regclass)
      and indisunique
      and not exists (
        select
        from pg_attribute
        where attrelid = indrelid and attnum = any (indkey) and attname = 'unit_identifier'
      )
  $$,
  'every unique constraint of receipts and their history contains unit_identifier'
);
select is_empty(
  $$
    select conname
    from pg_constraint
    where connamespace = 'inventory'::regnamespace
      and contype = 'c'
      and not exists (
        select
        from pg_attribute
        where attrelid = conrelid
          and attnum = any (conkey)
          and conname = conrelid::regclass || '_' || attname || '_check'
      )
  $$,
  'a check is named <table>_<column>_check, after one of its columns'
);
select is_empty(
  $$
    select conname
    from pg_constraint
    where connamespace = 'inventory'::regnamespace
      and contype in ('p', 'u', 'x', 'f')
      and conname not in (
        conrelid::regclass || '_pkey',
        conrelid::regclass || '_' || confrelid::regclass || '_fkey',
        conrelid::regclass || '_'
          || (select attname from pg_attribute where attrelid = conrelid and attnum = conkey[1]) || '_key'
      )
  $$,
  'the other constraints are named <table>_pkey, <table>_<table>_fkey and <table>_<column>_key'
);
select results_eq(
  $$
    select attname::text collate "default"
    from pg_attribute
    where attrelid in ('receipts'::regclass, 'receipt_revisions'::regclass, 'rejected_receipts'::regclass)
      and attnum > 0
      and attcollation = '"C"'::regcollation
    order by attrelid, attnum
  $$,
  $$
    select name
    from unnest(array['program_identifier', 'asn_number', 'unit_identifier']) as name, generate_series(1, 3) as copy
    order by copy, array_position(array['program_identifier', 'asn_number', 'unit_identifier'], name)
  $$,
  'the keys are compared byte by byte'
);
select index_is_type('receipts', 'receipts_received_at_idx', 'btree');
select has_index('inventory', 'receipts', 'receipts_received_at_idx', 'received_at', 'the index is on received_at');
select has_index('inventory', 'receipts', 'receipts_unit_identifier_idx', 'unit_identifier', 'one unit is found at once');
select indexes_are(
  'receipts',
  array['receipts_pkey', 'receipts_received_at_idx', 'receipts_unit_identifier_idx', 'receipts_created_in_idx'],
  'no other index makes deliveries slower'
);

select indexes_are(
  'rejected_receipts',
  array[
    'rejected_receipts_pkey',
    'rejected_receipts_request_id_key',
    'rejected_receipts_unresolved_idx',
    'rejected_receipts_digest_idx'
  ],
  'the indexes of rejected_receipts'
);
select has_index(
  'inventory', 'rejected_receipts', 'rejected_receipts_unresolved_idx', array['received_at', 'rejection_id'],
  'what is not resolved is read in the order of arrival'
);

-- Triggers

select triggers_are(
  'receipts',
  array[
    'receipts_number_revision',
    'receipts_keep_revision',
    'receipts_apply_once',
    'receipts_stamp',
    'receipts_log_delete',
    'receipts_log_truncate',
    'receipts_tell_deleted',
    'receipts_tell_written',
    'receipts_tell_truncated',
    'receipts_keep_erased'
  ]
);
select ok(
  array_agg(tgname order by tgname) filter (where tgtype & 2 = 2)
    = array['receipts_apply_once', 'receipts_keep_erased', 'receipts_number_revision']::name[],
  'those before an update go by their names: what is not applied is not counted'
)
from pg_trigger
where tgrelid = 'receipts'::regclass and not tgisinternal and tgtype & 16 = 16;
select triggers_are('receipt_revisions', array[
    'receipt_revisions_keep_erased', 'receipt_revisions_log_change', 'receipt_revisions_log_truncate',
    'receipt_revisions_tell_deleted', 'receipt_revisions_tell_truncated'
  ]::name[]);
select triggers_are(
  'rejected_receipts', array[
    'rejected_receipts_forget_digest', 'rejected_receipts_keep_erased', 'rejected_receipts_stamp',
    'rejected_receipts_log_change', 'rejected_receipts_log_truncate'
  ]::name[]
);
select functions_are(
  'inventory',
  array[
    'number_revision',
    'keep_revision',
    'has_revised',
    'has_replaced',
    'write_has_replaced',
    'forget_digest',
    'is_superseded',
    'mark_superseded',
    'apply_once',
    'stamp_receipt',
    'stamp_rejection',
    'is_manual',
    'log_change',
    'log_manual_change',
    'field_columns',
    'bookkeeping_columns',
    'write_field_columns',
    'schema_version',
    'feed_id',
    'changes_begin',
    'changed_keys',
    'changes_since',
    'tell_trimmed',
    'trim_feed',
    'trim_portion',
    'tell_deleted',
    'tell_written',
    'tell_truncated',
    'normal_login',
    'filter_as_planned',
    'filter_seed_as_planned',
    'filter_mask_as_planned',
    'only_addresses_as_planned',
    'may_be_erased',
    'login_patterns',
    'login_of',
    'erased_label',
    'without_erased',
    'body_without_erased',
    'erased_in',
    'keep_erased',
    'keep_erased_rejection',
    'texts_of',
    'write_keep_erased',
    'take_people',
    'enforce_erasure',
    'erase_portion',
    'erase_totals',
    'erase_people',
    'purge',
    'purge_portion',
    'totals_cluster',
    'totals_until',
    'totals_counted_in',
    'totals_need_events_from',
    'written_since',
    'zones_of_days',
    'set_zones',
    'fresh_dates',
    'count_days',
    'fresh_by_date',
    'count_asns',
    'fresh_by_asn',
    'fresh_by_number',
    'count_hours',
    'find_silences',
    'recount_day',
    'recount_month',
    'recount_asns',
    'begin_totals',
    'work_on_totals',
    'end_totals',
    'refresh_totals_portion',
    'refresh_totals',
    'follow_zones',
    'silences',
    'totals_counted_at',
    'record_schema',
    'schema_problems',
    'schema_warnings',
    'known_time_zone',
    'unknown_time_zones',
    'is_gtin',
    'gtin',
    'is_return',
    'is_transfer',
    'decline_revision',
    'content_columns',
    'content_columns_as_planned',
    'keep_statement',
    'write_keep_revision',
    'fold',
    'content_of',
    'fold_extra',
    'write_fold_trigger',
    'move_portion',
    'move_field',
    'columns_changed',
    'add_field',
    'return_field',
    'remove_field',
    'end_move'
  ]
);
select is_definer('keep_revision', 'the history is written with the rights of its owner');
select is_definer('has_revised', 'and looked up with them');
select is_empty(
  $$
    select proname
    from pg_proc
    where pronamespace = 'inventory'::regnamespace
      -- A procedure that commits cannot have one; the other qualifies each name, since one would cost too much.
      and prokind <> 'p'
      -- These run for every delivery, and qualify each name instead: tests/sql/privileges.sql.
      and proname not in ('apply_once', 'stamp_receipt', 'keep_erased')
      -- Its names were resolved when it was created.
      and prosqlbody is null
      and (proconfig is null or not proconfig @> array['search_path=pg_catalog, pg_temp'])
  $$,
  'no function depends on its caller''s search_path'
);

-- Comments

select is_empty(
  $$
    select format('%s.%s', attrelid::regclass, attname)
    from pg_attribute
    join pg_class on pg_class.oid = attrelid
    where relnamespace = 'inventory'::regnamespace
      and relkind in ('r', 'p', 'v', 'm')
      and attnum > 0
      and not attisdropped
      and coalesce(col_description(attrelid, attnum), '') !~ '\mExample: .'
  $$,
  'every column has a comment with an example'
);
select is_empty(
  $$
    select pg_class.oid::regclass::text
    from pg_class
    where relnamespace = 'inventory'::regnamespace
      and relkind in ('r', 'p', 'v', 'm')
      and coalesce(obj_description(oid, 'pg_class'), '') = ''
    union all
    select pg_proc.oid::regprocedure::text
    from pg_proc
    where pronamespace = 'inventory'::regnamespace and coalesce(obj_description(oid, 'pg_proc'), '') = ''
    union all
    select tgname
    from pg_trigger
    where tgrelid = 'receipts'::regclass
      and not tgisinternal
      and coalesce(obj_description(oid, 'pg_trigger'), '') = ''
    union all
    select 'schema'
    where coalesce(obj_description('inventory'::regnamespace, 'pg_namespace'), '') = ''
  $$,
  'the schema and every table, function and trigger have a comment'
);

create function pg_temp.comment_on(column_name name) returns text language sql as $$
  select col_description(attrelid, attnum)
  from pg_attribute
  where attrelid = 'inventory.receipts'::regclass and attname = column_name
$$;
select matches(pg_temp.comment_on('ot_user_login'), 'PERSONAL DATA', 'personal data is marked');
select matches(
  col_description('rejected_receipts'::regclass, attnum), 'PERSONAL DATA', 'and so is a body, which can hold it'
)
from pg_attribute
where attrelid = 'rejected_receipts'::regclass and attname = 'body';
select matches(pg_temp.comment_on('initial_condition'), 'N, R, A, B, C, X, TT', 'the known conditions are named');
select matches(
  pg_temp.comment_on('reference_type'), 'StockTransferOrder, RA, RMA, ForwardOrder', 'the known references are named'
);
select is_empty(
  $$
    select new.attname
    from pg_attribute as old
    join pg_attribute as new using (attname)
    where old.attrelid = 'receipts'::regclass
      and new.attrelid = 'receipt_revisions'::regclass
      and (old.attname = 'extra' or old.attname in (select name from field))
      and col_description(old.attrelid, old.attnum) is distinct from col_description(new.attrelid, new.attnum)
  $$,
  'a field is explained in the same words in both tables'
);

select * from finish();
rollback;
