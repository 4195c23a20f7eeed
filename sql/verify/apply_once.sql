-- Verify receiptd:apply_once on pg

begin;

-- So that definitions are shown with every name qualified.
set local search_path = pg_catalog;

do $$
declare
  problems text;
begin
  select string_agg(problem, '; ')
  into problems
  from (
    values
      (
        exists (
          select
          from pg_trigger
          where tgrelid = 'inventory.receipts'::regclass
            and tgname = 'receipts_apply_once'
            and tgenabled = 'O'
            and tgfoid = 'inventory.apply_once()'::regprocedure
            -- Before, each row, on update (PostgreSQL: pg_trigger.h).
            and tgtype = 1 + 2 + 16
            and tgqual is null
            and tgattr::text = ''
        ),
        'the trigger receipts_apply_once is missing, disabled or another'
      ),
      (
        exists (
          select
          from pg_trigger
          where tgrelid = 'inventory.receipts'::regclass
            and tgname = 'receipts_stamp'
            and tgenabled in ('O', 'A')
            and tgfoid = 'inventory.stamp_receipt()'::regprocedure
            -- Before, each row, on insert.
            and tgtype = 1 + 2 + 4
            and tgqual is null
        ),
        'the trigger receipts_stamp is missing, disabled or another'
      ),
      (
        (
          select prosecdef and provolatile = 'v'
          from pg_proc
          where oid = 'inventory.has_revised(uuid, text, text, text)'::regprocedure
        ),
        'has_revised is not volatile, or does not run as its owner'
      ),
      (
        (
          select prosecdef and provolatile = 'v'
          from pg_proc
          where oid = 'inventory.has_replaced(record, text[])'::regprocedure
        )
        and has_function_privilege('receiptd_writer', 'inventory.has_replaced(record, text[])', 'execute')
        and not has_function_privilege('public', 'inventory.has_replaced(record, text[])', 'execute'),
        'has_replaced is not volatile, does not run as its owner, or is not for receiptd_writer alone'
      ),
      (
        has_table_privilege('receiptd_reader', 'inventory.returned_versions', 'select')
        and not has_table_privilege('public', 'inventory.returned_versions', 'select'),
        'receiptd_reader, and nobody else, may not select from returned_versions'
      ),
      (
        (
          select bool_and(
            proowner = 'receiptd_owner'::regrole
            and case
              when proname in ('has_revised', 'has_replaced', 'write_has_replaced') then coalesce(proconfig, '{}') = array['search_path=pg_catalog, pg_temp']
              -- The two that decide by the role that calls them.
              else proconfig is null and not prosecdef
            end
          )
          from pg_proc
          where pronamespace = 'inventory'::regnamespace and proname in ('has_revised', 'has_replaced', 'write_has_replaced', 'apply_once', 'stamp_receipt')
        ),
        'a function has another owner or search_path than it should'
      ),
      (
        has_function_privilege('receiptd_writer', 'inventory.has_revised(uuid, text, text, text)', 'execute'),
        'receiptd_writer may not execute has_revised'
      ),
      (
        not has_function_privilege('public', 'inventory.has_revised(uuid, text, text, text)', 'execute')
        and not has_function_privilege('public', 'inventory.apply_once()', 'execute')
        and not has_function_privilege('public', 'inventory.stamp_receipt()', 'execute'),
        'public may execute a function'
      ),
      (
        obj_description('inventory.has_revised(uuid, text, text, text)'::regprocedure, 'pg_proc') <> ''
        and obj_description('inventory.apply_once()'::regprocedure, 'pg_proc') <> ''
        and obj_description('inventory.stamp_receipt()'::regprocedure, 'pg_proc') <> '',
        'a function has no comment'
      )
  ) as checks (ok, problem)
  where ok is not true;
  if problems is not null then
    raise exception 'apply_once: %', problems;
  end if;
end
$$;

rollback;
