-- Deploy receiptd:publication to pg
-- requires: receipts
-- requires: feed

begin;

set local role receiptd_owner;

-- A publication of some columns takes PostgreSQL 15, and one at all the right to create in the database, which its owner
-- has. Without either there is none, and everything else works.
do $$
declare
  columns text;
begin
  if current_setting('server_version_num')::integer < 150000 then
    raise notice 'publication: there is none before PostgreSQL 15';
    return;
  end if;
  if not has_database_privilege(current_database(), 'create') then
    raise notice 'publication: receiptd_owner may create nothing in this database';
    return;
  end if;
  select string_agg(quote_ident(attname), ', ' order by attnum)
  into columns
  from pg_attribute
  where attrelid = 'inventory.receipts'::regclass
    and attnum > 0
    and not attisdropped
    and attname not in ('ot_user_login', 'extra');
  execute format('create publication receiptd_receipts for table inventory.receipts (%s)', columns);
  comment on publication receiptd_receipts is
    'inventory.receipts for change data capture, without personal data (ot_user_login, extra).';
end
$$;

commit;
