-- Who changed something by hand is recorded, and when; what the service did is not.

set search_path = inventory, tap;
set test.program = 'manual';
\ir include/deliver.psql

select plan(31);

create role receiptd_test_service login in role receiptd_writer;
create role jack login;
grant receiptd_owner, receiptd_writer to jack;
create role jill login;
grant usage on schema inventory to jill;
grant select, insert, update on receipts to jill;
grant select, update on rejected_receipts to jill;

-- Runs a statement in a session that has logged in as somebody, with another role set, perhaps.
create function pg_temp.as(login text, statement text, role text default 'none') returns void language plpgsql as $$
begin
  perform set_config('session_authorization', login, true);
  perform set_config('role', role, true);
  execute statement;
  perform set_config('role', 'none', true);
  perform set_config('session_authorization', 'postgres', true);
end
$$;
create function pg_temp.deliver_as(login text, delivery text) returns void language sql as $$
  select pg_temp.as(login, format('select pg_temp.deliver(%L)', delivery))
$$;
create function pg_temp.versions(unit text) returns text[] language sql as $$
  select array_agg(concat_ws(' ', version.revision, version.sku, coalesce(version.changed_by, '-')) order by version.revision)
  from (
    select revision, sku, changed_by from inventory.receipts where program_identifier = 'manual' and unit_identifier = unit
    union all
    select revision, sku, changed_by from inventory.receipt_revisions where program_identifier = 'manual' and unit_identifier = unit
  ) as version
$$;
create function pg_temp.logged() returns setof text language sql as $$
  select concat_ws(' ', changed_by, operation, table_name, coalesce(row_key ->> 'unit_identifier', row_key ->> 'revision', row_key::text), changed_columns)
  from inventory.manual_changes
  where now() - changed_at < interval '1 minute'
  order by change_id
$$;
create function pg_temp.forget() returns void language sql as $$ delete from inventory.manual_changes $$;
select pg_temp.forget() \g /dev/null

-- The service

select pg_temp.deliver_as('receiptd_writer', '{"request": 1, "unit_identifier": "U1", "sku": "S1"}') \g /dev/null
select pg_temp.deliver_as('receiptd_test_service', '{"request": 2, "unit_identifier": "U1", "sku": "S2"}') \g /dev/null
select is(pg_temp.versions('U1'), '{0 S1 -,1 S2 -}', 'the service makes versions under each login that is a member of receiptd_writer');
select pg_temp.as('receiptd_writer', $$
  insert into rejected_receipts (request_id, api_key_name, status, message, body) values (pg_temp.request(90), 'test', 400, 'test', 'x');
  update rejected_receipts set resolved_at = now(), resolution = 'created'
$$) \g /dev/null
select is_empty('select pg_temp.logged()', 'and nothing of it is a change by hand, what reprocess does neither');

-- Corrections

select pg_temp.as('jack', $$ update receipts set sku = 'S3' where program_identifier = 'manual' $$) \g /dev/null
select pg_temp.deliver_as('receiptd_writer', '{"request": 3, "unit_identifier": "U1", "sku": "S4"}') \g /dev/null
select pg_temp.as('jill', $$ update receipts set sku = 'S5' where program_identifier = 'manual' $$) \g /dev/null
select pg_temp.as('jill', $$ update receipts set sku = 'S6', changed_by = 'jack' where program_identifier = 'manual' $$) \g /dev/null
select pg_temp.deliver_as('receiptd_writer', '{"request": 4, "unit_identifier": "U1", "sku": "S7"}') \g /dev/null
select pg_temp.deliver_as('receiptd_writer', '{"request": 5, "unit_identifier": "U1", "sku": "S8"}') \g /dev/null
select is(
  pg_temp.versions('U1'), '{0 S1 -,1 S2 -,2 S3 jack,3 S4 -,4 S5 jill,5 S6 jill,6 S7 -,7 S8 -}',
  'each version is that of who made it, and of the service again after that'
);
select is_empty('select pg_temp.logged()', 'versions record that themselves');
select pg_temp.as('receiptd_writer', $$ update receipts set sku = 'S9' where program_identifier = 'manual' $$) \g /dev/null
select is((pg_temp.versions('U1'))[9], '8 S9 receiptd_writer', 'what is no delivery is by hand, under the service''s login too');
select pg_temp.as('jack', $$ update receipts set sku = 'S10' where program_identifier = 'manual' $$, 'receiptd_writer') \g /dev/null
select is((pg_temp.versions('U1'))[10], '9 S10 jack', 'whatever role is set');
select pg_temp.as('jack', $$
  update receipts set sku = 'S11', revision = revision + 1, revised_request_id = pg_temp.request(80), revised_at = now()
  where program_identifier = 'manual'
$$, 'receiptd_writer') \g /dev/null
select is((pg_temp.versions('U1'))[11], '10 S11 jack', 'and however much it looks like a delivery');
select results_eq(
  $$ select revised_request_id, now() - revised_at < interval '1 minute' from receipts where program_identifier = 'manual' $$,
  $$ values (pg_temp.request(80), true) $$, 'with its time'
);
select pg_temp.as('receiptd_writer', $$
  update receipts set sku = 'S12', revision = revision + 1, revised_request_id = pg_temp.request(81), changed_by = 'jack'
  where program_identifier = 'manual'
$$) \g /dev/null
select is((pg_temp.versions('U1'))[12], '11 S12 -', 'nobody else is blamed');

-- What an analyst sees: that somebody did, not who; and only content.
alter table receipts add column own text default 'x';
alter table receipt_revisions add column own text;
set role receiptd_analyst;
select results_eq(
  $$ select revision, source, field, new_value from reporting.receipt_changes where program_identifier = 'manual' order by revision $$,
  $$
    values
      (1, 'service', 'sku', 'S2'), (2, 'manual', 'sku', 'S3'), (3, 'service', 'sku', 'S4'), (4, 'manual', 'sku', 'S5'),
      (5, 'manual', 'sku', 'S6'), (6, 'service', 'sku', 'S7'), (7, 'service', 'sku', 'S8'), (8, 'manual', 'sku', 'S9'),
      (9, 'manual', 'sku', 'S10'), (10, 'manual', 'sku', 'S11'), (11, 'service', 'sku', 'S12')
  $$,
  'reporting.receipt_changes has whether the service or a person changed it'
);
select is_empty($$ select from reporting.receipt_changes as c where c::text like '%jack%' or c::text like '%jill%' $$, 'and nobody''s name');
reset role;
alter table receipts drop column own;
alter table receipt_revisions drop column own;

select pg_temp.forget() \g /dev/null
select pg_temp.as('jack', $$ update receipts set received_at = received_at - interval '1 day', api_key_name = 'x' where program_identifier = 'manual' $$) \g /dev/null
select results_eq(
  'select pg_temp.logged()', $$ values ('jack update receipts U1 {api_key_name,received_at}') $$, 'what is about a version and not its content'
);
select pg_temp.as('jill', $$ update receipts set received_at = '2020-01-01', api_key_name = 'y' where program_identifier = 'manual' $$) \g /dev/null
select is(count(*), 1::bigint, 'is the owner''s') from pg_temp.logged();
alter table receipts add column own text;
update receipts set own = 'x' where program_identifier = 'manual';
alter table receipts drop column own;
select is(count(*), 1::bigint, 'columns of one''s own are nobody''s business') from pg_temp.logged();

-- Inserted

select pg_temp.forget() \g /dev/null
select pg_temp.as('jack', $$
  insert into receipts select (jsonb_populate_record(r, '{"unit_identifier": "U2", "changed_by": "jill", "received_at": "2020-01-01"}')).* from receipts as r
  where program_identifier = 'manual'
$$) \g /dev/null
select is((pg_temp.versions('U2')), '{11 S12 jack}', 'a row that somebody inserted');
select results_eq(
  $$ select received_at < '2021-01-01', now() - changed_at < interval '1 minute' from receipts where unit_identifier = 'U2' and program_identifier = 'manual' $$,
  $$ values (true, true) $$, 'and when, whatever received_at says'
);
select results_eq(
  $$ select (changed_by is null) = (changed_at is null) from receipt_revisions group by 1 $$, $$ values (true) $$, 'each version has both or none'
);
select pg_temp.as('jill', $$
  insert into receipts select (jsonb_populate_record(r, '{"unit_identifier": "U3", "received_at": "2020-01-01"}')).* from receipts as r
  where unit_identifier = 'U1' and program_identifier = 'manual'
$$) \g /dev/null
select results_eq(
  $$ select revision, changed_by, now() - received_at < interval '1 minute' from receipts where unit_identifier = 'U3' and program_identifier = 'manual' $$,
  $$ values (0, 'jill', true) $$, 'only the owner says when it arrived'
);
select pg_temp.deliver_as('receiptd_writer', '{"request": 7, "unit_identifier": "U2", "sku": "S20"}') \g /dev/null
select is((pg_temp.versions('U2'))[1:2], '{11 S12 jack,12 S20 -}', 'a delivery after that is the service''s');

-- Deleted, and history

select pg_temp.forget() \g /dev/null
select pg_temp.as('jack', $$
  update receipt_revisions set sku = 'other' where revision = 0 and unit_identifier = 'U1' and program_identifier = 'manual';
  update receipt_revisions set sku = 'other' where revision = 0 and unit_identifier = 'U1' and program_identifier = 'manual';
  delete from receipt_revisions where revision = 1 and unit_identifier = 'U1' and program_identifier = 'manual';
  delete from receipts where unit_identifier = 'U1' and program_identifier = 'manual';
$$) \g /dev/null
select results_eq(
  'select pg_temp.logged()',
  $$ values ('jack update receipt_revisions U1 {sku}'), ('jack delete receipt_revisions U1'), ('jack delete receipts U1') $$,
  'changes of the history, and receipts that are gone, which take their history along'
);
select is(row_key ->> 'revision', '0', 'a version by its number') from manual_changes where operation = 'update';
select is_empty($$ select from manual_changes as m where m::text like '%other%' or m::text like '%S1%' $$, 'no content is kept');
select pg_temp.forget() \g /dev/null
select pg_temp.as('jack', $$ update rejected_receipts set resolution = 'a test'; delete from rejected_receipts $$) \g /dev/null
select results_eq(
  $$ select changed_by, operation, changed_columns, row_key ? 'rejection_id' from manual_changes order by change_id $$,
  $$ values ('jack', 'update', '{resolution}'::text[], true), ('jack', 'delete', null, true) $$, 'rejections'
);
select pg_temp.forget() \g /dev/null
select pg_temp.as('jack', $$
  insert into warehouses values (77, 'W', 'UTC'); update warehouses set name = 'V' where to_identifier = 77;
  delete from warehouses where to_identifier = 77; insert into condition_codes values ('x', 'y'); delete from condition_codes where initial_condition = 'x';
$$) \g /dev/null
select results_eq(
  $$ select operation || ' ' || table_name from manual_changes order by change_id $$,
  $$ values ('insert warehouses'), ('update warehouses'), ('delete warehouses'), ('insert condition_codes'), ('delete condition_codes') $$,
  'and what the company fills in'
);
begin;
select pg_temp.forget() \g /dev/null
select pg_temp.as('jack', 'truncate inventory.receipts cascade; truncate inventory.rejected_receipts') \g /dev/null
select set_eq(
  'select pg_temp.logged()',
  $$ values ('jack truncate receipts'), ('jack truncate receipt_revisions'), ('jack truncate rejected_receipts') $$, 'all of it'
);
rollback;
select pg_temp.forget() \g /dev/null
update receipts set received_at = now() - interval '9 days', revised_at = null where program_identifier = 'manual';
select pg_temp.forget() \g /dev/null
set session authorization receiptd_purger;
call inventory.purge(interval '5 days', null);
reset session authorization;
select is_empty($$ select from receipts where program_identifier = 'manual' $$, 'the timer purges');
select is_empty('select pg_temp.logged()', 'which is nobody''s hand');

-- Who may see it

select ok(has_table_privilege(role, 'inventory.manual_changes', 'select') = (role = 'receiptd_reader'), role)
from unnest(array['receiptd_reader', 'receiptd_analyst', 'receiptd_writer', 'receiptd_purger']) as role;

select * from finish();
delete from receipts where program_identifier = 'manual';
delete from rejected_receipts;
delete from manual_changes;
drop owned by jill;
drop role jack, jill, receiptd_test_service;
