-- Verify receiptd:schema on pg

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
        current_setting('server_encoding') = 'UTF8',
        'the database''s encoding is not UTF8'
      ),
      (
        pg_has_role('receiptd_migrator', 'receiptd_owner', 'usage'),
        'receiptd_migrator is not a member of receiptd_owner'
      ),
      (
        (select nspowner from pg_namespace where nspname = 'inventory') = 'receiptd_owner'::regrole,
        'the schema does not belong to receiptd_owner'
      ),
      (
        obj_description('inventory'::regnamespace, 'pg_namespace') <> '',
        'the schema has no comment'
      ),
      (
        has_schema_privilege('receiptd_writer', 'inventory', 'usage'),
        'receiptd_writer may not use the schema'
      ),
      (
        has_schema_privilege('receiptd_reader', 'inventory', 'usage'),
        'receiptd_reader may not use the schema'
      ),
      (
        not has_schema_privilege('receiptd_writer', 'inventory', 'create'),
        'receiptd_writer may create objects in the schema'
      ),
      (
        not has_schema_privilege('receiptd_reader', 'inventory', 'create'),
        'receiptd_reader may create objects in the schema'
      ),
      (
        not has_schema_privilege('public', 'inventory', 'usage')
        and not has_schema_privilege('public', 'inventory', 'create'),
        'public has privileges on the schema'
      )
  ) as checks (ok, problem)
  where ok is not true;

  if problems is not null then
    raise exception 'schema: %', problems;
  end if;
end
$$;

rollback;
