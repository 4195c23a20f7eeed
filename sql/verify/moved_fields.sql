-- Verify receiptd:moved_fields on pg

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
        'inventory.decline_revision(uuid)',
        'inventory.field_columns()',
        'inventory.bookkeeping_columns()',
        'inventory.write_field_columns(text[])',
        'inventory.content_columns()',
        'inventory.fold(jsonb,text)',
        'inventory.content_of(jsonb)',
        'inventory.fold_extra()',
        'inventory.write_fold_trigger()',
        'inventory.move_portion(text,boolean,text[],text[],integer)',
        'inventory.move_field(text,integer)',
        'inventory.columns_changed(text[])',
        'inventory.add_field(text,text[])',
        'inventory.return_field(text,text[])',
        'inventory.remove_field(text)',
        'inventory.end_move(text)'
      ]
    ) as signature
    where to_regprocedure(signature) is null or has_function_privilege('public', to_regprocedure(signature), 'execute')
    union all
    select 'fold_extra does not run as its owner'
    from pg_proc
    where oid = to_regprocedure('inventory.fold_extra()') and not prosecdef
    union all
    select 'receiptd_writer may not execute decline_revision'
    where not has_function_privilege('receiptd_writer', 'inventory.decline_revision(uuid)', 'execute')
    union all
    select 'the trigger receipts_fold_extra is not what moved_fields needs'
    from (
      select
        -- Before, each row, on update: and on insert, while a field returns to extra. None, while no field is moved.
        (select 1 + 2 + 16 + max(case direction when 'extra' then 4 else 0 end) from inventory.moved_fields) as needed,
        (
          select tgtype
          from pg_trigger
          where tgrelid = 'inventory.receipts'::regclass
            and tgname = 'receipts_fold_extra'
            and tgfoid = to_regprocedure('inventory.fold_extra()')
            and tgenabled in ('O', 'A')
        ) as actual
    ) as types
    where needed is distinct from actual
    union all
    select format('%s may write moved_fields, or receiptd_reader may not read it', role)
    from unnest(array['receiptd_reader', 'receiptd_writer', 'public']) as role
    where has_table_privilege(role, 'inventory.moved_fields', 'insert, update, delete, truncate')
      or has_table_privilege(role, 'inventory.moved_fields', 'select') <> (role = 'receiptd_reader')
  ) as found (problem);
  if problems is not null then
    raise exception 'moved_fields: %', problems;
  end if;
end
$$;

rollback;
