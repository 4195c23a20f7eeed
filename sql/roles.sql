-- The roles of receiptd, and their settings. Roles belong to the whole cluster, so an administrator runs this once, before
-- the first deployment. It takes a superuser, or CREATEROLE, as the administrator of a managed PostgreSQL has it:
--
--   psql -d postgres -f roles.sql
--
-- Since PostgreSQL 16, only the administrator that created the roles, or a superuser, may run it again.
--
-- Running it again is harmless: it makes what is missing and puts the settings below back to what stands here.
--
--   receiptd_owner     no login; owns the schema and everything in it
--   receiptd_migrator  logs in to run sqitch; a member of receiptd_owner
--   receiptd_writer    what the service logs in as: may read, insert and update receipts, keep refused deliveries and
--                      mark them as resolved, and nothing else
--   receiptd_reader    no login; reads everything, personal data too: grant receiptd_reader to NAME
--   receiptd_purger    logs in to delete what is old (inventory.purge), and may do nothing else
--   receiptd_totals    logs in to count for reports (inventory.refresh_totals), and may do nothing else
--   receiptd_analyst   no login; grant it to whoever reports: it reads the schema reporting, without personal data
--
-- No password is set here. How those that log in prove who they are is for pg_hba.conf to say; where that is a
-- password, set it with \password receiptd_writer, which keeps it out of the server's log.
--
-- A setting of a role holds for sessions that log in as that very role; neither its members nor "set role" get it, so
-- receiptd_reader and receiptd_analyst have none. That reporting users can write "receipts" instead of
-- "inventory.receipts", and that their questions are not compiled for longer than they then run, are settings of the
-- database, once that is there:
--
--   alter database inventory set search_path = inventory, public;
--   alter database inventory set jit = off;

\set ON_ERROR_STOP on

begin;
-- Without "… is already a member".
set local client_min_messages = warning;

-- "create role" has no "if not exists".
select format('create role %I', name)
from unnest(array['receiptd_owner', 'receiptd_migrator', 'receiptd_writer', 'receiptd_reader', 'receiptd_analyst',
  'receiptd_purger', 'receiptd_totals']) as wanted (name)
where not exists (select from pg_catalog.pg_roles where rolname = name)
\gexec

alter role receiptd_owner nologin;
alter role receiptd_migrator login inherit;
-- Where a commit waits for a standby that is gone, the worker turns away from it, and the session waits on: such
-- sessions must not use up what others need to connect.
alter role receiptd_writer login connection limit 64;
alter role receiptd_reader nologin;
alter role receiptd_analyst nologin;
alter role receiptd_purger login;
alter role receiptd_totals login;

-- Only where it is missing: granting it again is a notice.
select 'grant receiptd_owner to receiptd_migrator'
where not exists (
  select
  from pg_catalog.pg_auth_members
  where roleid = 'receiptd_owner'::regrole and member = 'receiptd_migrator'::regrole
)
\gexec

-- An administrator who is not a superuser creates a database for receiptd_owner, and changes its settings, only as a member.
select 'grant receiptd_owner to current_user'
from pg_catalog.pg_roles
where rolname = current_user and not rolsuper
\gexec

-- receiptd_writer: settings stand here and not in the connection, because pgbouncer drops or refuses those.

alter role receiptd_writer set search_path = inventory;
-- An answer to the sender is a promise: a commit waits until it is on disk (and on the standby, where there is one).
alter role receiptd_writer set synchronous_commit = on;
-- The batch statement relies on seeing a row as it is after waiting for another batch, not as it was before.
alter role receiptd_writer set default_transaction_isolation = 'read committed';
-- A row or table that somebody else has locked must hold up nobody else: a statement that meets it gives up, and the
-- worker stores the others without it. Longer than a batch of another worker's takes to commit (a few ms, with a slow
-- disk some 100 ms), which is worth waiting for.
alter role receiptd_writer set lock_timeout = '250ms';
-- Well below the 10 s that a delivery has (RECEIPTD_DEADLINE_MS): a batch that takes too long is stored in parts, and if one
-- of these takes too long, one by one. A commit that waits for a standby is not subject to it.
alter role receiptd_writer set statement_timeout = '3s';
-- The service leaves no transaction open; one that is left open all the same must not hold its row locks.
alter role receiptd_writer set idle_in_transaction_session_timeout = '15s';
-- One prepared statement per batch size, executed over and over: planning it each time would cost more than it finds.
alter role receiptd_writer set plan_cache_mode = force_generic_plan;
-- The service only ever looks up by key: a plan made while the table was small must not scan it when it is large.
alter role receiptd_writer set enable_seqscan = off;
-- For the same reason: a hash join would read the whole table.
alter role receiptd_writer set enable_hashjoin = off;
-- And so would a merge join.
alter role receiptd_writer set enable_mergejoin = off;
-- Compiling a statement that runs for a millisecond takes longer than running it.
alter role receiptd_writer set jit = off;

-- The warning that a wait for a standby was cancelled has to reach the worker.
alter role receiptd_writer set client_min_messages = warning;
-- The session of a worker whose host is gone, and with it the row locks of a statement, ends within 30 s: keepalives notice it
-- where the session waits for the worker, the timeout where the server has sent something. Over a UNIX socket they mean nothing.
alter role receiptd_writer set tcp_keepalives_idle = 10;
alter role receiptd_writer set tcp_keepalives_interval = 5;
alter role receiptd_writer set tcp_keepalives_count = 3;
alter role receiptd_writer set tcp_user_timeout = '25s';
-- The same while a statement runs or waits for a lock or a standby.
alter role receiptd_writer set client_connection_check_interval = '5s';

-- receiptd_totals: each statement sees what was committed before it, whatever the server's default is.
alter role receiptd_totals set default_transaction_isolation = 'read committed';

-- receiptd_migrator

alter role receiptd_migrator set search_path = inventory;
-- A change that waits for a lock makes every delivery wait behind it: it gives up instead, and is run again later.
alter role receiptd_migrator set lock_timeout = '1s';

-- The DETAIL of an error can show a whole row, and so put personal data into the server's log. Only a superuser may set
-- this, or a role that a superuser has granted the parameter to.
select
  has_parameter_privilege('log_error_verbosity', 'set') as may_set,
  current_setting('log_error_verbosity') = 'terse' as is_set
\gset verbosity_
\if :verbosity_may_set
  alter role receiptd_migrator set log_error_verbosity = terse;
  alter role receiptd_writer set log_error_verbosity = terse;
  alter role receiptd_purger set log_error_verbosity = terse;
  alter role receiptd_totals set log_error_verbosity = terse;
\elif :verbosity_is_set
\else
  \warn 'Set log_error_verbosity = terse for the server (parameter group, flags): this role may not set it, and errors can'
  \warn 'put personal data into the server''s log until then.'
\endif

commit;
