-- A text of the key has 1 to 255 characters, and every other one takes the 1,000 that the service lets through; a
-- character counts once, however many bytes it has.

begin;
set local search_path = inventory, tap;
set local test.program = 'limits';
\ir include/deliver.psql

create temp table field as
select
  attname as name,
  case when attname in ('program_identifier', 'asn_number', 'unit_identifier') then 255 else 1000 end as most
from pg_attribute
where attrelid = 'receipts'::regclass and attnum > 0 and atttypid = 'text'::regtype;

create function pg_temp.insert_with(name text, value text) returns void language sql as $$
  insert into inventory.receipts
  select (
    jsonb_populate_record(
      null::inventory.receipts,
      pg_temp.example()
      || jsonb_build_object('request_id', pg_temp.request(1), 'revision', 0, 'received_at', now())
      || jsonb_build_object('unit_identifier', 'U ' || name || char_length(value))
      || jsonb_build_object(name, value)
    )
  ).*
$$;

select plan(1 + 29 * 2 + 3 * 2 + 13);

select is((select count(*)::integer from field), 29, 'there are 29 columns of text');

select lives_ok(format('select pg_temp.insert_with(%L, %L)', name, 'x'), name || ' may have 1 character') from field;
select lives_ok(
  format('select pg_temp.insert_with(%L, repeat(%L, %s))', name, '🎁', most),
  format('%s may have %s characters', name, most)
)
from field;
select throws_ok(
  format('select pg_temp.insert_with(%L, repeat(%L, %s))', name, 'x', most + 1),
  '23514',
  format('new row for relation "receipts" violates check constraint "receipts_%s_check"', name),
  format('%s may not have %s characters', name, most + 1)
)
from field
where most = 255;
select throws_ok(
  format('select pg_temp.insert_with(%L, %L)', name, ''),
  '23514',
  format('new row for relation "receipts" violates check constraint "receipts_%s_check"', name),
  name || ' may not be empty'
)
from field
where most = 255;

select throws_ok(
  format('select pg_temp.deliver(%L)', jsonb_build_object('request', 2, name, null)),
  '23502',
  null,
  name || ' may not be null'
)
from unnest(array[
  'program_identifier', 'asn_number', 'from_identifier', 'from_type', 'to_identifier', 'to_type',
  'to_original_identifier', 'unit_identifier', 'sku', 'initial_condition', 'initial_channel', 'ot_user_login',
  'api_key_name'
]) as name;

select * from finish();
rollback;
