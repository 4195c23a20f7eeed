-- Who owns what, and that nobody has more than they need. The roles themselves try it in writer.sql and reader.sql.

begin;
set local search_path = inventory, tap;

select plan(13);

select schema_owner_is('inventory', 'receiptd_owner');
select is_empty(
  $$
    select pg_class.oid::regclass::text
    from pg_class
    where relnamespace = 'inventory'::regnamespace and relowner <> 'receiptd_owner'::regrole
    union all
    select pg_proc.oid::regprocedure::text
    from pg_proc
    where pronamespace = 'inventory'::regnamespace and proowner <> 'receiptd_owner'::regrole
  $$,
  'everything in the schema belongs to receiptd_owner'
);

-- An empty list of privileges is the default one, which acldefault() shows.
create temp view granted as
select
  object,
  coalesce(rolname, 'public') as grantee,
  lower(privilege_type) as privilege
from (
  select 'schema', coalesce(nspacl, acldefault('n', nspowner)), nspowner
  from pg_namespace
  where nspname = 'inventory'
  union all
  select relname, coalesce(relacl, acldefault('r', relowner)), relowner
  from pg_class
  where relnamespace = 'inventory'::regnamespace and relkind in ('r', 'p', 'v', 'm')
  union all
  select relname || '.' || attname, attacl, relowner
  from pg_class
  join pg_attribute on attrelid = pg_class.oid
  where relnamespace = 'inventory'::regnamespace and attacl is not null
  union all
  select proname || '()', coalesce(proacl, acldefault('f', proowner)), proowner
  from pg_proc
  where pronamespace = 'inventory'::regnamespace
) as object (object, acl, owner)
cross join aclexplode(acl) as entry
left join pg_roles on pg_roles.oid = entry.grantee
where entry.grantee <> object.owner;

select is_empty($$ select * from granted where grantee = 'public' $$, 'public has nothing');
select set_eq(
  'select object::text, grantee::text, privilege from granted',
  $$
    values
      ('schema', 'receiptd_writer', 'usage'),
      ('schema', 'receiptd_reader', 'usage'),
      ('schema', 'receiptd_purger', 'usage'),
      ('schema', 'receiptd_totals', 'usage'),
      ('receipts', 'receiptd_writer', 'select'),
      ('receipts', 'receiptd_writer', 'insert'),
      ('receipts', 'receiptd_writer', 'update'),
      ('receipts', 'receiptd_reader', 'select'),
      ('receipt_revisions', 'receiptd_reader', 'select'),
      ('has_revised()', 'receiptd_writer', 'execute'),
      ('has_replaced()', 'receiptd_writer', 'execute'),
      ('returned_versions', 'receiptd_reader', 'select'),
      ('decline_revision()', 'receiptd_writer', 'execute'),
      ('schema_version()', 'receiptd_writer', 'execute'),
      ('schema_version()', 'receiptd_reader', 'execute'),
      ('rejected_receipts', 'receiptd_writer', 'select'),
      ('rejected_receipts', 'receiptd_writer', 'insert'),
      ('rejected_receipts.status', 'receiptd_writer', 'update'),
      ('rejected_receipts.message', 'receiptd_writer', 'update'),
      ('rejected_receipts.errors', 'receiptd_writer', 'update'),
      ('rejected_receipts.deliveries', 'receiptd_writer', 'update'),
      ('rejected_receipts.last_received_at', 'receiptd_writer', 'update'),
      ('rejected_receipts.repeat_request_ids', 'receiptd_writer', 'update'),
      ('rejected_receipts.resolved_at', 'receiptd_writer', 'update'),
      ('rejected_receipts.resolution', 'receiptd_writer', 'update'),
      ('rejected_receipts', 'receiptd_reader', 'select'),
      ('open_rejections', 'receiptd_writer', 'select'),
      ('open_rejections', 'receiptd_reader', 'select'),
      ('is_superseded()', 'receiptd_writer', 'execute'),
      ('is_superseded()', 'receiptd_reader', 'execute'),
      ('is_superseded()', 'receiptd_analyst', 'execute'),
      ('mark_superseded()', 'receiptd_writer', 'execute'),
      ('warehouses', 'receiptd_reader', 'select'),
      ('day_zones', 'receiptd_reader', 'select'),
      ('condition_codes', 'receiptd_reader', 'select'),
      ('is_gtin()', 'receiptd_analyst', 'execute'),
      ('is_gtin()', 'receiptd_reader', 'execute'),
      ('is_gtin()', 'receiptd_writer', 'execute'),
      ('is_return()', 'receiptd_analyst', 'execute'),
      ('is_return()', 'receiptd_reader', 'execute'),
      ('is_return()', 'receiptd_writer', 'execute'),
      ('is_transfer()', 'receiptd_analyst', 'execute'),
      ('is_transfer()', 'receiptd_reader', 'execute'),
      ('is_transfer()', 'receiptd_writer', 'execute'),
      ('gtin()', 'receiptd_analyst', 'execute'),
      ('gtin()', 'receiptd_reader', 'execute'),
      ('gtin()', 'receiptd_writer', 'execute'),
      ('feed_events', 'receiptd_reader', 'select'),
      ('feed_state', 'receiptd_reader', 'select'),
      ('changed_keys()', 'receiptd_reader', 'execute'),
      ('trim_portion()', 'receiptd_purger', 'execute'),
      ('trim_feed()', 'receiptd_purger', 'execute'),
      ('changes_begin()', 'receiptd_reader', 'execute'),
      ('changes_since()', 'receiptd_reader', 'execute'),
      ('totals_state', 'receiptd_reader', 'select'),
      ('totals_work', 'receiptd_reader', 'select'),
      ('totals_by_date', 'receiptd_reader', 'select'),
      ('totals_by_hour', 'receiptd_reader', 'select'),
      ('totals_by_asn', 'receiptd_reader', 'select'),
      ('totals_by_number', 'receiptd_reader', 'select'),
      ('totals_counted_in()', 'receiptd_analyst', 'execute'),
      ('totals_counted_in()', 'receiptd_reader', 'execute'),
      ('fresh_dates()', 'receiptd_analyst', 'execute'),
      ('fresh_dates()', 'receiptd_reader', 'execute'),
      ('fresh_by_date()', 'receiptd_analyst', 'execute'),
      ('fresh_by_date()', 'receiptd_reader', 'execute'),
      ('find_silences()', 'receiptd_analyst', 'execute'),
      ('find_silences()', 'receiptd_reader', 'execute'),
      ('fresh_by_asn()', 'receiptd_analyst', 'execute'),
      ('fresh_by_asn()', 'receiptd_reader', 'execute'),
      ('fresh_by_number()', 'receiptd_analyst', 'execute'),
      ('fresh_by_number()', 'receiptd_reader', 'execute'),
      ('refresh_totals()', 'receiptd_totals', 'execute'),
      ('refresh_totals_portion()', 'receiptd_totals', 'execute'),
      ('silences()', 'receiptd_writer', 'execute'),
      ('totals_silences', 'receiptd_reader', 'select'),
      ('totals_counted_at()', 'receiptd_writer', 'execute'),
      ('moved_fields', 'receiptd_reader', 'select'),
      ('manual_changes', 'receiptd_reader', 'select'),
      ('field_columns()', 'receiptd_writer', 'execute'),
      ('field_columns()', 'receiptd_reader', 'execute'),
      ('field_columns()', 'receiptd_analyst', 'execute'),
      ('bookkeeping_columns()', 'receiptd_writer', 'execute'),
      ('bookkeeping_columns()', 'receiptd_reader', 'execute'),
      ('unknown_time_zones()', 'receiptd_writer', 'execute'),
      ('unknown_time_zones()', 'receiptd_reader', 'execute'),
      ('schema_objects', 'receiptd_writer', 'select'),
      ('schema_objects', 'receiptd_reader', 'select'),
      ('schema_state', 'receiptd_writer', 'select'),
      ('schema_state', 'receiptd_reader', 'select'),
      ('schema_problems()', 'receiptd_writer', 'execute'),
      ('schema_problems()', 'receiptd_reader', 'execute'),
      ('schema_warnings()', 'receiptd_writer', 'execute'),
      ('schema_warnings()', 'receiptd_reader', 'execute'),
      ('purge()', 'receiptd_purger', 'execute'),
      ('purge_portion()', 'receiptd_purger', 'execute')
  $$,
  'all that is granted is what writer and reader need'
);

select results_eq(
  $$
    select
      rolname::text collate "default",
      rolcanlogin,
      rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls,
      rolconnlimit
    from pg_roles
    where rolname like 'receiptd\_%'
    order by 1
  $$,
  $$
    values
      ('receiptd_analyst', false, false, -1),
      ('receiptd_migrator', true, false, -1),
      ('receiptd_owner', false, false, -1),
      ('receiptd_purger', true, false, -1),
      ('receiptd_reader', false, false, -1),
      ('receiptd_totals', true, false, -1),
      ('receiptd_writer', true, false, 64)
  $$,
  'migrator and writer log in, owner, reader and analyst do not, and none has powers of its own'
);
select is_empty(
  $$ select from pg_authid where rolname like 'receiptd\_%' and rolpassword is not null $$, 'no role has a password'
);
select is_member_of('receiptd_owner', array['receiptd_migrator'], 'the migrator acts as the owner');
select is_empty(
  $$
    select member::regrole, roleid::regrole
    from pg_auth_members
    where member::regrole::text in ('receiptd_writer', 'receiptd_reader', 'receiptd_analyst', 'receiptd_purger', 'receiptd_totals', 'receiptd_owner')
      or roleid = 'receiptd_writer'::regrole
  $$,
  'writer, reader, analyst and owner are members of nothing, and nobody is a member of the writer'
);
select is_empty(
  $$ select from pg_db_role_setting where setrole in ('receiptd_owner'::regrole, 'receiptd_reader'::regrole, 'receiptd_analyst'::regrole) $$,
  'a role that does not log in has no settings, which would have no effect'
);
select results_eq(
  $$
    select unnest(setconfig) collate "default"
    from pg_db_role_setting
    where setrole = 'receiptd_migrator'::regrole
    order by 1
  $$,
  $$ values ('lock_timeout=1s'), ('log_error_verbosity=terse'), ('search_path=inventory') $$,
  'the settings of the migrator'
);
select results_eq(
  $$
    select setrole::regrole::text collate "default"
    from pg_db_role_setting
    where 'log_error_verbosity=terse' = any (setconfig)
    order by 1
  $$,
  $$ values ('receiptd_migrator'), ('receiptd_purger'), ('receiptd_totals'), ('receiptd_writer') $$,
  'no error of theirs puts a row into the server''s log'
);
-- Of a session over a UNIX socket PostgreSQL shows them as 0.
select set_has(
  $$ select unnest(setconfig) collate "default" from pg_db_role_setting where setrole = 'receiptd_writer'::regrole $$,
  $$
    values
      ('tcp_keepalives_idle=10'),
      ('tcp_keepalives_interval=5'),
      ('tcp_keepalives_count=3'),
      ('tcp_user_timeout=25s'),
      ('client_connection_check_interval=5s')
  $$,
  'the server ends sessions of a worker whose host is gone'
);
select is(current_setting('server_encoding'), 'UTF8', 'the database holds any text');

select * from finish();
rollback;
