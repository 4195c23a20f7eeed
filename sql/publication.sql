-- A publication of inventory.receipts for logical replication and change data capture, without personal data (ot_user_login,
-- extra, changed_by) and columns of your own: see README.md, "Incremental loads". On demand, since a publication restricts what may be done to the table. As the
-- administrator or receiptd_migrator:
--
--   psql -d inventory -f publication.sql
--
-- Running it again publishes columns that were added since.

\set ON_ERROR_STOP on

begin;

set local role receiptd_owner;
set local search_path = pg_catalog, pg_temp;
set local client_min_messages = warning;

do $$
declare
  columns text;
  identity "char" := (select relreplident from pg_class where oid = 'inventory.receipts'::regclass);
begin
  if not has_database_privilege(current_database(), 'create') then
    raise exception 'receiptd_owner may not create a publication in the database %', current_database()
      using hint = format('grant create on database %I to receiptd_owner;', current_database());
  end if;
  -- PostgreSQL would create it, and refuse every update of the table from then on.
  if identity in ('f', 'n') then
    raise exception 'with replica identity %, this publication would make PostgreSQL refuse every update of inventory.receipts',
      case identity when 'f' then 'full' else 'nothing' end
      using hint = 'alter table inventory.receipts replica identity default; or publish all columns under another name.';
  end if;
  if identity = 'i' and not exists (
    select
    from pg_index
    where indrelid = 'inventory.receipts'::regclass
      and indisreplident
      and not exists (
        select
        from pg_attribute
        where attrelid = indrelid and attnum = any (indkey) and attname in ('ot_user_login', 'extra', 'changed_by')
      )
  ) then
    raise exception 'the replica identity of inventory.receipts is an index on a column that this publication leaves out'
      using hint = 'alter table inventory.receipts replica identity default;';
  end if;

  select string_agg(quote_ident(attname), ', ' order by attnum)
  into columns
  from pg_attribute
  where attrelid = 'inventory.receipts'::regclass
    and attnum > 0
    and not attisdropped
    and attname = any (inventory.field_columns() || inventory.bookkeeping_columns())
    and attname not in ('ot_user_login', 'extra', 'changed_by');
  if exists (select from pg_publication where pubname = 'receiptd_receipts') then
    execute format('alter publication receiptd_receipts set table inventory.receipts (%s)', columns);
  else
    execute format('create publication receiptd_receipts for table inventory.receipts (%s)', columns);
    comment on publication receiptd_receipts is
      'inventory.receipts for change data capture, without personal data (ot_user_login, extra, changed_by).';
  end if;
end
$$;

commit;
