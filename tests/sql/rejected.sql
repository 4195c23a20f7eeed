-- Refused deliveries: what the service's statement keeps of them, and how they are resolved.

\connect - receiptd_writer
\set ON_ERROR_STOP on

set search_path = inventory, tap;
set client_min_messages = warning;
set test.program = 'rejected';
\ir include/deliver.psql

select plan(44);

select is(session_user::text, 'receiptd_writer', 'this is the writer');

-- Kept. The second column of what it returns is true: with settings that are not safe the statement fails.

select results_eq(
  $$
    execute reject_2(
      pg_temp.request(1), 'local', 422, 'Validation Failed', '[{"field": "sku", "code": "missing_field"}]',
      '{"unit_identifier":"U1"}', 'rejected', 'A1', 'U1', '{"traceparent": "00-1"}', pg_temp.request(101), 1, null,
      pg_temp.request(2), 'other', 400, 'The body is empty.', null,
      '', null, null, null, null, pg_temp.request(102), 1, null
    )
  $$,
  $$
    values
      (pg_temp.request(1), true),
      (pg_temp.request(2), true)
  $$,
  'one statement keeps refused deliveries of either kind, and returns each'
);
select results_eq(
  $$
    select to_jsonb(r) - '{rejection_id,received_at,last_received_at}'::text[]
    from rejected_receipts as r
    where request_id in (pg_temp.request(1), pg_temp.request(2))
    order by request_id
  $$,
  $$
    values
      (
        jsonb_build_object(
          'request_id', pg_temp.request(1), 'api_key_name', 'local', 'status', 422, 'message', 'Validation Failed',
          'errors', '[{"field": "sku", "code": "missing_field"}]'::jsonb, 'body', '{"unit_identifier":"U1"}'::bytea,
          'program_identifier', 'rejected', 'asn_number', 'A1', 'unit_identifier', 'U1',
          'sender_headers', '{"traceparent": "00-1"}'::jsonb, 'digest', pg_temp.request(101), 'deliveries', 1,
          'repeat_request_ids', null, 'resolved_at', null, 'resolution', null
        )
      ),
      (
        jsonb_build_object(
          'request_id', pg_temp.request(2), 'api_key_name', 'other', 'status', 400, 'message', 'The body is empty.',
          'errors', null, 'body', ''::bytea,
          'program_identifier', null, 'asn_number', null, 'unit_identifier', null,
          'sender_headers', null, 'digest', pg_temp.request(102), 'deliveries', 1,
          'repeat_request_ids', null, 'resolved_at', null, 'resolution', null
        )
      )
  $$,
  'every column holds what was given, and nothing is resolved'
);
select ok(now() - received_at between '0 s' and '1 min' and last_received_at = received_at, 'received_at is the time of arrival')
from rejected_receipts
where request_id = pg_temp.request(1);
select isnt(
  (select rejection_id from rejected_receipts where request_id = pg_temp.request(1)),
  (select rejection_id from rejected_receipts where request_id = pg_temp.request(2)),
  'each has a rejection_id of its own'
);

-- The body, byte for byte: every byte, what is no UTF-8, and 1 MiB that does not compress.

create temp table body as
select
  3 as request,
  (select string_agg(set_byte('\x00', 0, n), '' order by n) from generate_series(0, 255) as n) as bytes
union all
select 4, '\xfffe0000'
union all
select 5, (select string_agg(decode(md5(n::text), 'hex'), '' order by n) from generate_series(1, 65536) as n);
select isnt_empty(
  format(
    'execute reject_1(pg_temp.request(%s), %L, 400, %L, null, %L, null, null, null, null, pg_temp.request(10%s), 1, null)',
    request, 'local', 'm', bytes, request
  ),
  'a body of ' || length(bytes) || ' bytes is kept'
)
from body;
select results_eq(
  $$ select request, length(bytes), md5(bytes) from body order by request $$,
  $$
    select request, length(body), md5(body)
    from rejected_receipts
    join body on request_id = pg_temp.request(request)
    order by request
  $$,
  'as it came'
);

-- The same delivery again, after its acknowledgement was lost

create function pg_temp.reject(request integer, digest integer, more integer[] default null) returns uuid language plpgsql as $$
declare
  kept record;
begin
  execute format(
    'execute reject_1(pg_temp.request(%s), %L, 400, %L, null, %L, %L, %L, %L, null, pg_temp.request(%s), %s, %L)',
    request, 'later', 'later', 'later', 'later', 'later', 'later', digest, coalesce(cardinality(more), 0) + 1,
    (select array_agg(pg_temp.request(n)) from unnest(more) as n)
  ) into kept;
  return kept.request_id;
end
$$;
-- What a row says of its repeats: how many deliveries, and the numbers of the requests.
create function pg_temp.repeats(request integer) returns text language sql as $$
  select deliveries || ': ' || coalesce((select string_agg(ltrim(right(id::text, 12), '0'), ' ') from unnest(repeat_request_ids) as id), '')
  from inventory.rejected_receipts
  where request_id = pg_temp.request(request)
$$;

select to_jsonb(r) - '{status,message,errors}'::text[] as row
from rejected_receipts as r
where request_id = pg_temp.request(1) \gset before_
begin;
select pg_temp.reject(1, 101) \gset again_
select pg_current_xact_id_if_assigned() is not null as writes \gset
commit;
select is(:'again_reject', pg_temp.request(1)::text, 'a second try is told that it is kept');
select ok(:'writes', 'it writes to the log, so its commit waits for what it has seen to be durable');
select is(
  to_jsonb(r) - '{status,message,errors}'::text[], :'before_row', 'what is kept is what came first, and it is not counted twice'
)
from rejected_receipts as r
where request_id = pg_temp.request(1);
select results_eq(
  $$
    execute reject_2(
      pg_temp.request(2), 'local', 400, 'again', null, 'again', null, null, null, null, pg_temp.request(102), 1, null,
      pg_temp.request(6), 'local', 400, 'new', null, 'new', null, null, null, null, pg_temp.request(106), 1, null
    )
  $$,
  $$
    values
      (pg_temp.request(2), true),
      (pg_temp.request(6), true)
  $$,
  'a batch that comes again with a new delivery in it is told that both are kept'
);
select is((select count(*)::integer from rejected_receipts), 6, 'each is there once');
select throws_ok(
  $$
    execute reject_2(
      pg_temp.request(7), 'local', 400, 'm', null, 'a', null, null, null, null, pg_temp.request(107), 1, null,
      pg_temp.request(7), 'local', 400, 'm', null, 'b', null, null, null, null, pg_temp.request(108), 1, null
    )
  $$,
  '23505',
  null,
  'one delivery twice in a batch is an error, not a silent loss'
);

-- Repeats

select pg_temp.reject(20, 120, array[21, 22]) \g /dev/null
select is(pg_temp.repeats(20), '3: 21 22', 'identical deliveries of one batch are one row');
select is(pg_temp.reject(23, 120), pg_temp.request(20), 'a repeat is told whose row it is in');
select is(pg_temp.reject(24, 120, array[25]), pg_temp.request(20), 'several as well');
select is(pg_temp.repeats(20), '6: 21 22 23 24 25', 'and they are counted');
select pg_temp.reject(24, 120, array[25, 26]) \g /dev/null
select is(pg_temp.repeats(20), '7: 21 22 23 24 25 26', 'those that were stored before are not counted again');
select pg_temp.reject(n, 120) from generate_series(1000, 1199) as n \g /dev/null
select is(
  (
    select array[deliveries, cardinality(repeat_request_ids), ltrim(right(repeat_request_ids[1]::text, 12), '0')::integer]
    from rejected_receipts
    where request_id = pg_temp.request(20)
  ),
  array[207, 100, 1100],
  'of very many, the latest hundred request ids are kept'
);
select ok(
  last_received_at > received_at and body = 'later' and message = 'later', 'first and last are in the row, and the latest reasons'
)
from rejected_receipts
where request_id = pg_temp.request(20);
select is((select count(*)::integer from rejected_receipts), 7, 'all of them are one row');

-- Resolved

select lives_ok(
  $$
    update rejected_receipts
    set resolved_at = now(), resolution = 'created'
    where request_id = pg_temp.request(20) and resolved_at is null
  $$,
  'the service marks what has become a receipt'
);
select is(pg_temp.reject(31, 120), pg_temp.request(20), 'a repeat of it is counted');
select results_eq(
  $$ select resolution, resolved_at is null, deliveries from rejected_receipts where request_id = pg_temp.request(20) $$,
  $$ values ('created', false, 208) $$,
  'and it stays resolved'
);
update rejected_receipts set resolved_at = now(), resolution = 'a test' where request_id = pg_temp.request(6);
select is(pg_temp.reject(32, 106), pg_temp.request(32), 'a repeat of what a person has resolved is a new problem');
select is(pg_temp.reject(33, 106), pg_temp.request(32), 'which has repeats of its own');
select results_eq(
  $$ select request_id, deliveries, resolution from rejected_receipts where digest = pg_temp.request(106) order by 1 $$,
  $$ values (pg_temp.request(6), 1, 'a test'), (pg_temp.request(32), 2, null) $$,
  'and what the person wrote is still there'
);
select throws_ok(
  $$ update rejected_receipts set $$ || assignment,
  '23514',
  'new row for relation "rejected_receipts" violates check constraint "rejected_receipts_resolution_check"',
  'not resolved by half: ' || assignment
)
from unnest(array[
  'resolved_at = now() where request_id = pg_temp.request(2)',
  'resolution = ''dropped'' where request_id = pg_temp.request(2)',
  'resolved_at = null where request_id = pg_temp.request(6)',
  'resolution = null where request_id = pg_temp.request(6)'
]) as assignment;

-- Limits

select throws_ok(
  format(
    'execute reject_1(pg_temp.request(8), %L, %s, %L, null, %L, null, null, null, null, null, 1, null)', 'local', status, 'm', 'b'
  ),
  '23514',
  'new row for relation "rejected_receipts" violates check constraint "rejected_receipts_status_check"',
  status || ' is no status of a rejection for good'
)
from unnest(array[200, 401, 413, 503]) as status;
select throws_ok(
  'execute reject_1(' || replace(given, '@', 'pg_temp.request(8)') || ', null, null, null, null, null, 1, null)',
  '23502',
  null,
  name || ' may not be null'
)
from (
  values
    ('request_id', $$null, 'local', 400, 'm', null, 'b'$$),
    ('api_key_name', $$@, null, 400, 'm', null, 'b'$$),
    ('status', $$@, 'local', null, 'm', null, 'b'$$),
    ('message', $$@, 'local', 400, null, null, 'b'$$),
    ('body', $$@, 'local', 400, 'm', null, null$$)
) as missing (name, given);

-- What is still to be done

create function pg_temp.explain(statement text) returns setof text language plpgsql as $$
begin
  return query execute 'explain (costs off) ' || statement;
end
$$;
select matches(
  (select string_agg(line, ' ') from pg_temp.explain($$execute unresolved('-infinity', null, now(), null)$$) as line),
  'Index Scan using rejected_receipts_unresolved_idx .*Index Cond: .*ROW\(received_at, rejection_id\) >',
  'it is read in the order of the index, from where the last page ended'
);
select set_eq(
  $$
    select request_id
    from rejected_receipts
    where resolved_at is null
  $$,
  $$ select pg_temp.request(n) from unnest(array[1, 2, 3, 4, 5, 32]) as n $$,
  'what is not resolved is all that was not marked'
);

select * from finish();

\connect - postgres
truncate inventory.rejected_receipts;
