-- Verify receiptd:feed on pg

begin;

set local search_path = pg_catalog;

do $$
declare
  problems text;
begin
  select string_agg(problem, '; ')
  into problems
  from (
    select 'inventory.feed_events.written_in is not the transaction by default'
    where not exists (
      select
      from pg_attribute
      join pg_attrdef on adrelid = attrelid and adnum = attnum
      where attrelid = to_regclass('inventory.feed_events')
        and attname = 'written_in'
        and atttypid = 'bigint'::regtype
        and pg_get_expr(adbin, adrelid) = '((pg_current_xact_id())::text)::bigint'
    )
    union all
    select 'the index inventory.feed_events_written_in_idx is missing'
    where not exists (select from pg_index where indexrelid = to_regclass('inventory.feed_events_written_in_idx') and indisvalid)
    union all
    select format('the trigger %s is missing, or does not always run', name)
    from (
      values
        ('receipts', 'receipts_stamp'),
        ('receipts', 'receipts_tell_deleted'),
        ('receipts', 'receipts_tell_written'),
        ('receipts', 'receipts_tell_truncated'),
        ('receipt_revisions', 'receipt_revisions_tell_deleted'),
        ('receipt_revisions', 'receipt_revisions_tell_truncated'),
        ('feed_events', 'feed_events_tell_deleted'),
        ('feed_events', 'feed_events_tell_truncated')
    ) as expected (relation, name)
    where not exists (
      select
      from pg_trigger
      where tgrelid = to_regclass('inventory.' || relation) and tgname = name and tgenabled = 'A'
    )
    union all
    select format('%s may not execute %s, or others may', role, signature)
    from (
      values
        ('receiptd_reader', 'inventory.changes_since(text,integer)'),
        ('receiptd_reader', 'inventory.changed_keys(text,integer)'),
        ('receiptd_reader', 'inventory.changes_begin()'),
        ('receiptd_reader', 'reporting.changes_since(text,integer)'),
        ('receiptd_reader', 'reporting.changes_begin()'),
        ('receiptd_analyst', 'reporting.changes_since(text,integer)'),
        ('receiptd_analyst', 'reporting.changes_begin()'),
        ('receiptd_purger', 'inventory.trim_portion(interval,integer)'),
        ('receiptd_purger', 'inventory.trim_feed(interval,integer)')
    ) as expected (role, signature)
    where to_regprocedure(signature) is null
      or not has_function_privilege(role, to_regprocedure(signature), 'execute')
      or has_function_privilege('public', to_regprocedure(signature), 'execute')
    union all
    select format('%s may execute %s', role, signature)
    from unnest(array['public', 'receiptd_writer', 'receiptd_analyst']) as role
    cross join unnest(
      array['inventory.feed_id()', 'inventory.changed_keys(text,integer)', 'inventory.trim_portion(interval,integer)']
    ) as signature
    where has_function_privilege(role, to_regprocedure(signature), 'execute')
    union all
    select format('receiptd_reader may not read %s, or others may', name)
    from unnest(array['feed_events', 'feed_state']) as name
    where not has_table_privilege('receiptd_reader', to_regclass('inventory.' || name), 'select')
      or has_table_privilege('receiptd_writer', to_regclass('inventory.' || name), 'select')
      or has_table_privilege('receiptd_purger', to_regclass('inventory.' || name), 'select, insert, update, delete')
    union all
    select 'inventory.feed_state has no row'
    where not exists (select from inventory.feed_state)
    union all
    select format('%s is not security definer, or not with that search_path', proname)
    from pg_proc
    where (
        pronamespace = 'inventory'::regnamespace
        and (proname like 'tell\_%' or proname in ('feed_id', 'changes_begin', 'changed_keys', 'trim_portion'))
        or pronamespace = 'reporting'::regnamespace and proname like 'changes\_%'
      )
      and (prosecdef and proconfig = array['search_path=pg_catalog, pg_temp']) is not true
  ) as found (problem);
  if problems is not null then
    raise exception 'feed: %', problems;
  end if;
end
$$;

rollback;
