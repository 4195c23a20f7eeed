-- Verify receiptd:schema_problems on pg

begin;

set local search_path = pg_catalog;

do $$
declare
  problems text;
begin
  select string_agg(problem, '; ')
  into problems
  from (
    select format('%s may not execute schema_problems, or may not read what it reads', role)
    from unnest(array['receiptd_writer', 'receiptd_reader']) as role
    where (
      has_function_privilege(role, to_regprocedure('inventory.schema_problems()'), 'execute')
      and has_function_privilege(role, to_regprocedure('inventory.schema_warnings()'), 'execute')
      and has_table_privilege(role, 'inventory.schema_objects', 'select')
      and has_table_privilege(role, 'inventory.schema_state', 'select')
    ) is not true
    union all
    select format('%s may write schema_objects', role)
    from unnest(array['receiptd_writer', 'receiptd_reader', 'public']) as role
    where has_table_privilege(role, 'inventory.schema_objects', 'insert, update, delete, truncate')
      or has_function_privilege(role, 'inventory.record_schema(text, text[])', 'execute')
    union all
    select 'public may execute schema_problems'
    where has_function_privilege('public', to_regprocedure('inventory.schema_problems()'), 'execute')
    union all
    select format('%s runs with the rights of its owner, or without that search_path', oid::regprocedure)
    from pg_proc
    where pronamespace = 'inventory'::regnamespace
      and proname in ('record_schema', 'schema_problems', 'schema_warnings')
      and (not prosecdef and proconfig = array['search_path=pg_catalog, pg_temp', 'quote_all_identifiers=off']) is not true
    union all
    select format('the %s %s is not recorded', kind, name)
    from (
      values
        ('trigger', 'receipts_keep_revision'),
        ('function', 'inventory.keep_revision()'),
        ('column', 'receipts.extra')
    ) as wanted (kind, name)
    where not exists (select from inventory.schema_objects as o where o.kind = wanted.kind and o.name = wanted.name)
  ) as found (problem);
  if problems is not null then
    raise exception 'schema_problems: %', problems;
  end if;
end
$$;

rollback;
