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
        'inventory.normal_login(text)',
        'inventory.filter_as_planned()',
        'inventory.filter_seed_as_planned()',
        'inventory.filter_mask_as_planned()',
        'inventory.only_addresses_as_planned()',
        'inventory.may_be_erased(text,text,text)',
        'inventory.login_patterns(boolean,text)',
        'inventory.login_of(text,text)',
        'inventory.erased_label(text,text,text)',
        'inventory.without_erased(text,text,text)',
        'inventory.body_without_erased(bytea)',
        'inventory.erased_in(regclass,jsonb)',
        'inventory.keep_erased()',
        'inventory.keep_erased_rejection()',
        'inventory.texts_of(text)',
        'inventory.write_keep_erased()',
        'inventory.take_people()',
        'inventory.enforce_erasure()',
        'inventory.erase_portion(regclass,bigint,bigint,integer)',
        'inventory.erase_totals()',
        'inventory.erase_people(bigint,bigint,bigint,bigint,bigint)',
        'inventory.purge_portion(interval,interval,integer)',
        'inventory.purge(interval,interval,integer)'
      ]
    ) as signature
    where to_regprocedure(signature) is null or has_function_privilege('public', to_regprocedure(signature), 'execute')
    union all
    select format('%s does not work with its owner''s rights', signature)
    from unnest(
      array[
        'inventory.keep_erased()',
        'inventory.keep_erased_rejection()',
        'inventory.take_people()',
        'inventory.enforce_erasure()',
        'inventory.erase_portion(regclass,bigint,bigint,integer)'
      ]
    ) as signature
    where not exists (
      select from pg_proc where oid = to_regprocedure(signature) and prosecdef and proowner = 'receiptd_owner'::regrole
    )
    union all
    select format('inventory.keep_erased() does not look at the column %s', attname)
    from pg_attribute
    where attrelid = 'inventory.receipts'::regclass
      and attname in ('ot_user_login', 'return_reason', 'extra', 'sender_headers')
      and not exists (
        select from pg_proc where oid = to_regprocedure('inventory.keep_erased()') and position('new.' || attname in prosrc) > 0
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
    select format('the trigger %s_keep_erased is missing, or off though somebody was erased', relation)
    from unnest(array['receipts', 'receipt_revisions', 'rejected_receipts']) as relation
    where not exists (
      select
      from pg_trigger
      where tgrelid = to_regclass('inventory.' || relation)
        and tgname = relation || '_keep_erased'
        and (tgenabled = 'O' or not exists (select from inventory.erased_people))
    )
    union all
    select 'inventory.erasure_state does not have its row, or a filter that does not know everybody who was erased'
    where not exists (
      select
      from inventory.erasure_state as s
      where octet_length(s.secret) = 32
        and not exists (
          select
          from inventory.erased_people as p
          where get_bit(s.filter, p.filter_hash & (octet_length(s.filter)::bigint * 8 - 1)) = 0
            or (s.only_addresses and not p.is_address)
        )
    )
    union all
    select 'inventory.people_to_erase is missing, or not unlogged: logins get into the write-ahead log'
    where not exists (
      select from pg_class where oid = to_regclass('inventory.people_to_erase') and relpersistence = 'u'
    )
    union all
    select format('somebody may read or write %s', relation)
    from unnest(array['inventory.erased_people', 'inventory.erasure_state', 'inventory.people_to_erase']) as relation
    cross join unnest(array['receiptd_reader', 'receiptd_writer', 'receiptd_analyst', 'receiptd_purger', 'public']) as role
    where has_table_privilege(role, relation, 'select, insert, update, delete')
  ) as found (problem);
  if problems is not null then
    raise exception 'personal_data: %', problems;
  end if;
end
$$;

rollback;
