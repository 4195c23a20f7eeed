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
    select format('the trigger %s is missing or off', name)
    from unnest(array['receipts_tell_deleted', 'receipts_tell_written', 'receipts_tell_truncated']) as name
    where not exists (
      select
      from pg_trigger
      where tgrelid = 'inventory.receipts'::regclass and tgname = name and tgenabled in ('O', 'A')
    )
    union all
    select format('receiptd_reader may not execute %s, or others may', signature)
    from unnest(
      array['inventory.changes_since(text, integer)', 'inventory.changes_begin()', 'inventory.feed_cluster()']
    ) as signature
    where to_regprocedure(signature) is null
      or not has_function_privilege('receiptd_reader', signature, 'execute')
      or has_function_privilege('public', signature, 'execute')
    union all
    select 'receiptd_reader may not read feed_events, or others may'
    where to_regclass('inventory.feed_events') is not null
      and (
        not has_table_privilege('receiptd_reader', 'inventory.feed_events', 'select')
        or has_table_privilege('receiptd_writer', 'inventory.feed_events', 'select')
      )
    union all
    select format('%s is not security definer, or not with that search_path', proname)
    from pg_proc
    where pronamespace = 'inventory'::regnamespace
      and proname like 'tell\_%'
      and (prosecdef and proconfig = array['search_path=pg_catalog, pg_temp']) is not true
  ) as found (problem);
  if problems is not null then
    raise exception 'feed: %', problems;
  end if;
end
$$;

rollback;
