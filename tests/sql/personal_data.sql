-- Erasing a person, and purging. purge() commits, so nothing here is undone but at the end.

set test.program = 'people';
\ir include/deliver.psql
set search_path = inventory, tap;

select plan(41);

-- Everywhere, in all spellings.
select from pg_temp.deliver('{"request": 1, "unit_identifier": "U1", "ot_user_login": "Jane.Doe@Example.com"}');
select from pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "ot_user_login": "someone@example.com"}');
select from pg_temp.deliver('{"request": 3, "unit_identifier": "U2", "ot_user_login": "someone@example.com",
  "extra": {"by": ["JANE.DOE@example.com", "x jane.doe@example.com y"], "at": 7}}');
select from pg_temp.deliver('{"request": 4, "unit_identifier": "U3", "ot_user_login": "janeXdoe@example.com"}');
insert into rejected_receipts (request_id, api_key_name, status, message, body)
select pg_temp.request(10 + n::integer), 'test', 400, 'test', body
from unnest(array[
  convert_to('{"ot_user_login": "jane.doe@example.com"}', 'UTF8'),
  convert_to('{"ot_user_login": "j\u0061ne.doe\u0040EXAMPLE\u002Ecom"}', 'UTF8'),
  '\x00ff7b226a616e652e646f65406578616d706c652e636f6d5c22c3a9'::bytea,
  convert_to('{"ot_user_login": "janeXdoe@example.com"}', 'UTF8')
]) with ordinality as given (body, n);
create temp table page as select changes_begin() as cursor;

select is(erase_person('jane.doe@EXAMPLE.com')::text, '(1,1,3)', 'says how many rows it has changed');
select is(erase_person('jane.doe@EXAMPLE.com')::text, '(0,0,0)', 'a second time there is nothing left');

select results_eq(
  $$ select unit_identifier collate "default", revision, ot_user_login, extra from receipts where program_identifier = 'people' order by 1 $$,
  $$ values
      ('U1', 1, 'someone@example.com', null::jsonb),
      ('U2', 0, 'someone@example.com', '{"by": ["erased", "x erased y"], "at": 7}'),
      ('U3', 0, 'janeXdoe@example.com', null) $$,
  'receipts, also what is not specified; nobody else, and no revision'
);
select results_eq(
  $$ select ot_user_login from receipt_revisions where program_identifier = 'people' $$, $$ values ('erased') $$, 'their history'
);
select results_eq(
  $$ select body from rejected_receipts where message = 'test' order by request_id $$,
  $$ values
      (convert_to('{"ot_user_login": "erased"}', 'UTF8')),
      (convert_to('{"ot_user_login": "erased"}', 'UTF8')),
      ('\x00ff7b226572617365645c22c3a9'::bytea),
      (convert_to('{"ot_user_login": "janeXdoe@example.com"}', 'UTF8')) $$,
  'bodies, whatever bytes are in them'
);
select is(count(*)::integer, 1, 'a feed tells the rows that were changed')
from page cross join lateral changes_since(cursor) as f where f.unit_identifier = 'U2';

-- A delivery does not bring it back.
select is(
  pg_temp.deliver('{"request": 5, "unit_identifier": "U4", "ot_user_login": "JANE.doe@example.com"}'), '{created}', 'a new receipt'
);
select is(
  pg_temp.deliver('{"request": 6, "unit_identifier": "U4", "ot_user_login": "jane.doe@example.com"}'), '{unchanged}',
  'the same once more is no revision'
);
select is(
  pg_temp.deliver('{"request": 7, "unit_identifier": "U1", "ot_user_login": "jane.doe@example.com"}'), '{revised}',
  'it may revise what somebody else sent'
);
update receipts set ot_user_login = 'Jane.Doe@example.com' where program_identifier = 'people' and unit_identifier = 'U4';
select results_eq(
  $$ select unit_identifier collate "default", ot_user_login, revision from receipts
     where program_identifier = 'people' and unit_identifier in ('U1', 'U4') order by 1 $$,
  $$ values ('U1', 'erased', 2), ('U4', 'erased', 0) $$, 'all under "erased", also by hand'
);
select is(count(*)::integer, 0, 'it is nowhere')
from (
  select to_jsonb(r)::text as row from receipts as r
  union all
  select to_jsonb(r)::text from receipt_revisions as r
  union all
  select to_jsonb(r)::text || encode(body, 'escape') from rejected_receipts as r
  union all
  select to_jsonb(r)::text from erased_people as r
) as everything
where row ~* 'jane[.]doe@';

-- Other people.
select ok(convert_from(example, 'UTF8') ~* pattern_of(login, true), 'is found: ' || convert_from(example, 'UTF8'))
from (
  values
    ('o+r.(x)@a.b', convert_to('O+R.(X)@a.b', 'UTF8')),
    ('é', convert_to('\u00C9', 'UTF8')),
    ('📦', convert_to('\uD83D\uDCE6', 'UTF8')),
    ('a"b', convert_to('a\u0022b', 'UTF8'))
) as given (login, body)
cross join lateral (select convert_to(encode(body, 'escape'), 'UTF8')) as shown (example);
select ok(encode(convert_to('É', 'UTF8'), 'escape') ~* pattern_of('é', true), 'letters in upper case, as bytes');
select ok('oXr@a.b' !~* pattern_of('o.r@a.b', false), 'a dot is a dot');
select throws_ok(format('select erase_person(%L)', nobody), '22023', null, 'nobody: ' || coalesce(nobody, 'null'))
from unnest(array[null, '', ' ', 'Erased']) as nobody;

-- purge

update receipts set received_at = now() - interval '100 days' where program_identifier = 'people' and unit_identifier in ('U1', 'U2', 'U3');
update receipts set revised_at = now() - interval '100 days' where program_identifier = 'people' and unit_identifier = 'U1';
update receipts set revised_at = now() - interval '10 days' where program_identifier = 'people' and unit_identifier = 'U3';
update rejected_receipts set resolved_at = now() - interval '100 days', resolution = 'seen'
where request_id in (pg_temp.request(11), pg_temp.request(12));
update rejected_receipts set resolved_at = now(), resolution = 'seen' where request_id = pg_temp.request(13);

select throws_ok('call inventory.purge(interval ''1 hour'', null)', '22023', null, 'not what is younger than a day');
select throws_ok(format('set role receiptd_purger; call inventory.purge(%s)', given), '22023', null, 'nor by ' || given)
from unnest(
  array[
    'interval ''-1000 years 360001 days'', null',
    'null, interval ''-1000 years 360001 days''',
    'interval ''23 hours 59 minutes'', null',
    'interval ''1 month -40 days'', null',
    'interval ''0'', null',
    'interval ''-1 microsecond'', null',
    'null, interval ''1 day -2 hours''',
    'interval ''3 years'', interval ''-1 day''',
    'interval ''3 years'', null, null',
    'null, null, -1'
  ]
) as given;
select throws_ok('call inventory.purge(null, null, 0)', '22023', null, 'no empty portions');
call inventory.purge(null, null);
select is(count(*)::integer, 4, 'without an age everything stays') from receipts where program_identifier = 'people';
set role receiptd_purger;
call inventory.purge(interval '90 days', interval '90 days', 1);
reset role;
select results_eq(
  $$ select unit_identifier collate "default" from receipts where program_identifier = 'people' order by 1 $$,
  $$ values ('U3'), ('U4') $$, 'what was last written before that is gone'
);
select is_empty(
  $$ select from receipt_revisions where program_identifier = 'people' and unit_identifier = 'U1' $$, 'with its history'
);
select results_eq(
  $$ select request_id from rejected_receipts order by request_id $$,
  $$ values (pg_temp.request(13)), (pg_temp.request(14)) $$, 'and so are resolved rejections'
);
select throws_ok(format('set role receiptd_writer; %s', statement), '42501', null, 'the service may not: ' || statement)
from unnest(array['select inventory.erase_person(''x@y'')', 'select from inventory.erased_people']) as statement;
select throws_ok(format('set role receiptd_purger; %s', statement), '42501', null, 'who purges may not: ' || statement)
from unnest(array['delete from inventory.receipts', 'select from inventory.receipts']) as statement;

delete from receipts where program_identifier = 'people';
delete from rejected_receipts;
delete from erased_people;
delete from feed_events;
alter table receipts disable trigger receipts_keep_erased;
select * from finish();
