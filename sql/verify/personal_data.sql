-- Verify receiptd:personal_data on pg

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
        'inventory.is_erased(text)',
        'inventory.keep_erased()',
        'inventory.pattern_of(text,boolean)',
        'inventory.erase_person(text)',
        'inventory.purge_portion(interval,interval,integer)',
        'inventory.purge(interval,interval,integer)'
      ]
    ) as signature
    where to_regprocedure(signature) is null or has_function_privilege('public', to_regprocedure(signature), 'execute')
    union all
    select 'receiptd_writer may not execute is_erased, or not with its owner''s rights'
    where not exists (
      select
      from pg_proc
      where oid = to_regprocedure('inventory.is_erased(text)')
        and prosecdef
        and has_function_privilege('receiptd_writer', oid, 'execute')
    )
    union all
    select 'receiptd_purger may not purge, or more than that'
    where not exists (
        select
        from pg_proc
        where oid = to_regprocedure('inventory.purge_portion(interval,interval,integer)')
          and prosecdef
          and has_function_privilege('receiptd_purger', oid, 'execute')
          and has_function_privilege('receiptd_purger', to_regprocedure('inventory.purge(interval,interval,integer)'), 'execute')
      )
      or has_table_privilege('receiptd_purger', 'inventory.receipts', 'select, insert, update, delete')
    union all
    select 'the trigger receipts_keep_erased is missing, or off though somebody was erased'
    where not exists (
      select
      from pg_trigger
      where tgrelid = 'inventory.receipts'::regclass
        and tgname = 'receipts_keep_erased'
        and (tgenabled = 'O' or not exists (select from inventory.erased_people))
    )
    union all
    select 'somebody may read erased_people'
    where has_table_privilege('receiptd_reader', 'inventory.erased_people', 'select')
      or has_table_privilege('receiptd_writer', 'inventory.erased_people', 'select')
  ) as found (problem);
  if problems is not null then
    raise exception 'personal_data: %', problems;
  end if;
end
$$;

rollback;
