-- The batch statement tells created, revised and unchanged apart. Each delivery is a transaction of its own here.

set search_path = inventory, tap;
set test.program = 'batch';
\ir include/deliver.psql

select plan(39);

-- Created

select is(pg_temp.deliver('{"request": 1, "unit_identifier": "U1"}'), '{created}', 'a new key is created');

select is(
  to_jsonb(receipts) - 'received_at' - 'created_in' - 'changed_by' - 'changed_at',
  pg_temp.example() || jsonb_build_object(
    'unit_identifier', 'U1',
    'revision', 0,
    'request_id', pg_temp.request(1),
    'revised_request_id', null,
    'revised_at', null,
    'sender_headers', null
  ),
  'what is created is the delivery, as revision 0'
)
from receipts
where program_identifier = 'batch' and unit_identifier = 'U1';

select ok(now() - received_at between '0 s' and '1 min', 'received_at is the time of arrival')
from receipts
where program_identifier = 'batch' and unit_identifier = 'U1';

select is(
  pg_temp.deliver(
    '{"request": 2, "unit_identifier": "U2", "asn_number": "A1"}',
    '{"request": 3, "unit_identifier": "U2", "asn_number": "A2"}'
  ),
  '{created,created}',
  'another asn_number is another receipt'
);
select is(pg_temp.deliver('{"request": 4, "unit_identifier": "u1"}'), '{created}', 'another case is another receipt');
select is(pg_temp.deliver('{"request": 5, "unit_identifier": "U1 "}'), '{created}', 'another blank is another receipt');
select is(
  pg_temp.deliver('{"request": 6, "unit_identifier": "U1", "program_identifier": "batch 2"}'),
  '{created}',
  'another program_identifier is another receipt'
);
select throws_ok(
  $$
    select pg_temp.deliver(
      '{"request": 7, "unit_identifier": "U7"}',
      '{"request": 8, "unit_identifier": "U7", "sku": "other"}'
    )
  $$,
  '21000',
  null,
  'a key twice in one batch is an error, not a silent loss'
);
select is_empty(
  $$ select from receipts where program_identifier = 'batch' and unit_identifier = 'U7' $$,
  'nothing of a batch that failed is stored'
);

-- Unchanged

select ctid, xmin from receipts where program_identifier = 'batch' and unit_identifier = 'U1' \gset before_
select is(pg_temp.deliver('{"request": 11, "unit_identifier": "U1"}'), '{unchanged}', 'the same content is unchanged');
select is(
  pg_temp.deliver('{"request": 12, "unit_identifier": "U1", "api_key_name": "other"}'),
  '{unchanged}',
  'another API key alone is unchanged'
);
select is(
  pg_temp.deliver('{"request": 14, "unit_identifier": "U1", "sender_headers": {"traceparent": "00-1"}}'),
  '{unchanged}',
  'other headers of the sender alone are unchanged'
);
select is(
  row(ctid, xmin)::text,
  row(:'before_ctid'::tid, :'before_xmin'::xid)::text,
  'what is unchanged has no new row version'
)
from receipts
where program_identifier = 'batch' and unit_identifier = 'U1';

-- pgTAP's own tables would give the transaction an id, so it is asked for before.
begin;
select pg_temp.deliver('{"request": 13, "unit_identifier": "U1"}') as outcome \gset
select pg_current_xact_id_if_assigned() is not null as writes \gset
commit;
select ok(
  :'outcome' = '{unchanged}' and :'writes',
  'unchanged writes to the log, so its commit waits for what it has seen to be durable'
);

-- Revised

select is(
  pg_temp.deliver('{"request": 21, "unit_identifier": "U1", "sku": "S2", "api_key_name": "second"}'),
  '{revised}',
  'other content is revised'
);
select results_eq(
  $$
    select revision, request_id, revised_request_id, revised_at > received_at, api_key_name, sku
    from receipts
    where program_identifier = 'batch' and unit_identifier = 'U1'
  $$,
  $$ values (1, pg_temp.request(1), pg_temp.request(21), true, 'second', 'S2') $$,
  'a revised row says who created and who revised it, and when'
);
select is(
  pg_temp.deliver(
    '{"request": 22, "unit_identifier": "U1", "sku": "S2"}',
    '{"request": 23, "unit_identifier": "U3"}',
    '{"request": 24, "unit_identifier": "u1", "sku": "S3"}'
  ),
  '{unchanged,created,revised}',
  'one batch gives each of its rows its own outcome'
);

-- Every column but the key and the bookkeeping is content: each change of one alone is a revision.

select is(
  pg_temp.deliver('{"request": 30, "unit_identifier": "U4"}'), '{created}', 'a receipt to change field by field'
);
create temp table changed as
select
  name,
  pg_temp.deliver(
    jsonb_build_object(
      'request', 30 + position,
      'unit_identifier', 'U4',
      name, case name when 'to_identifier' then to_jsonb(7) when 'extra' then '{}' else to_jsonb('changed'::text) end
    )
  ) as outcome
from pg_temp.content() with ordinality as field (name, position);
select results_eq(
  $$ select count(*)::integer, count(distinct name)::integer, outcome from changed group by outcome $$,
  $$
    select count(*)::integer, count(*)::integer, array['revised']
    from pg_temp.content()
  $$,
  'a change of any field is a revision'
);

select is(
  pg_temp.deliver('{"request": 70, "unit_identifier": "U3", "upc": null}'),
  '{revised}',
  'a value taken away is a revision'
);
select is(
  pg_temp.deliver('{"request": 71, "unit_identifier": "U3", "upc": null}'), '{unchanged}', 'null is equal to null'
);
select is(pg_temp.deliver('{"request": 72, "unit_identifier": "U3"}'), '{revised}', 'a value for null is a revision');

select is(
  pg_temp.deliver('{"request": 73, "unit_identifier": "U3", "extra": {"a": null}}'),
  '{revised}',
  'an unknown field is content, even when it is null'
);
select is(
  pg_temp.deliver('{"request": 74, "unit_identifier": "U3", "extra": {"b": [1, {"c": "x"}], "a": 1}}'),
  '{revised}',
  'another value in extra is a revision'
);
select is(
  pg_temp.deliver('{"request": 75, "unit_identifier": "U3", "extra": {"a": 1, "b": [1, {"c": "x"}]}}'),
  '{unchanged}',
  'another order in extra is unchanged'
);
select is(
  pg_temp.deliver('{"request": 76, "unit_identifier": "U3"}'), '{revised}', 'extra that is gone is a revision'
);

-- The same delivery again, after its acknowledgement was lost

select is(pg_temp.deliver('{"request": 80, "unit_identifier": "U5"}'), '{created}', 'a receipt whose answer is lost');
select is(
  pg_temp.deliver('{"request": 80, "unit_identifier": "U5"}'),
  '{"created before"}',
  'the delivery that created a row recognizes it'
);
select is(
  pg_temp.deliver('{"request": 80, "unit_identifier": "U5", "sku": "S2"}'),
  '{"created before"}',
  'the request id alone decides that, whatever the content'
);
select is(
  (select revision from receipts where program_identifier = 'batch' and unit_identifier = 'U5'),
  0,
  'the delivery that created a row does not revise it'
);
select is(
  pg_temp.deliver('{"request": 81, "unit_identifier": "U5", "sku": "S2"}'), '{revised}', 'a revision whose answer is lost'
);
select is(
  pg_temp.deliver('{"request": 81, "unit_identifier": "U5", "sku": "S2"}'),
  '{"revised before"}',
  'the delivery that revised a row recognizes it'
);
select is(
  pg_temp.deliver('{"request": 81, "unit_identifier": "U5", "sku": "S3"}'),
  '{"revised before"}',
  'here too whatever the content'
);
select is(
  pg_temp.deliver('{"request": 80, "unit_identifier": "U5"}'),
  '{"created before"}',
  'the delivery that created a row recognizes it after another one has revised it'
);
select results_eq(
  $$ select revision, sku from receipts where program_identifier = 'batch' and unit_identifier = 'U5' $$,
  $$ values (1, 'S2') $$,
  'none of them has revised it again'
);
select is(
  pg_temp.deliver(
    '{"request": 80, "unit_identifier": "U5"}',
    '{"request": 82, "unit_identifier": "U6"}'
  ),
  '{"created before",created}',
  'a batch that comes again with a new delivery in it'
);

-- Text is text

create temp table hostile as
select
  $json$
    {
      "request": 90,
      "unit_identifier": "U8",
      "sku": "NULL",
      "upc": "{a,\"b\"}",
      "merchant": "'' or 1=1; --",
      "concept": "\\x41 \\N $1 %s",
      "return_reason": "🎁 ünïcode\u0001\n\ttab",
      "tracking_number": "9400110200881234567890",
      "to_identifier": -9223372036854775808
    }
  $json$::jsonb as delivery;
select is(pg_temp.deliver(delivery), '{created}', 'hostile text is stored') from hostile;
select results_eq(
  $$
    select sku, upc, merchant, concept, return_reason, tracking_number, to_identifier
    from receipts
    where program_identifier = 'batch' and unit_identifier = 'U8'
  $$,
  $$
    values (
      'NULL', '{a,"b"}', ''''' or 1=1; --', '\x41 \N $1 %s', e'🎁 ünïcode\x01\n\ttab', '9400110200881234567890',
      (-9223372036854775808)::bigint
    )
  $$,
  'hostile text is stored exactly'
);
select is(pg_temp.deliver(delivery || '{"request": 91}'), '{unchanged}', 'and found to be the same') from hostile;

select * from finish();
delete from receipts where program_identifier in ('batch', 'batch 2');
