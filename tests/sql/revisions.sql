-- Every version of a receipt is kept, whoever replaces it.

set search_path = inventory, tap;
set test.program = 'revisions';
\ir include/deliver.psql

select plan(45);

-- By the service

select is(pg_temp.deliver('{"request": 1, "unit_identifier": "U1", "api_key_name": "k0", "sender_headers": {"traceparent": "00-0"}}'), '{created}', 'revision 0');
select is_empty('select from receipt_revisions', 'a new receipt has no history');
create temp table seen as select * from receipts where program_identifier = 'revisions';

select is(
  pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "api_key_name": "k1", "upc": null, "extra": {"a": [1, 2]}}'),
  '{revised}',
  'revision 1'
);
insert into seen select * from receipts where program_identifier = 'revisions';
select is(
  pg_temp.deliver('{"request": 3, "unit_identifier": "U1", "api_key_name": "k2", "sku": "S2", "sender_headers": {"traceparent": "00-2"}}'),
  '{revised}',
  'revision 2'
);
insert into seen select * from receipts where program_identifier = 'revisions';
select is(
  pg_temp.deliver('{"request": 4, "unit_identifier": "U1", "api_key_name": "k3", "sku": "S2"}'),
  '{unchanged}',
  'the same once more'
);
select is(pg_temp.deliver('{"request": 5, "unit_identifier": "U1", "api_key_name": "k4"}'), '{revised}', 'revision 3');

prepare history as
  select
    to_jsonb(receipt_revisions) - 'replaced_at' - 'replaced_in' as version
  from receipt_revisions
  where program_identifier = 'revisions' and unit_identifier = 'U1'
  order by revision;
select results_eq(
  'history',
  $$
    select
      to_jsonb(seen) - 'revised_request_id' - 'revised_at' - 'created_in'
      || jsonb_build_object(
        'request_id', coalesce(revised_request_id, request_id),
        'received_at', coalesce(revised_at, received_at)
      )
    from seen
    order by revision
  $$,
  'the history is each version as it was seen before it was replaced'
);
select results_eq(
  $$ select revision, request_id, api_key_name from receipt_revisions order by revision $$,
  $$
    values
      (0, pg_temp.request(1), 'k0'),
      (1, pg_temp.request(2), 'k1'),
      (2, pg_temp.request(3), 'k2')
  $$,
  'the history says which delivery brought each version, and with which key'
);
select results_eq(
  $$
    select replaced_at
    from receipt_revisions
    order by revision
  $$,
  $$
    select received_at from receipt_revisions where revision > 0
    union all
    select revised_at from receipts where program_identifier = 'revisions'
    order by 1
  $$,
  'a version was replaced when the next one arrived'
);

-- By hand

update receipts set sku = 'by hand', upc = '1' where program_identifier = 'revisions';
select results_eq(
  $$
    select
      revision,
      sku,
      request_id,
      revised_request_id,
      revised_at > received_at,
      now() - revised_at < '1 min',
      api_key_name
    from receipts
    where program_identifier = 'revisions'
  $$,
  $$ values (4, 'by hand', pg_temp.request(1), null::uuid, true, true, 'k4') $$,
  'a correction by hand is a revision without a delivery'
);
select results_eq(
  $$ select sku, request_id, api_key_name from receipt_revisions where revision = 3 $$,
  $$ values ('S123456', pg_temp.request(5), 'k4') $$,
  'what a correction by hand replaced is kept'
);
select cmp_ok(
  revised_at,
  '>',
  (select received_at from receipt_revisions where revision = 3),
  'a correction by hand has its own time'
)
from receipts
where program_identifier = 'revisions';

update receipts set extra = '{}' where program_identifier = 'revisions';
update receipts set extra = null where program_identifier = 'revisions';
select results_eq(
  $$ select revision, sku, extra::text, request_id from receipt_revisions where revision > 3 order by revision $$,
  $$ values (4, 'by hand', null, null::uuid), (5, 'by hand', '{}', null) $$,
  'so is the correction itself, when another one replaces it'
);

update receipts set sku = sku, extra = extra where program_identifier = 'revisions';
update receipts
set
  api_key_name = 'renamed',
  request_id = pg_temp.request(99),
  revised_request_id = pg_temp.request(98),
  received_at = received_at - interval '1 d',
  revised_at = revised_at - interval '1 h'
where program_identifier = 'revisions';
update receipts set revision = 9 where program_identifier = 'revisions';
update receipts set revision = 0 where program_identifier = 'revisions';
select is(
  (select revision from receipts where program_identifier = 'revisions'),
  6,
  'an update that changes no content is no revision, and revision cannot be set by hand'
);

create function pg_temp.reset() returns trigger language plpgsql as $$ begin new.revision := old.revision; return new; end $$;
create trigger z_reset before update on receipts for each row execute function pg_temp.reset();
select throws_ok(
  $$
    update receipts set sku = 'reset', revision = revision + 1, revised_request_id = pg_temp.request(97)
    where program_identifier = 'revisions'
  $$,
  '09000', null,
  'a trigger that resets the revision makes a revision fail, which would not be kept'
);
drop trigger z_reset on receipts;
update receipts set revision = 99, sku = 'by hand 2' where program_identifier = 'revisions';
select results_eq(
  $$ select array_agg(revision order by revision) from receipt_revisions $$,
  $$ values (array[0, 1, 2, 3, 4, 5, 6]) $$,
  'revisions have no gap'
);

select is(
  pg_temp.deliver('{"request": 6, "unit_identifier": "U1", "sku": "by hand 2", "upc": "1"}'),
  '{unchanged}',
  'a delivery that says what the correction says is unchanged'
);
select is(
  pg_temp.deliver('{"request": 7, "unit_identifier": "U1"}'),
  '{revised}',
  'a delivery that says something else replaces a correction'
);
select results_eq(
  $$ select revision, revised_request_id from receipts where program_identifier = 'revisions' $$,
  $$ values (8, pg_temp.request(7)) $$,
  'and is counted on from there'
);

-- Columns of a DBA's own, here or there

alter table receipts add column own text;
alter table receipt_revisions
  add column own_default text not null default 'by default',
  add column own_generated integer generated always as (char_length(sku)) stored;
update receipts set own = 'x' where program_identifier = 'revisions';
select is(
  (select revision from receipts where program_identifier = 'revisions'), 8, 'a column of receipts alone is no content'
);
select is(pg_temp.deliver('{"request": 70, "unit_identifier": "U1", "sku": "S70"}'), '{revised}', 'a revision beside such columns');
select results_eq(
  $$ select own, sku from receipts where program_identifier = 'revisions' $$, $$ values ('x', 'S70') $$, 'it leaves them alone'
);
select results_eq(
  $$ select own_default, own_generated from receipt_revisions where revision = 8 $$,
  $$ values ('by default', 7) $$,
  'in the history they have their defaults'
);
-- A column that both tables have is no more content than that, whatever its name.
alter table receipts
  add column both_have text,
  add column both_default integer not null default 7,
  add column both_generated text generated always as (upper(sku)) stored,
  add column color text;
alter table receipt_revisions
  add column both_have text,
  add column both_default integer not null default 7,
  add column both_generated text,
  add column color text;
select inventory.changes_begin() as cursor \gset
select to_jsonb(r) - '{both_have,both_default,color}'::text[] as before from receipts as r where program_identifier = 'revisions' \gset
update receipts set both_have = 'y', both_default = 8, color = 'red' where program_identifier = 'revisions';
select results_eq(
  $$ select to_jsonb(r) - '{both_have,both_default,color}'::text[] from receipts as r where program_identifier = 'revisions' $$,
  format('values (%L::jsonb)', :'before'),
  'filling it makes no revision, nor does it look newer to a purge'
);
select is_empty(
  format('select from changes_since(%L) where program_identifier = %L', :'cursor', 'revisions'), 'the feed has nothing to report'
);
select is_empty($$ select from manual_changes where operation = 'update' and table_name = 'receipts' and changed_at = now() $$, 'nobody changed a receipt');
select is((select string_agg(problem, ', ') from schema_problems()), null, 'the service has no problem with it');
select is(
  pg_temp.deliver('{"request": 73, "unit_identifier": "U1", "sku": "S70"}'), '{unchanged}', 'the same content is unchanged'
);
select is(pg_temp.deliver('{"request": 74, "unit_identifier": "U1", "sku": "S74"}'), '{revised}', 'other content is a revision');
select results_eq(
  $$ select own, both_have, both_default, both_generated, color from receipts where program_identifier = 'revisions' $$,
  $$ values ('x', 'y', 8, 'S74', 'red') $$,
  'which leaves such columns as they are'
);
select results_eq(
  $$ select both_have, both_default, both_generated, color from receipt_revisions where revision = 9 $$,
  $$ values (null, 7, null, null) $$,
  'and fills none in the history'
);
update receipts set sku = 'by hand', both_have = 'z' where program_identifier = 'revisions';
select is(
  (select revision from receipts where program_identifier = 'revisions'), 11, 'a correction that fills one too is a revision'
);
insert into people_to_erase values ('jdoe@email.com');
select from take_people(), enforce_erasure();
select isnt_empty($$ select from erase_portion('receipts', 0, 1000000, 1000000) where changed > 0 $$, 'a person is erased beside it');
delete from erased_people;
select from take_people(), enforce_erasure();
alter table receipts drop column color;
alter table receipts add column color integer default 3;
select is(pg_temp.deliver('{"request": 75, "unit_identifier": "U1", "sku": "S75"}'), '{revised}', 'it may be dropped and added again');
alter table receipts drop column both_default, drop column both_generated, drop column color;
alter table receipt_revisions drop column both_default, drop column both_generated, drop column color;
alter table receipts drop column own, drop column both_have;
alter table receipt_revisions drop column own_default, drop column own_generated, drop column both_have;
select is(pg_temp.deliver('{"request": 71, "unit_identifier": "U1", "sku": "S71"}'), '{revised}', 'nor does it miss them');
create function public.drop_it() returns trigger language plpgsql as 'begin return null; end';
create trigger drop_it before insert on receipt_revisions for each row execute function public.drop_it();
select throws_ok(
  $$ select pg_temp.deliver('{"request": 72, "unit_identifier": "U1", "sku": "S72"}') $$, '09000', null,
  'a trigger that keeps the history from being written is an error, not a loss'
);
drop function public.drop_it() cascade;
update receipts set extra = '{"a": 12345678901234567890.123456789012345678901234567890, "b": 1e-30}', to_identifier = 9223372036854775807
where program_identifier = 'revisions';
update receipts set extra = null, to_identifier = 1 where program_identifier = 'revisions';
select results_eq(
  $$ select extra::text, to_identifier from receipt_revisions order by revision desc limit 1 $$,
  $$ values ('{"a": 12345678901234567890.123456789012345678901234567890, "b": 0.000000000000000000000000000001}', 9223372036854775807) $$,
  'numbers are kept digit for digit'
);
delete from receipt_revisions where revision > 7;
select set_config('session_replication_role', 'replica', false) \g /dev/null
update receipts set revision = 8 where program_identifier = 'revisions';
reset session_replication_role;

select throws_ok(
  $$ update receipts set $$ || key || $$ = 'other' where program_identifier = 'revisions' $$,
  '23000',
  'the key of a receipt cannot be changed',
  key || ' cannot be changed'
)
from unnest(array['program_identifier', 'asn_number', 'unit_identifier']) as key;

-- Deleted by hand

select throws_ok(
  'truncate receipts', '0A000', null, 'receipts cannot be truncated while there is a history to lose'
);
delete from receipts where program_identifier = 'revisions';
select is_empty('select from receipt_revisions', 'a deleted receipt takes its history with it');
select is(pg_temp.deliver('{"request": 8, "unit_identifier": "U1"}'), '{created}', 'it is created when delivered again');
select is(
  pg_temp.deliver('{"request": 9, "unit_identifier": "U1", "sku": "S2"}'), '{revised}', 'and revised after that'
);
select results_eq(
  'select revision, request_id from receipt_revisions',
  'values (0, pg_temp.request(8))',
  'with a history of its own'
);

select * from finish();
delete from receipts where program_identifier = 'revisions';
