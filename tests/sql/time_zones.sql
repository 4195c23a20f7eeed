-- A time zone that the server no longer knows: the days of that warehouse are UTC, and nobody else's report fails.

begin;
set local search_path = inventory, tap;
set local test.program = 'zones';
\ir include/deliver.psql

-- refresh_totals, in this transaction.
create procedure pg_temp.refresh() language plpgsql as $$
begin
  while inventory.refresh_totals_portion() loop
  end loop;
end
$$;

select plan(16);

select throws_ok(
  $$ insert into warehouses values (1, 'Nowhere', 'Mars/Olympus') $$, '23514', null, 'a time zone that there is not is refused'
);
insert into warehouses values (1, 'Louisville', 'America/Kentucky/Louisville');
select is((select day_zone from day_zones where to_identifier = 1), 'America/Kentucky/Louisville', 'days are those of the time zone');
select throws_ok(
  $$ update warehouses set time_zone = 'Mars/Olympus' where to_identifier = 1 $$, '23514', null, 'nor can it become one'
);
select lives_ok($$ update warehouses set name = 'Louisville 2' where to_identifier = 1 $$, 'the name can change');

-- As after an upgrade of the operating system, or restored from another one.
select pg_get_constraintdef(oid) as definition from pg_constraint where conname = 'warehouses_time_zone_check' \gset
select matches(:'definition'::text, 'NOT VALID$', 'a dump has the check behind the rows');
alter table warehouses drop constraint warehouses_time_zone_check;
insert into warehouses values (2, 'Chicago', 'Mars/Olympus');
select lives_ok('alter table warehouses add constraint warehouses_time_zone_check ' || :'definition', 'which it can be put back behind');
select is((select day_zone from day_zones where to_identifier = 2), null, 'its days are UTC, as without an entry');
select results_eq(
  'select * from unknown_time_zones()', $$ values (2::bigint, 'Chicago', 'Mars/Olympus') $$, 'it is reported'
);
set local role receiptd_writer;
select lives_ok('select * from inventory.unknown_time_zones()', 'to the service too');
reset role;

select is(pg_temp.deliver('{"request": 1, "unit_identifier": "U1", "to_identifier": 1}'), '{created}', 'a receipt there');
select is(pg_temp.deliver('{"request": 2, "unit_identifier": "U2", "to_identifier": 2}'), '{created}', 'and one here');
update receipts set received_at = '2026-06-01 03:00:00+00' where program_identifier = 'zones';
prepare days as
  select to_identifier, received_on
  from reporting.receipts
  where program_identifier = 'zones'
  order by 1;
select results_eq('days', $$ values (1::bigint, '2026-05-31'::date), (2, '2026-06-01') $$, 'each has its day');
select lives_ok('call pg_temp.refresh()', 'totals are counted');
select results_eq(
  $$ select to_identifier, day from reporting.receipts_by_day where program_identifier = 'zones' order by 1 $$,
  $$ values (1::bigint, '2026-05-31'::date), (2, '2026-06-01') $$,
  'by the same days'
);

-- The server stops knowing one that the table has: as if it had been known when the row was written.
create or replace function inventory.known_time_zone(time_zone text) returns text language sql immutable
set search_path = pg_catalog, pg_temp as $$ select 'UTC' $$;
select lives_ok('call pg_temp.refresh()', 'totals are counted again');
select results_eq(
  $$ select to_identifier, day, units from reporting.receipts_by_day where program_identifier = 'zones' and to_identifier = 1 $$,
  $$ values (1::bigint, '2026-06-01'::date, 1::bigint) $$,
  'by days of UTC'
);

select * from finish();
rollback;
