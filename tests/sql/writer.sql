-- The service's own session: its settings, what it may do, and what it may not.

\connect - receiptd_writer
\set ON_ERROR_STOP on

begin;

-- Before pgTAP's schema is put on the search_path.
create temp table setting as
select name, current_setting(name) as value
from unnest(array[
  'search_path', 'synchronous_commit', 'default_transaction_isolation', 'lock_timeout', 'statement_timeout',
  'idle_in_transaction_session_timeout', 'plan_cache_mode', 'enable_seqscan', 'enable_hashjoin', 'enable_mergejoin',
  'jit', 'client_min_messages'
]) as name;

set local search_path = inventory, tap;
set local test.program = 'writer';
\ir include/deliver.psql

select plan(62);

select is(session_user::text, 'receiptd_writer', 'this is the writer');

select is(value, expected, name || ' is ' || expected)
from (
  values
    ('search_path', 'inventory'),
    ('synchronous_commit', 'on'),
    ('default_transaction_isolation', 'read committed'),
    ('lock_timeout', '250ms'),
    ('statement_timeout', '3s'),
    ('idle_in_transaction_session_timeout', '15s'),
    ('plan_cache_mode', 'force_generic_plan'),
    ('enable_seqscan', 'off'),
    ('enable_hashjoin', 'off'),
    ('enable_mergejoin', 'off'),
    ('jit', 'off'),
    ('client_min_messages', 'warning')
) as expected (name, expected)
left join setting using (name);

-- What it does

select is(
  pg_temp.deliver('{"request": 1, "unit_identifier": "U1"}', '{"request": 2, "unit_identifier": "U2"}'),
  '{created,created}',
  'it stores receipts'
);
select is(
  pg_temp.deliver('{"request": 3, "unit_identifier": "U1", "sku": "S2"}', '{"request": 4, "unit_identifier": "U2"}'),
  '{revised,unchanged}',
  'it revises them, though it may not write the history itself'
);

create function pg_temp.explain(statement text) returns setof text language plpgsql as $$
begin
  return query execute 'explain (costs off) ' || statement;
end
$$;
select matches(
  (select string_agg(line, ' ') from pg_temp.explain($$execute lookup_1 ('a', 'b', 'c', null, null, false)$$) as line),
  'Index Scan using receipts_(pkey|unit_identifier_idx) .*= \$[1-3]',
  'it looks up by key with a generic plan, however small the table was when that was made'
);
select matches(
  (
    select string_agg(line, ' ')
    from pg_temp.explain($$
      select r.request_id
      from (values (1, 'a', 'b', 'c'), (2, 'd', 'e', 'f')) as v (i, program_identifier, asn_number, unit_identifier)
      join receipts as r using (program_identifier, asn_number, unit_identifier)
    $$) as line
  ),
  'Nested Loop .*Index Scan using receipts_(pkey|unit_identifier_idx)',
  'it looks up many by key too'
);

-- What it must not do

select throws_ok(statement, '42501', null, 'it may not: ' || statement)
from unnest(array[
  'delete from receipts',
  'truncate receipts cascade',
  'alter table receipts add column more text',
  'alter table receipts drop constraint receipts_pkey cascade',
  'alter table receipts disable trigger receipts_keep_revision',
  'alter table receipts disable trigger receipts_apply_once',
  'drop trigger receipts_apply_once on receipts',
  'select apply_once()',
  'alter function has_revised(uuid, text, text, text) stable',
  'alter table receipts owner to receiptd_writer',
  'create index on receipts (sku)',
  'create trigger more after insert on receipts for each row execute function keep_revision()',
  'drop table receipts cascade',
  'comment on table receipts is ''mine''',
  'select from receipt_revisions',
  'insert into receipt_revisions select * from receipt_revisions',
  'insert into receipt_revisions default values',
  'update receipt_revisions set sku = ''S3''',
  'delete from receipt_revisions',
  'truncate receipt_revisions',
  'drop table receipt_revisions',
  'update rejected_receipts set rejection_id = gen_random_uuid()',
  'update rejected_receipts set received_at = now()',
  'update rejected_receipts set api_key_name = ''other''',
  'update rejected_receipts set request_id = gen_random_uuid()',
  'update rejected_receipts set digest = null',
  'update rejected_receipts set sender_headers = null',
  'update rejected_receipts set body = ''''',
  'update rejected_receipts set program_identifier = null',
  'update rejected_receipts set asn_number = null',
  'update rejected_receipts set unit_identifier = null',
  'delete from rejected_receipts',
  'truncate rejected_receipts',
  'alter table rejected_receipts add column more text',
  'alter table rejected_receipts drop constraint rejected_receipts_request_id_key',
  'create index on rejected_receipts (message)',
  'drop index rejected_receipts_unresolved_idx',
  'drop table rejected_receipts',
  'drop schema inventory cascade',
  'create table inventory.more ()',
  'create function inventory.more() returns integer language sql return 1',
  'create schema more',
  'select from sqitch.changes',
  'set role receiptd_owner',
  'grant select on receipt_revisions to public'
]) as statement;

select * from finish();
rollback;
