-- Verify receiptd:totals on pg

begin;

set local search_path = pg_catalog;

do $$
declare
  problems text;
begin
  select string_agg(problem, '; ')
  into problems
  from (
    select format('the view reporting.%s is missing, or belongs to somebody else', name)
    from unnest(array['asns', 'receipts_by_day', 'receipts_by_month', 'cartons', 'reference_numbers']) as name
    where not exists (
      select
      from pg_class
      where oid = to_regclass('reporting.' || name) and relkind = 'v' and relowner = 'receiptd_owner'::regrole
    )
    union all
    select format('the table inventory.%s is missing, belongs to somebody else, or has no comment', name)
    from unnest(array['totals_state', 'totals_by_day', 'totals_by_month', 'totals_by_asn', 'totals_by_number', 'totals_silences']) as name
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
    from unnest(array['totals_state', 'totals_by_day', 'totals_by_month', 'totals_by_asn', 'totals_by_number', 'totals_silences']) as name
    cross join unnest(array['receiptd_reader', 'receiptd_analyst', 'receiptd_writer', 'public']) as role
    where to_regclass('inventory.' || name) is not null
      and (
        has_table_privilege(role, 'inventory.' || name, 'select') <> (role = 'receiptd_reader')
        or has_table_privilege(role, 'inventory.' || name, 'insert, update, delete, truncate')
      )
    union all
    select format('the index inventory.%s is missing', name)
    from unnest(
      array[
        'totals_by_day_day_idx',
        'totals_by_month_month_idx',
        'totals_by_asn_last_received_at_idx',
        'totals_by_number_number_idx',
        'totals_by_number_asn_idx'
      ]
    ) as name
    where not exists (select from pg_index where indexrelid = to_regclass('inventory.' || name) and indisvalid)
    union all
    select format('%s is missing, not security definer, or not with that search_path', signature)
    from unnest(
      array[
        'inventory.time_zones()',
        'inventory.totals_counted_in()',
        'inventory.written_since(bigint)',
        'inventory.fresh_days()',
        'inventory.fresh_by_day()',
        'inventory.fresh_months()',
        'inventory.fresh_by_month()',
        'inventory.fresh_by_asn()',
        'inventory.fresh_by_number()',
        'inventory.refresh_totals()',
        'inventory.silences()',
        'inventory.totals_counted_at()'
      ]
    ) as signature
    where not exists (
      select
      from pg_proc
      where oid = to_regprocedure(signature) and prosecdef and 'search_path=pg_catalog, pg_temp' = any (proconfig)
    )
    union all
    select format('%s may execute %s and should not, or the other way round', role, signature)
    from (
      values
        ('inventory.time_zones()', array[]::text[]),
        ('inventory.totals_counted_in()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.written_since(bigint)', array[]::text[]),
        ('inventory.fresh_days()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.fresh_by_day()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.fresh_months()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.fresh_by_month()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.fresh_by_asn()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.fresh_by_number()', array['receiptd_analyst', 'receiptd_reader']),
        ('inventory.refresh_totals()', array['receiptd_writer']),
        ('inventory.silences()', array['receiptd_writer']),
        ('inventory.totals_counted_at()', array['receiptd_writer'])
    ) as granted (signature, roles)
    cross join unnest(array['receiptd_analyst', 'receiptd_reader', 'receiptd_writer', 'public']) as role
    where to_regprocedure(signature) is not null
      and has_function_privilege(role, signature, 'execute') <> (role = any (roles))
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
