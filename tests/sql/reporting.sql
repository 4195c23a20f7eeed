-- The views of the schema reporting, as a member of receiptd_analyst sees them.

begin;
set local search_path = inventory, tap;
set local test.program = 'reports';
\ir include/deliver.psql

grant usage on schema tap to receiptd_analyst;

select plan(35);

-- Before a row is updated: this transaction could not use it afterwards.
create index on receipts (inventory.gtin(upc));
insert into warehouses values (7, 'Louisville', 'America/Kentucky/Louisville');
insert into condition_codes values ('A', 'opened');
select throws_ok(
  $$ insert into warehouses values (8, 'Nowhere', 'Nowhere/At All') $$, '23514', null, 'a time zone has to be one'
);

select from pg_temp.deliver(
  '{"request": 1, "unit_identifier": "U1", "to_identifier": 7, "carton_identifier": "C1", "initial_condition": "A"}',
  '{"request": 2, "unit_identifier": "U2", "to_identifier": 7, "carton_identifier": "C1", "upc": "12345678905"}',
  '{"request": 3, "unit_identifier": "U3", "to_identifier": 8, "carton_identifier": "C2", "upc": null}'
);
select from pg_temp.deliver('{"request": 4, "unit_identifier": "U1", "to_identifier": 7, "carton_identifier": "C1",
  "initial_condition": "B", "upc": null, "ot_user_login": "someone@example.com"}');
select from pg_temp.deliver('{"request": 5, "unit_identifier": "U1", "to_identifier": 7, "carton_identifier": "C1",
  "initial_condition": "B", "upc": null, "sku": "S2", "ot_user_login": "someone@example.com"}');
-- By hand; 3 o'clock at night in UTC is the day before in Louisville.
update receipts set sku = 'S3', received_at = '2026-03-02 03:00:00+00'
where program_identifier = 'reports' and unit_identifier = 'U1';
insert into rejected_receipts (request_id, api_key_name, status, message, errors, body, program_identifier, resolved_at, resolution)
values
  (pg_temp.request(6), 'test', 422, 'Validation Failed',
    '[{"field": "sku", "code": "missing_field"}, {"field": "from.type", "code": "empty"}]', '{}', 'reports', null, null),
  (pg_temp.request(7), 'test', 422, 'Validation Failed', '[{"field": "sku", "code": "missing_field"}]', '{}', 'reports',
    now(), 'seen'),
  (pg_temp.request(8), 'test', 400, 'A comma is missing at line 3, column 14', null, '{', null, null, null);
update rejected_receipts set deliveries = 6 where request_id = pg_temp.request(8);

set local role receiptd_analyst;
set local search_path = reporting, tap;

select results_eq(
  $$ select unit_identifier collate "default", warehouse, received_on, initial_condition, condition_meaning, sku
     from receipts where program_identifier = 'reports' and to_identifier = 7 order by unit_identifier $$,
  $$ select 'U1', 'Louisville', '2026-03-01'::date, 'B', null::text, 'S3'
     union all
     select 'U2', 'Louisville', (now() at time zone 'America/Kentucky/Louisville')::date, initial_condition, null, 'S123456'
     from receipts where program_identifier = 'reports' and unit_identifier = 'U3' $$,
  'receipts has units as reported last, by the day of their warehouse'
);
select results_eq(
  $$ select unit_identifier collate "default", revision, last_changed_at = coalesce(revised_at, received_at), revised_at is null
     from receipts where program_identifier = 'reports' and to_identifier = 7 order by unit_identifier $$,
  $$ values ('U1', 3, true, false), ('U2', 0, true, true) $$,
  'receipts has the revision, and when it was written last'
);
select is(
  (select last_changed_at from receipts where program_identifier = 'reports' and unit_identifier = 'U1'), now(),
  'a correction by hand counts as a change'
);
select is(
  (select warehouse from receipts where program_identifier = 'reports' and unit_identifier = 'U3'), '8',
  'a warehouse that is not filled in has its number'
);
select results_eq(
  $$ select units, cartons, first_received_at < last_received_at from asns where program_identifier = 'reports' $$,
  $$ values (3::bigint, 2::bigint, true) $$,
  'asns counts units and cartons'
);
select results_eq(
  $$ select warehouse, day < current_date - 2, units from receipts_by_day where program_identifier = 'reports' order by 1, 2 $$,
  $$ values ('8', false, 1::bigint), ('Louisville', false, 1), ('Louisville', true, 1) $$,
  'receipts_by_day'
);
select results_eq(
  $$ select revision, field, old_value, new_value, right(request_id::text, 2) from receipt_changes
     where program_identifier = 'reports' order by revision, field $$,
  $$ values
      (1, 'initial_condition', 'A', 'B', '04'),
      (1, 'upc', '12345678905', null, '04'),
      (2, 'sku', 'S123456', 'S2', '05'),
      (3, 'sku', 'S2', 'S3', null) $$,
  'receipt_changes has each field that changed, and by which delivery; not who received it'
);
select results_eq(
  $$ select field, reason, status::integer, rejections, unresolved, deliveries from rejections order by field $$,
  $$ values
      ('body', 'A comma is missing', 400, 1::bigint, 1::bigint, 6::bigint),
      ('from.type', 'empty', 422, 1, 1, 1),
      ('sku', 'missing_field', 422, 2, 1, 2) $$,
  'rejections by field and reason: problems, and deliveries with the repeats'
);

-- gtin

reset role;
set local search_path = inventory, tap;
create temp table example (n integer, upc text, expected text);
insert into example values
  (101, '12345678905', '00012345678905'),
  (102, '00012345678905', '00012345678905'),
  (103, '4006381333931', '04006381333931'),
  (104, '96385074', '00000096385074'),
  (105, '12345678906', null),
  (106, '012345678905 ', null),
  (107, '123456', null),
  (108, '123456789012345', null),
  (109, null, null);
select from example
where pg_temp.deliver(jsonb_build_object('request', n, 'unit_identifier', 'U' || n, 'upc', upc)) = array['created'];
select is(
  (select gtin from reporting.receipts where program_identifier = 'reports' and unit_identifier = 'U' || n),
  expected, 'gtin of ' || coalesce(upc, 'nothing')
)
from example;

-- Digits of another script, and numbers that a cast would take.
select is(inventory.gtin(upc), null, 'no gtin: ' || upc)
from unnest(array['٤٠٠٦٣٨١٣٣٣٩٣١', '-0000017', '+0000017', '1234567.0', '00000', E'12345678905\n']) as upc;
create function pg_temp.plan_of(query text) returns text language plpgsql as $$
declare
  plan json;
begin
  execute 'explain (verbose, format json) ' || query into plan;
  return plan::text;
end
$$;
set local role receiptd_analyst;
select doesnt_match(
  pg_temp.plan_of('select gtin from reporting.receipts'), 'gtin\(|SubPlan|Function Scan',
  'gtin is an expression of the query''s own: no function is called for a row'
);
reset role;
set local enable_seqscan = off;
set local role receiptd_analyst;
select matches(
  pg_temp.plan_of('select from reporting.receipts where gtin = ''00012345678905'''), 'receipts_gtin_idx',
  'an index on it is used, if there is one'
);
reset role;
select is(
  pg_temp.deliver('{"request": 110, "unit_identifier": "U110", "upc": "12345678905"}'), array['created'],
  'with it, the service stores receipts as before'
);
reset enable_seqscan;

-- silences: warehouses and programs that received a unit each half hour in some span of hours before now.

insert into warehouses (to_identifier, name, closed_on) values (71, 'Closed', current_date - 1), (72, 'Closing', current_date + 2);
insert into receipts
select (jsonb_populate_record(r, jsonb_build_object(
  'program_identifier', program, 'unit_identifier', gen_random_uuid(), 'to_identifier', warehouse,
  'received_at', now() - half_hours * interval '30 minutes'
))).*
from (
  values
    ('silent for an hour', 7, 960, 1),
    ('from the future', 7, 960, 1),
    ('from the future', 7, -8760, -8760),
    ('silent for months', 7, 2400, 1440),
    ('young', 7, 240, 1),
    ('in its first week', 7, 72, 24),
    ('young, silent for longer', 7, 192, 170),
    ('closed', 71, 960, 100),
    ('closing', 72, 960, 1),
    ('now and then', 7, 24, 20),
    ('now and then', 7, 192, 188),
    ('now and then', 7, 360, 356),
    ('now and then', 7, 1032, 1028)
) as span (program, warehouse, first, last)
cross join generate_series(2 * last, 2 * first) as half_hours
cross join receipts as r
where r.program_identifier = 'reports' and r.unit_identifier = 'U2';
-- Hours that are partly in a span count in proportion, which leaves a little open.
prepare silences_as_expected as
  select program_identifier, s.warehouse, (extract(epoch from silent_for) / 3600)::integer, coalesce(usual_units between least and most, false)
  from (
    values
      ('silent for an hour', 1.5, 2.5),
      ('from the future', 1.5, 2.5),
      ('silent for months', 2870, 2890),
      ('young', 1.5, 2.5),
      ('in its first week', 0, 0),
      ('young, silent for longer', 45, 47),
      ('closed', null, null),
      ('closing', 1.5, 2.5),
      ('now and then', 0, 1)
  ) as expected (program_identifier, least, most)
  join reporting.silences as s using (program_identifier)
  order by 1;
prepare silences_expected as
  values
    ('closing', 'Closing', 1, true),
    ('from the future', 'Louisville', 1, true),
    ('in its first week', 'Louisville', 24, true),
    ('now and then', 'Louisville', 20, true),
    ('silent for an hour', 'Louisville', 1, true),
    ('silent for months', 'Louisville', 1440, true),
    ('young', 'Louisville', 1, true),
    ('young, silent for longer', 'Louisville', 170, true);
select results_eq('silences_as_expected', 'silences_expected', 'silences: since when, and what is usual in such a time');
do $$
begin
  while inventory.refresh_totals_portion() loop
  end loop;
end
$$;
select results_eq('silences_as_expected', 'silences_expected', 'the same after a count');

-- Nobody sees who received a unit, nor reads anything else.

select is_empty(
  $$ select attrelid::regclass, attname from pg_attribute join pg_class on pg_class.oid = attrelid
     where relnamespace = 'reporting'::regnamespace and attname ~ 'login|extra|body|key_name' $$,
  'no view has personal data'
);
set local role receiptd_analyst;
select throws_ok(statement, '42501', null, 'an analyst may not: ' || statement)
from unnest(array[
  'select from inventory.receipts',
  'select from inventory.receipt_revisions',
  'select from inventory.rejected_receipts',
  'update inventory.warehouses set name = name',
  'create view reporting.more as select 1'
]) as statement;

select * from finish();
rollback;
