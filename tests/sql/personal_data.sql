-- Erasing people, and purging. Both commit, so nothing here is undone but at the end.

set test.program = 'people';
\ir include/deliver.psql
set search_path = inventory, tap;

-- What a text becomes, as JSON writes it.
create temp table example (given text, expected text, logins text[]);
insert into example (given, expected) values
  ('{"a": "jdoe@email.com"}', '{"a": "erased"}'),
  ('{"a": " JDOE@Email.com "}', '{"a": "erased"}'),
  ('{"a": "Jane Doe <jdoe@email.com>", "b": 7}', '{"a": "erased", "b": 7}'),
  ('{"a": "x\njdoe@email.com, y"}', '{"a": "x\nerased, y"}'),
  ('{"a": ["(jdoe@email.com)", "jdoe@email.com.", "jdoe@email.com''s"]}', '{"a": ["(erased)", "erased.", "erased''s"]}'),
  ('{"a": "https:\/\/x\/?u=jdoe%40email.com&v=1"}', '{"a": "https:\/\/x\/?u=erased&v=1"}'),
  ('ot_user_login=jdoe%2540email%2Ecom&x=1', 'ot_user_login=erased&x=1'),
  ('{"a": "j\u0064oe\u0040EMAIL\u002ecom"}', '{"a": "erased"}'),
  ('{"a": "{\"l\": \"jdoe\\u0040email.com\"}"}', '{"a": "{\"l\": \"erased\"}"}'),
  (U&'{"a": "jdoe\FF20email.com"}', '{"a": "erased"}'),
  ('{"a": "jdoe\uff20email.com"}', '{"a": "erased"}'),
  ('{"ot_user_login": 4711, "quantity": 4711}', '{"ot_user_login": "erased", "quantity": 4711}'),
  ('{"user_id": "4711", "x": "4711", "n": 1764711000}', '{"user_id": "erased", "x": "4711", "n": 1764711000}'),
  ('{"a": "CORP\\jdoe", "b": "corp\u005cJDOE was here"}', '{"a": "erased", "b": "erased was here"}'),
  ('ot_user_login=CORP%5Cjdoe', 'ot_user_login=erased'),
  ('{"a": "Jane Doe", "b": "Jane Doe was here"}', '{"a": "erased", "b": "Jane Doe was here"}'),
  ('{"a": "o''brien+x.(y)@a.b o''brien@a.b"}', '{"a": "o''brien+x.(y)@a.b erased"}'),
  -- E'\v' is a letter before PostgreSQL 17.
  ('{"a": "vera@x.dev era@x.dev vera@x.de\tera@x.de"}', '{"a": "erased era@x.dev vera@x.de\tera@x.de"}'),
  ('{"a": "a%b_c@x.example aZbZc@x.example"}', '{"a": "erased aZbZc@x.example"}'),
  (U&'{"a": "JOS\00C9@x.example", "b": "jose\0301@x.example", "c": "jose@x.example"}', '{"a": "erased", "b": "erased", "c": "jose@x.example"}'),
  (U&'{"a": "\0130BO@x.example", "b": "ibo@x.example"}', '{"a": "erased", "b": "erased"}'),
  ('{"a": "\ud83d\udce6@x.example"}', '{"a": "erased"}'),
  -- Many programs write < and > as \u003c and \u003e, and a URL has separators like %3A.
  ('{"a": "Jane \u003cjdoe@email.com\u003e", "b": "\u0022jdoe@email.com\u0022"}', '{"a": "erased", "b": "\u0022erased\u0022"}'),
  ('{"a": "\"Doe, J\u00e4ne\" <jdoe@email.com>", "b": "x \u003ca@b\u003e, y \u003cjdoe@email.com\u003e"}', '{"a": "erased", "b": "x \u003ca@b\u003e, y \u003cerased\u003e"}'),
  ('u=mailto%3Ajdoe%40email.com&v=%3Cjdoe@email.com%3E&w=%2522jdoe%2540email.com%2522', 'u=mailto%3Aerased&v=%3Cerased%3E&w=%2522erased%2522'),
  ('{"a": "jdoe&#64;email.com"}', '{"a": "erased"}');
-- Nobody else is touched.
insert into example (given)
values
  ('{"a": "mjdoe@email.com jdoe@email.com.au x_jdoe@email.com jdoe+1@email.com jdoe@mail.email.com"}'),
  ('{"a": "jdoe", "b": "email.com", "c": "jdoe @email.com"}'),
  ('{"a": 4711, "b": "4711", "login_count": 14711, "user": 47110, "users": [4711]}'),
  ('{"a": "CORP\\jdoes", "b": "XCORP\\jdoe", "c": "jane doe junior"}'),
  ('{"erased": "erased", "a": "\ud83d", "b": "\\"}'),
  ('{'),
  ('%40%zz\u00');

-- Everywhere.
select from pg_temp.deliver('{"request": 1, "unit_identifier": "U1", "ot_user_login": "Jane Doe <JDOE@email.com>", "return_reason": "ask jdoe@email.com",
  "carton_identifier": "C jdoe@email.com"}');
select from pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "ot_user_login": "someone@example.com"}');
select from pg_temp.deliver('{"request": 3, "unit_identifier": "U2", "ot_user_login": " jdoe@email.com",
  "sender_headers": {"x-optiturn-id": "jdoe@email.com"}, "extra": {"by": ["JDOE@email.com"], "jdoe@email.com": 1, "erased": 2, "n": 1764711000}}');
select from pg_temp.deliver('{"request": 4, "unit_identifier": "U3", "ot_user_login": "mjdoe@email.com", "sku": "4711", "extra": {"n": 1764711000}}');
select from pg_temp.deliver('{"request": 5, "unit_identifier": "U4", "ot_user_login": "4711"}');
select from pg_temp.deliver('{"request": 6, "unit_identifier": "jdoe@email.com"}');
insert into rejected_receipts (request_id, api_key_name, status, message, body, asn_number, sender_headers)
select pg_temp.request(10 + n::integer), 'test', 400, 'about jdoe@email.com', body, 'jdoe@email.com', '{"traceparent": "jdoe@email.com"}'
from unnest(array[
  convert_to('{"ot_user_login": "jdoe@email.com", "x": "1\/2"}', 'UTF8'),
  '\x00ff7b22' || 'jdoe@email.com'::bytea || '\x5c22c3a95c30303000'::bytea,
  decode(regexp_replace(encode(convert_to('{"a": "JDOE@email.com", "b": "\\000"}', 'UTF8'), 'hex'), '(..)', '\100', 'g'), 'hex'),
  '\xfeff'::bytea || decode(regexp_replace(encode(convert_to('{"a": "jdoe@email.com"}', 'UTF8'), 'hex'), '(..)', '00\1', 'g'), 'hex'),
  decode(regexp_replace(encode(convert_to('{"a": "jdoe\u0040email.com"}', 'UTF8'), 'hex'), '(..)', '000000\1', 'g'), 'hex'),
  convert_to('{"a": "mjdoe@email.com", "b": "\u00e9 \/"}', 'UTF8')
]) with ordinality as given (body, n);
create temp table untouched as
select to_jsonb(r) as row from receipts as r where program_identifier = 'people' and unit_identifier = 'U3'
union all
select to_jsonb(body) from rejected_receipts where request_id = pg_temp.request(16);
create temp table page as select changes_begin() as cursor;

select plan(67 + (select count(*)::integer from example));

insert into people_to_erase
values (' JDoe@Email.com '), ('jdoe@email.com'), ('4711'), ('corp\jdoe'), ('Jane Doe'), ('o''brien@a.b'), ('a%b_c@x.example'),
  (U&'jos\00E9@x.example'), ('ibo@x.example'), (U&'\+01F4E6@x.example'), (E'\x0Bvera@x.dev\x0B'), (''), ('  '), (null), ('Erased'), (repeat('x', 100000) || '@x.example');
call erase_people() \gset told_
select is(
  row(:told_people, :told_receipts, :told_revisions, :told_rejections, :told_named_keys)::text, '(11,3,1,6,1)',
  'says how many people are new, how many rows it has changed, and in how many keys a login stays'
);
call erase_people() \gset told_
select is(
  row(:told_people, :told_receipts, :told_revisions, :told_rejections, :told_named_keys)::text, '(0,0,0,0,1)',
  'a second time there is nothing left'
);
select is_empty('select from people_to_erase', 'the logins are forgotten');
select is(coalesce(without_erased(given, 'json'), given), coalesce(expected, given), 'json: ' || given) from example;

select results_eq(
  $$ select unit_identifier collate "default", revision, ot_user_login, coalesce(return_reason, ''), carton_identifier, sender_headers,
       regexp_replace(extra::text, 'erased-[0-9a-f]{16}', 'erased-...')
     from receipts where program_identifier = 'people' and unit_identifier like 'U_' order by 1 $$,
  $$ values
      ('U1', 1, 'someone@example.com', 'not like', 'CTAA1234567', null::jsonb, null),
      ('U2', 0, 'erased', 'not like', 'CTAA1234567', '{"x-optiturn-id": "erased"}', '{"n": 1764711000, "by": ["erased"], "erased": 2, "erased-...": 1}'),
      ('U3', 0, 'mjdoe@email.com', 'not like', 'CTAA1234567', null, '{"n": 1764711000}'),
      ('U4', 0, 'erased', 'not like', 'CTAA1234567', null, null) $$,
  'receipts, in each column; nobody else, no name of extra lost, and no revision'
);
select results_eq(
  $$ select ot_user_login, return_reason, carton_identifier from receipt_revisions where program_identifier = 'people' $$,
  $$ values ('erased', 'ask erased', 'C erased') $$, 'their history'
);
select results_eq(
  $$ select body from rejected_receipts order by request_id $$,
  $$ values
      (convert_to('{"ot_user_login": "erased", "x": "1\/2"}', 'UTF8')),
      ('\x00ff7b22' || 'erased'::bytea || '\x5c22c3a95c30303000'::bytea),
      (decode(regexp_replace(encode(convert_to('{"a": "erased", "b": "\\000"}', 'UTF8'), 'hex'), '(..)', '\100', 'g'), 'hex')),
      ('\xfeff'::bytea || decode(regexp_replace(encode(convert_to('{"a": "erased"}', 'UTF8'), 'hex'), '(..)', '00\1', 'g'), 'hex')),
      (decode(regexp_replace(encode(convert_to('{"a": "erased"}', 'UTF8'), 'hex'), '(..)', '000000\1', 'g'), 'hex')),
      (convert_to('{"a": "mjdoe@email.com", "b": "\u00e9 \/"}', 'UTF8')) $$,
  'bodies, whatever their encoding'
);
select results_eq(
  $$ select distinct message, asn_number collate "default", sender_headers from rejected_receipts $$,
  $$ values ('about erased', 'erased', '{"traceparent": "erased"}'::jsonb) $$, 'and what else is kept of a rejection'
);
select set_eq(
  $$ select to_jsonb(r) from receipts as r where program_identifier = 'people' and unit_identifier = 'U3'
     union all
     select to_jsonb(body) from rejected_receipts where request_id = pg_temp.request(16) $$,
  'select row from untouched', 'other people''s rows stay byte for byte'
);
select is(count(*)::integer, 3, 'the feed reports the receipts that were changed')
from page cross join lateral changes_since(cursor) as f where f.program_identifier = 'people';

-- A delivery does not bring anybody back.
create function pg_temp.stored(unit text) returns text language sql as $$
  select concat_ws(' ', ot_user_login, return_reason, extra, sender_headers, revision)
  from inventory.receipts where program_identifier = 'people' and unit_identifier = unit
$$;
select is(pg_temp.deliver(delivery::jsonb), array[answer], 'delivered later: ' || delivery)
from (
  values
    (1, '{"request": 21, "unit_identifier": "V1", "ot_user_login": "JDOE@email.com"}', 'created'),
    (2, '{"request": 22, "unit_identifier": "V1", "ot_user_login": "jdoe@email.com"}', 'unchanged'),
    (3, '{"request": 23, "unit_identifier": "V1", "ot_user_login": "Jane Doe <jdoe@email.com>"}', 'unchanged'),
    (4, '{"request": 24, "unit_identifier": "V1", "ot_user_login": "jdoe@email.com", "extra": {"by": "jdoe@email.com"}}', 'revised'),
    (5, '{"request": 25, "unit_identifier": "V1", "ot_user_login": "jdoe@email.com", "extra": {"by": "JDOE@email.com"}}', 'unchanged'),
    (6, '{"request": 26, "unit_identifier": "V1", "ot_user_login": "jdoe@email.com", "extra": {"by": "Jdoe@email.com"}, "return_reason": "jdoe@email.com"}', 'revised'),
    (7, '{"request": 27, "unit_identifier": "V2", "ot_user_login": "x@y.example", "return_reason": "jdoe%40email.com"}', 'created'),
    (8, '{"request": 28, "unit_identifier": "V3", "ot_user_login": "x@y.example", "extra": {"by": "Jane Doe"}}', 'created'),
    (9, '{"request": 29, "unit_identifier": "V4", "ot_user_login": "x@y.example", "merchant": "CORP\\jdoe"}', 'created'),
    (10, '{"request": 30, "unit_identifier": "V5", "ot_user_login": "x@y.example", "sender_headers": {"x-optiturn-id": "jdoe@email.com"}}', 'created'),
    (11, '{"request": 31, "unit_identifier": "V6", "ot_user_login": "mjdoe@email.com", "sku": "4711", "extra": {"n": 4711}}', 'created'),
    (12, '{"request": 32, "unit_identifier": "V7", "ot_user_login": "4711"}', 'created'),
    (13, '{"request": 33, "unit_identifier": "U2", "ot_user_login": " jdoe@email.com", "sender_headers": {"x-optiturn-id": "jdoe@email.com"}, "extra": {"by": ["JDOE@email.com"], "jdoe@email.com": 1, "erased": 2, "n": 1764711000}}', 'unchanged')
) as given (n, delivery, answer);
select is(pg_temp.stored(unit), expected, 'stored: ' || expected)
from (
  values
    ('V1', 'erased erased {"by": "erased"} 2'),
    ('V2', 'x@y.example erased 0'),
    ('V3', 'x@y.example not like {"by": "erased"} 0'),
    ('V4', 'x@y.example not like 0'),
    ('V5', 'x@y.example not like {"x-optiturn-id": "erased"} 0'),
    ('V6', 'mjdoe@email.com not like {"n": 4711} 0'),
    ('V7', 'erased not like 0')
) as given (unit, expected);
select is(merchant, 'erased', 'with a backslash') from receipts where program_identifier = 'people' and unit_identifier = 'V4';
update receipts set ot_user_login = 'jdoe@email.com' where program_identifier = 'people' and unit_identifier = 'V1';
select is(pg_temp.stored('V1'), 'erased erased {"by": "erased"} 2', 'nor does a correction by hand');
create temp table archived as select * from receipt_revisions where program_identifier = 'people' and unit_identifier = 'U1';
update archived set revision = 9, ot_user_login = 'jdoe@email.com', extra = '{"by": "jdoe@email.com", "n": 1764711000}';
insert into receipt_revisions select * from archived;
select is(
  concat_ws(' ', ot_user_login, extra), 'erased {"n": 1764711000, "by": "erased"}', 'nor does history that is brought back'
)
from receipt_revisions where program_identifier = 'people' and revision = 9;
delete from receipt_revisions where program_identifier = 'people' and revision = 9;
insert into rejected_receipts (request_id, api_key_name, status, message, body, digest)
values (pg_temp.request(17), 'test', 400, 'later', convert_to('{"ot_user_login": "jdoe@email.com", "x": 1}', 'UTF8'), pg_temp.request(1));
select is(
  convert_from(body, 'UTF8'), '{"ot_user_login": "erased", "x": 1}', 'nor a rejected delivery'
) from rejected_receipts where request_id = pg_temp.request(17);
select isnt(digest, pg_temp.request(1), 'whose digest would prove a guess') from rejected_receipts where request_id = pg_temp.request(17);
select throws_ok(
  $$
    insert into rejected_receipts (request_id, api_key_name, status, message, body, digest)
    values (pg_temp.request(18), 'test', 400, 'later', convert_to('{"ot_user_login": "jdoe@email.com", "x": 1}', 'UTF8'), pg_temp.request(1))
  $$,
  '23505', null, 'but still finds a repeat'
);

-- A session that has stored before knows of a person who was erased since, and of one who was given back.
select is(pg_temp.deliver('{"request": 41, "unit_identifier": "W1", "ot_user_login": "later@x.example"}'), '{created}', 'somebody');
insert into people_to_erase values ('later@x.example');
call erase_people() \gset told_
select is(pg_temp.deliver('{"request": 42, "unit_identifier": "W2", "ot_user_login": "later@x.example"}'), '{created}', 'who is erased since');
select is(pg_temp.stored('W1') || pg_temp.stored('W2'), 'erased not like 0erased not like 0', 'is in neither');
delete from erased_people where digest = (select sha256(secret || convert_to('later@x.example', 'UTF8')) from erasure_state);
call erase_people() \gset told_
select is(pg_temp.deliver('{"request": 43, "unit_identifier": "W3", "ot_user_login": "later@x.example"}'), '{created}', 'given back');
select is(pg_temp.stored('W3'), 'later@x.example not like 0', 'the person may be named again');

select is(
  body_without_erased(every || '\x00ff22' || 'jdoe@email.com'::bytea || '\x5c30303000ff'), every || '\x00ff22' || 'erased'::bytea || '\x5c30303000ff',
  'a body with every byte there is'
)
from (select string_agg(set_byte('\x00', 0, n), '' order by n) as every from generate_series(0, 255) as n) as b;

-- Usually, everybody is an address.
create temp table others as select * from erased_people where not is_address;
delete from erased_people where not is_address;
call erase_people() \gset told_
select from pg_temp.deliver(
  '{"request": 44, "unit_identifier": "W4", "ot_user_login": "x@y.example", "return_reason": "jdoe\\u0040email.com"}',
  '{"request": 45, "unit_identifier": "W5", "ot_user_login": "x@y.example", "return_reason": "jdoe&#64;email.com"}',
  '{"request": 46, "unit_identifier": "W6", "ot_user_login": "x@y.example", "extra": {"by": "jdoe\\u0040email.com"}}'
);
select is(pg_temp.stored(unit), expected, 'with addresses alone, stored: ' || expected)
from (
  values
    ('W4', 'x@y.example erased 0'),
    ('W5', 'x@y.example erased 0'),
    ('W6', 'x@y.example not like {"by": "erased"} 0')
) as given (unit, expected);
insert into erased_people select * from others;
call erase_people() \gset told_

-- Reports
select is_empty(
  $$ select to_jsonb(t)::text from totals_by_number as t where number ~ 'jdoe@' union all select to_jsonb(t)::text from totals_by_date as t where return_reason ~ 'jdoe@' $$,
  'what is counted for reports does not name them'
);

-- purge

delete from receipts where program_identifier = 'people' and unit_identifier not in ('U1', 'U2', 'U3', 'U4');
update receipts set received_at = now() - interval '100 days' where program_identifier = 'people' and unit_identifier in ('U1', 'U2', 'U3');
update receipts set revised_at = now() - interval '100 days' where program_identifier = 'people' and unit_identifier = 'U1';
update receipts set revised_at = now() - interval '10 days' where program_identifier = 'people' and unit_identifier = 'U3';
update rejected_receipts set resolved_at = now() - interval '100 days', resolution = 'seen'
where request_id in (pg_temp.request(11), pg_temp.request(12), pg_temp.request(15), pg_temp.request(16), pg_temp.request(17));
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
from unnest(array['call inventory.erase_people()', 'select from inventory.erased_people', 'select from inventory.erasure_state', 'insert into inventory.people_to_erase values (''x@y'')']) as statement;
select throws_ok(format('set role receiptd_purger; %s', statement), '42501', null, 'who purges may not: ' || statement)
from unnest(array['delete from inventory.receipts', 'select from inventory.receipts']) as statement;

delete from receipts where program_identifier = 'people';
delete from rejected_receipts;
delete from erased_people;
delete from feed_events;
call erase_people() \gset told_
select * from finish();
