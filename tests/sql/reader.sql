-- A reporting user's session: a login of its own, which is a member of receiptd_reader.

set test.program = 'reader';
\ir include/deliver.psql
select from pg_temp.deliver('{"request": 1, "unit_identifier": "U1"}');
select from pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "sku": "S2"}');
insert into inventory.rejected_receipts (request_id, api_key_name, status, message, body)
values (pg_temp.request(3), 'test', 400, 'The body is empty.', '');

\connect - reporting
\set ON_ERROR_STOP on

begin;

select count(*) as found from receipts where program_identifier = 'reader' \gset
set local search_path = inventory, tap;

select plan(26);

select is(session_user::text, 'reporting', 'this is a reporting user');
select is(:found, 1, 'it finds receipts without naming the schema');
select results_eq(
  $$ select sku from receipts where program_identifier = 'reader' $$, $$ values ('S2') $$, 'it may read receipts'
);
select results_eq(
  $$ select sku from receipt_revisions where program_identifier = 'reader' $$,
  $$ values ('S123456') $$,
  'it may read receipt_revisions'
);

select results_eq(
  $$ select message collate "default" from rejected_receipts $$,
  $$ values ('The body is empty.') $$,
  'it may read rejected_receipts'
);

select throws_ok(statement, '42501', null, 'it may not: ' || statement)
from unnest(array[
  'insert into receipts select * from receipts',
  'update receipts set sku = ''S3''',
  'select from receipts for update',
  'delete from receipts',
  'truncate receipts cascade',
  'alter table receipts add column more text',
  'drop table receipts cascade',
  'insert into receipt_revisions select * from receipt_revisions',
  'update receipt_revisions set sku = ''S3''',
  'delete from receipt_revisions',
  'truncate receipt_revisions',
  'drop table receipt_revisions',
  'insert into rejected_receipts select * from rejected_receipts',
  'update rejected_receipts set resolved_at = now(), resolution = ''seen''',
  'delete from rejected_receipts',
  'truncate rejected_receipts',
  'drop table rejected_receipts',
  'create table inventory.more ()',
  'create function inventory.more() returns integer language sql as ''select 1''',
  'set role receiptd_owner',
  'set role receiptd_writer'
]) as statement;

select * from finish();
rollback;

\connect - postgres
delete from inventory.receipts where program_identifier = 'reader';
delete from inventory.rejected_receipts;
