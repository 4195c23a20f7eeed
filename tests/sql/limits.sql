-- A text of the key has 1 to 255 characters, and every other one takes the 1,000 that the service lets through; a
-- character counts once, however many bytes it has.

begin;
set local search_path = inventory, tap;
set local test.program = 'limits';
\ir include/deliver.psql

create temp table text_column as
select
  attname as name,
  case when attname in ('program_identifier', 'asn_number', 'unit_identifier') then 255 else 1000 end as most
from pg_attribute
where attrelid = 'receipts'::regclass and attnum > 0 and not attisdropped and atttypid = 'text'::regtype;

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

create temp table required_column as
select name from field where required
union all
values ('api_key_name');

select plan(
  (select 2 * count(*) + 2 * count(*) filter (where most = 255) from text_column)::integer
  + (select count(*) from required_column)::integer
);

select lives_ok(format('select pg_temp.insert_with(%L, %L)', name, 'x'), name || ' may have 1 character') from text_column;
select lives_ok(
  format('select pg_temp.insert_with(%L, repeat(%L, %s))', name, '🎁', most),
  format('%s may have %s characters', name, most)
)
from text_column;
select throws_ok(
  format('select pg_temp.insert_with(%L, repeat(%L, %s))', name, 'x', most + 1),
  '23514',
  format('new row for relation "receipts" violates check constraint "receipts_%s_check"', name),
  format('%s may not have %s characters', name, most + 1)
)
from text_column
where most = 255;
select throws_ok(
  format('select pg_temp.insert_with(%L, %L)', name, ''),
  '23514',
  format('new row for relation "receipts" violates check constraint "receipts_%s_check"', name),
  name || ' may not be empty'
)
from text_column
where most = 255;

select throws_ok(
  format('select pg_temp.deliver(%L)', jsonb_build_object('request', 2, name, null)),
  '23502',
  null,
  name || ' may not be null'
)
from required_column;

select * from finish();
rollback;
