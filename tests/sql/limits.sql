-- A text of the key is not empty, and the three together have as many bytes as their index takes; every other text is as long
-- as a body may be.

begin;
set local search_path = inventory, tap;
set local test.program = 'limits';
\ir include/deliver.psql

create temp table text_column as
select
  attname as name,
  attname in ('program_identifier', 'asn_number', 'unit_identifier') as is_key
from pg_attribute
where attrelid = 'receipts'::regclass and attnum > 0 and not attisdropped and atttypid = 'text'::regtype;

create function pg_temp.insert_with(fields jsonb) returns void language sql as $$
  insert into inventory.receipts
  select (
    jsonb_populate_record(
      null::inventory.receipts,
      pg_temp.example()
      || jsonb_build_object('request_id', pg_temp.request(1), 'revision', 0, 'received_at', now())
      || jsonb_build_object('unit_identifier', 'U ' || md5(fields::text))
      || fields
    )
  ).*
$$;

-- Text that PostgreSQL cannot compress.
create function pg_temp.noise(bytes integer) returns text language sql as $$
  select left(string_agg(md5(n::text), '' order by n), bytes)
  from generate_series(1, bytes / 32 + 1) as n
$$;

create temp table required_column as
select name from field where required
union all
values ('api_key_name');

select plan(
  (select count(*) + count(*) filter (where not is_key) + 3 * count(*) filter (where is_key) from text_column)::integer
  + (select count(*) from required_column)::integer
  + 3
);

select lives_ok(
  format('select pg_temp.insert_with(%L)', jsonb_build_object(name, 'x')),
  name || ' may have 1 character'
)
from text_column;
select lives_ok(
  format('select pg_temp.insert_with(jsonb_build_object(%L, pg_temp.noise(1000000)))', name),
  name || ' may have a million characters'
)
from text_column
where not is_key;
select lives_ok(
  format(
    'select pg_temp.insert_with(jsonb_build_object(%L, %L, %L, %L, %L, pg_temp.noise(2672)))',
    others[1], 'p', others[2], 'a', name
  ),
  name || ' may have what the two others leave of 2,674 bytes'
)
from text_column
cross join lateral (select array_agg(o.name::text) from text_column as o where o.is_key and o.name <> text_column.name) as o (others)
where is_key;
select throws_ok(
  format('select pg_temp.insert_with(jsonb_build_object(%L, pg_temp.noise(2800)))', name),
  '54000',
  null,
  name || ' may not have more than its index takes'
)
from text_column
where is_key;
select throws_ok(
  format('select pg_temp.insert_with(%L)', jsonb_build_object(name, '')),
  '23514',
  'new row for relation "receipts" violates check constraint "receipts_unit_identifier_check"',
  name || ' may not be empty'
)
from text_column
where is_key;

-- The longest key is revised and counted like any other.
select lives_ok(
  $$
    select pg_temp.insert_with(
      jsonb_build_object('program_identifier', 'longest', 'asn_number', 'a', 'unit_identifier', pg_temp.noise(2666))
    )
  $$,
  'the longest key is stored'
);
select lives_ok(
  $$update inventory.receipts set sku = pg_temp.noise(100000) where program_identifier = 'longest'$$,
  'the longest key is revised'
);
select is(
  (
    select octet_length(program_identifier || asn_number || unit_identifier)
    from receipt_revisions
    where program_identifier = 'longest'
  ),
  2674,
  'its history has it'
);

select throws_ok(
  format('select pg_temp.deliver(%L)', jsonb_build_object('request', 2, name, null)),
  '23502',
  null,
  name || ' may not be null'
)
from required_column;

select * from finish();
rollback;
