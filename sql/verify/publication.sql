-- Verify receiptd:publication on pg

begin;

set local search_path = pg_catalog;

do $$
declare
  problems text;
begin
  if current_setting('server_version_num')::integer < 150000
    or not has_database_privilege('receiptd_owner', current_database(), 'create')
  then
    return;
  end if;
  -- As text, since older releases have no such column.
  execute $query$
    select string_agg(problem, '; ')
    from (
      select 'there is no publication receiptd_receipts of inventory.receipts, or it is somebody else''s' as problem
      where not exists (
        select
        from pg_publication as p
        join pg_publication_rel as r on r.prpubid = p.oid
        where p.pubname = 'receiptd_receipts'
          and p.pubowner = 'receiptd_owner'::regrole
          and r.prrelid = 'inventory.receipts'::regclass
      )
      union all
      select format('it shows %s', name)
      from pg_publication_tables
      cross join lateral unnest(attnames) as name
      where pubname = 'receiptd_receipts' and name in ('ot_user_login', 'extra')
      union all
      select 'it shows ' || schemaname || '.' || tablename
      from pg_publication_tables
      where pubname = 'receiptd_receipts' and (schemaname, tablename) <> ('inventory', 'receipts')
    ) as found
  $query$
  into problems;
  if problems is not null then
    raise exception 'publication: %', problems;
  end if;
end
$$;

rollback;
