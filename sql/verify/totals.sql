-- Verify receiptd:totals on pg

begin;

set local search_path = pg_catalog;

do $$
declare
  problems text;
  tables constant text[] := array['totals_state', 'totals_work', 'totals_by_date', 'totals_by_asn', 'totals_by_number', 'totals_by_hour', 'totals_silences'];
begin
  select string_agg(problem, '; ')
  into problems
  from (
    select format('the view reporting.%s is missing, or belongs to somebody else', name)
    from unnest(array['asns', 'receipts_by_day', 'receipts_by_month', 'cartons', 'reference_numbers', 'silences']) as name
    where not exists (
      select
      from pg_class
      where oid = to_regclass('reporting.' || name) and relkind = 'v' and relowner = 'receiptd_owner'::regrole
    )
    union all
    select format('the table inventory.%s is missing, belongs to somebody else, or has no comment', name)
    from unnest(tables) as name
    where not exists (
      select
      from pg_class
      where oid = to_regclass('inventory.' || name)
        and relkind = 'r'
        and relowner = 'receiptd_owner'::regrole
        and obj_description(oid, 'pg_class') is not null
    )
    union all
    select format('%s has more than it should on inventory.%s, or receiptd_reader may not read it', role, name)
    from unnest(tables) as name
    cross join unnest(array['receiptd_reader', 'receiptd_analyst', 'receiptd_writer', 'receiptd_totals', 'public']) as role
    where to_regclass('inventory.' || name) is not null
      and (
        has_table_privilege(role, 'inventory.' || name, 'select') <> (role = 'receiptd_reader')
        or has_table_privilege(role, 'inventory.' || name, 'insert, update, delete, truncate')
      )
    union all
    select format('the index inventory.%s is missing', name)
    from unnest(
      array[
        'totals_by_date_first_day_idx',
        'totals_by_asn_last_received_at_idx',
        'totals_by_number_number_idx',
        'totals_by_number_asn_idx',
        'totals_by_hour_hour_idx'
      ]
    ) as name
    where not exists (select from pg_index where indexrelid = to_regclass('inventory.' || name) and indisvalid)
    union all
    select 'the trigger warehouses_follow_zones is missing or disabled'
    where not exists (
      select
      from pg_trigger
      where tgrelid = to_regclass('inventory.warehouses') and tgname = 'warehouses_follow_zones' and tgenabled = 'O'
    )
    union all
    select format('%s is missing, not security definer, not with that search_path, or for other roles', signature)
    from (
      values
        ('inventory.totals_cluster()', array[]::text[]),
        ('inventory.totals_until()', array[]::text[]),
        ('inventory.totals_counted_in()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.totals_need_events_from()', array[]::text[]),
        ('inventory.written_since(bigint)', array[]::text[]),
        ('inventory.zones_of_days()', array[]::text[]),
        ('inventory.set_zones()', array[]::text[]),
        ('inventory.fresh_dates(text)', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.count_days(date[])', array[]::text[]),
        ('inventory.fresh_by_date(text)', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.count_asns(text[], text[])', array[]::text[]),
        ('inventory.fresh_by_asn()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.fresh_by_number()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.count_hours(date[])', array[]::text[]),
        ('inventory.find_silences()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.recount_day(date)', array[]::text[]),
        ('inventory.recount_month(date)', array[]::text[]),
        ('inventory.recount_asns(text[], text[])', array[]::text[]),
        ('inventory.begin_totals()', array[]::text[]),
        ('inventory.work_on_totals(integer)', array[]::text[]),
        ('inventory.end_totals()', array[]::text[]),
        ('inventory.refresh_totals_portion(integer)', array['receiptd_totals']),
        ('inventory.follow_zones()', array[]::text[]),
        ('inventory.silences()', array['receiptd_writer']),
        ('inventory.totals_counted_at()', array['receiptd_writer'])
    ) as wanted (signature, roles)
    left join pg_proc on pg_proc.oid = to_regprocedure(signature)
    cross join lateral (
      select bool_or(has_function_privilege(role, pg_proc.oid, 'execute') <> (role = any (roles))) as is_wrong
      from unnest(array['receiptd_analyst', 'receiptd_reader', 'receiptd_writer', 'receiptd_totals', 'public']) as role
    ) as privileges
    where pg_proc.oid is null
      or not prosecdef
      or 'search_path=pg_catalog, pg_temp' <> all (proconfig)
      or proconfig is null
      or is_wrong
    union all
    select 'the procedure inventory.refresh_totals() is missing, or somebody else than receiptd_totals may call it'
    where to_regprocedure('inventory.refresh_totals()') is null
      or not has_function_privilege('receiptd_totals', to_regprocedure('inventory.refresh_totals()'), 'execute')
      or has_function_privilege('public', to_regprocedure('inventory.refresh_totals()'), 'execute')
    union all
    select 'totals_state has no row'
    where to_regclass('inventory.totals_state') is not null
      and (xpath('/row/n/text()', query_to_xml('select count(*) as n from inventory.totals_state', false, true, '')))[1]::text
        <> '1'
  ) as found (problem);
  if problems is not null then
    raise exception 'totals: %', problems;
  end if;
end
$$;

rollback;
