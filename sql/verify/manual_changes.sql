-- Verify receiptd:manual_changes on pg

begin;

set local search_path = pg_catalog;

do $$
declare
  problems text;
begin
  select string_agg(problem, '; ')
  into problems
  from (
    select format('%s is missing, or others may execute it', signature)
    from unnest(
      array[
        'inventory.is_manual()',
        'inventory.log_change(text,text,jsonb,jsonb)',
        'inventory.log_manual_change()'
      ]
    ) as signature
    where to_regprocedure(signature) is null or has_function_privilege('public', to_regprocedure(signature), 'execute')
    union all
    select 'log_manual_change does not run as its owner, or not with that search_path'
    from pg_proc
    where oid = to_regprocedure('inventory.log_manual_change()')
      and (prosecdef and proconfig = array['search_path=pg_catalog, pg_temp']) is not true
    union all
    select format('%s may write manual_changes, or receiptd_reader may not read it', role)
    from unnest(array['receiptd_reader', 'receiptd_writer', 'receiptd_analyst', 'receiptd_purger', 'public']) as role
    where has_table_privilege(role, 'inventory.manual_changes', 'insert, update, delete, truncate')
      or has_table_privilege(role, 'inventory.manual_changes', 'select') <> (role = 'receiptd_reader')
    union all
    select format('the trigger %s is missing or off', name)
    from unnest(
      array[
        'receipts_log_delete',
        'receipts_log_truncate',
        'receipt_revisions_log_change',
        'receipt_revisions_log_truncate',
        'rejected_receipts_log_change',
        'rejected_receipts_log_truncate',
        'warehouses_log_change',
        'condition_codes_log_change'
      ]
    ) as name
    -- Later changes create them with their tables, those of receipts with receipt_revisions.
    where to_regclass('inventory.receipt_revisions') is not null
      and to_regclass('inventory.' || split_part(name, '_log_', 1)) is not null
      and not exists (
        select
        from pg_trigger
        where tgrelid = to_regclass('inventory.' || split_part(name, '_log_', 1))
          and tgname = name
          and tgfoid = to_regprocedure('inventory.log_manual_change()')
          and tgenabled in ('O', 'A')
      )
  ) as found (problem);
  if problems is not null then
    raise exception 'manual_changes: %', problems;
  end if;
end
$$;

rollback;
