-- Verify receiptd:reporting on pg

begin;

set local search_path = pg_catalog;

do $$
declare
  problems text;
  inlined constant text[] := array['inventory.gtin(text)', 'inventory.is_gtin(bigint)', 'inventory.is_return(text)', 'inventory.is_transfer(text)'];
begin
  select string_agg(problem, '; ')
  into problems
  from (
    select format('the view reporting.%s is missing, or belongs to somebody else', name)
    from unnest(array['receipts', 'receipt_changes', 'rejections']) as name
    where not exists (
      select
      from pg_class
      where oid = to_regclass('reporting.' || name) and relkind = 'v' and relowner = 'receiptd_owner'::regrole
    )
    union all
    select format('the table inventory.%s is missing, or belongs to somebody else', name)
    from unnest(array['warehouses', 'day_zones', 'condition_codes']) as name
    where not exists (
      select
      from pg_class
      where oid = to_regclass('inventory.' || name) and relkind = 'r' and relowner = 'receiptd_owner'::regrole
    )
    union all
    select format('%s may not read %s', role, oid::regclass)
    from pg_class
    cross join unnest(array['receiptd_analyst', 'receiptd_reader']) as role
    where relnamespace = 'reporting'::regnamespace
      and not (has_table_privilege(role, oid, 'select') and has_schema_privilege(role, 'reporting', 'usage'))
    union all
    select format('%s has more than it should on %s', coalesce(rolname, 'public'), pg_class.oid::regclass)
    from pg_class
    cross join aclexplode(relacl) as entry
    left join pg_roles on pg_roles.oid = grantee
    where (
        relnamespace = 'reporting'::regnamespace
        or pg_class.oid in (
          to_regclass('inventory.warehouses'),
          to_regclass('inventory.day_zones'),
          to_regclass('inventory.condition_codes')
        )
      )
      and grantee <> relowner
      and (
        privilege_type = 'SELECT'
        and (
          rolname = 'receiptd_reader'
          or (rolname = 'receiptd_analyst' and relnamespace = 'reporting'::regnamespace)
        )
      ) is not true
    union all
    select format('%s is missing, belongs to somebody else, has no comment, or cannot be inlined and used in an index', signature)
    from unnest(inlined) as signature
    where not exists (
      select
      from pg_proc
      where oid = to_regprocedure(signature)
        and proowner = 'receiptd_owner'::regrole
        and provolatile = 'i'
        and prosqlbody is not null
        and proconfig is null
        and not proisstrict
        and not prosecdef
        and obj_description(oid, 'pg_proc') is not null
    )
    union all
    select format('%s may execute %s and should not, or the other way round', role, signature)
    from unnest(inlined) as signature
    cross join unnest(array['receiptd_analyst', 'receiptd_reader', 'receiptd_writer', 'public']) as role
    where to_regprocedure(signature) is not null
      and has_function_privilege(role, signature, 'execute') <> (role <> 'public')
    union all
    select 'receiptd_analyst may use the schema inventory'
    where has_schema_privilege('receiptd_analyst', 'inventory', 'usage')
    union all
    select 'public may use the schema reporting'
    where has_schema_privilege('public', 'reporting', 'usage')
    union all
    select format('%s.%s has no comment', attrelid::regclass, attname)
    from pg_attribute
    join pg_class on pg_class.oid = attrelid
    where (
        relnamespace = 'reporting'::regnamespace
        or attrelid in (to_regclass('inventory.warehouses'), to_regclass('inventory.condition_codes'))
      )
      and relkind in ('v', 'r')
      and attnum > 0
      and not attisdropped
      -- Others are a DBA's own.
      and (
        relkind = 'v' or attname in ('to_identifier', 'name', 'time_zone', 'day_zone', 'initial_condition', 'meaning')
      )
      and (col_description(attrelid, attnum) is null or obj_description(attrelid, 'pg_class') is null)
    union all
    select 'reporting.receipt_changes is no security barrier: functions of an analyst''s own see what it leaves out'
    where not exists (
      select
      from pg_class
      where oid = to_regclass('reporting.receipt_changes') and reloptions @> array['security_barrier=true']
    )
    union all
    select format('%s shows %s', attrelid::regclass, attname)
    from pg_attribute
    join pg_class on pg_class.oid = attrelid
    where relnamespace = 'reporting'::regnamespace
      and attname in ('ot_user_login', 'extra', 'body', 'errors', 'api_key_name', 'sender_headers', 'revised_request_id', 'changed_by')
  ) as found (problem);
  if problems is not null then
    raise exception 'reporting: %', problems;
  end if;
end
$$;

rollback;
