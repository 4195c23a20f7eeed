-- Verify receiptd:schema_version on pg

begin;

do $$
declare
  problems text;
begin
  select string_agg(problem, '; ')
  into problems
  from (
    values
      (
        inventory.schema_version() >= 1,
        'the version is less than 1'
      ),
      (
        (
          select
            proowner = 'receiptd_owner'::regrole
            and coalesce(proconfig, '{}') = array['search_path=pg_catalog, pg_temp']
            and btrim(prosrc) = 'select ' || inventory.schema_version()
          from pg_proc
          where oid = 'inventory.schema_version()'::regprocedure
        ),
        'schema_version has another owner, search_path or body than it should'
      ),
      (
        has_function_privilege('receiptd_writer', 'inventory.schema_version()', 'execute')
        and has_function_privilege('receiptd_reader', 'inventory.schema_version()', 'execute')
        and not has_function_privilege('public', 'inventory.schema_version()', 'execute'),
        'others may execute schema_version than should'
      ),
      (
        obj_description('inventory.schema_version()'::regprocedure, 'pg_proc') <> '',
        'schema_version has no comment'
      )
  ) as checks (ok, problem)
  where ok is not true;
  if problems is not null then
    raise exception 'schema_version: %', problems;
  end if;
end
$$;

rollback;
