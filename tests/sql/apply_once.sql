-- A delivery that revised a receipt and is tried again, because its acknowledgement was lost, changes nothing, whatever
-- came after it, and is told so. tests/sql/run has what two sessions do at once.

set search_path = inventory, tap;
set test.program = 'apply_once';
\ir include/deliver.psql

select plan(25);

create function pg_temp.versions(unit text) returns text[] language sql as $$
  select array_agg(concat_ws(' ', version.revision, version.sku, right(version.request_id::text, 2)) order by revision)
  from (
    select revision, sku, coalesce(revised_request_id, case revision when 0 then request_id end)
    from inventory.receipts
    where program_identifier = 'apply_once' and unit_identifier = unit
    union all
    select revision, sku, request_id
    from inventory.receipt_revisions
    where program_identifier = 'apply_once' and unit_identifier = unit
  ) as version (revision, sku, request_id)
$$;

-- Others revised it in between

select is(pg_temp.deliver('{"request": 1, "unit_identifier": "U1", "sku": "S1"}'), '{created}', 'a receipt');
select is(pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "sku": "S2"}'), '{revised}', 'A revises it');
select is(pg_temp.deliver('{"request": 3, "unit_identifier": "U1", "sku": "S3"}'), '{revised}', 'B revises it');
select ctid, xmin from receipts where program_identifier = 'apply_once' and unit_identifier = 'U1' \gset before_
select is(
  pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "sku": "S2"}'),
  '{"revised before"}',
  'A is told that it revised'
);
select is(
  row(ctid, xmin)::text, row(:'before_ctid'::tid, :'before_xmin'::xid)::text, 'and has changed nothing, not even the row version'
)
from receipts
where program_identifier = 'apply_once' and unit_identifier = 'U1';
select is(
  pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "sku": "other"}'),
  '{"revised before"}',
  'the request id alone decides that, whatever the content'
);
select is(
  pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "sku": "S3"}'),
  '{"revised before"}',
  'also when the content is that of the row'
);

select is(pg_temp.deliver('{"request": 4, "unit_identifier": "U1", "sku": "S2"}'), '{revised}', 'C brings A''s content back');
select is(pg_temp.deliver('{"request": 5, "unit_identifier": "U1", "sku": "S5"}'), '{revised}', 'D revises it');
select is(
  array[
    pg_temp.deliver('{"request": 4, "unit_identifier": "U1", "sku": "S2"}'),
    pg_temp.deliver('{"request": 3, "unit_identifier": "U1", "sku": "S3"}'),
    pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "sku": "S2"}'),
    pg_temp.deliver('{"request": 5, "unit_identifier": "U1", "sku": "S5"}')
  ],
  '{{revised before},{revised before},{revised before},{revised before}}',
  'several revisions later all of them are known'
);
select is(
  pg_temp.deliver('{"request": 1, "unit_identifier": "U1", "sku": "S1"}'),
  '{"created before"}',
  'and so is the delivery that created it'
);
select is(pg_temp.versions('U1'), '{0 S1 01,1 S2 02,2 S3 03,3 S2 04,4 S5 05}', 'the history is exact');

-- A correction by hand in between

update receipts set sku = 'by hand' where program_identifier = 'apply_once' and unit_identifier = 'U1';
select is(
  pg_temp.deliver('{"request": 5, "unit_identifier": "U1", "sku": "S5"}'),
  '{"revised before"}',
  'a revision does not come back over a correction by hand'
);
select is(pg_temp.deliver('{"request": 10, "unit_identifier": "U2", "sku": "S1"}'), '{created}', 'another receipt');
update receipts set sku = 'by hand' where program_identifier = 'apply_once' and unit_identifier = 'U2';
select is(
  pg_temp.deliver('{"request": 10, "unit_identifier": "U2", "sku": "S1"}'),
  '{"created before"}',
  'nor does what created a receipt'
);
select is(
  pg_temp.deliver('{"request": 11, "unit_identifier": "U2", "sku": "S2"}'), '{revised}', 'a correction is revised'
);
update receipts set sku = 'by hand 2' where program_identifier = 'apply_once' and unit_identifier = 'U2';
select is(
  pg_temp.deliver('{"request": 11, "unit_identifier": "U2", "sku": "S2"}'), '{"revised before"}', 'and that is known, too'
);
select is(
  pg_temp.versions('U2'), '{0 S1 10,1 by hand,2 S2 11,3 by hand 2}', 'the history is exact with corrections in it'
);

-- Of one receipt, and in one batch with others

select is(
  pg_temp.deliver(
    '{"request": 2, "unit_identifier": "U1", "sku": "S2"}',
    '{"request": 12, "unit_identifier": "U2", "sku": "S3"}',
    '{"request": 20, "unit_identifier": "U3", "sku": "S1"}'
  ),
  '{revised before,revised,created}',
  'one that is not applied takes no others along'
);
select is(
  pg_temp.deliver('{"request": 2, "unit_identifier": "U2", "sku": "S4"}'),
  '{revised}',
  'what a delivery did to one receipt says nothing of another'
);

-- What it costs

begin;
set local track_functions = 'all';
create function pg_temp.calls() returns text language sql as $$
  select string_agg(funcname || ' ' || calls, ', ' order by funcname)
  from pg_stat_xact_user_functions
  where schemaname = 'inventory' and funcname = 'has_revised'
$$;
select is(
  array[
    pg_temp.deliver('{"request": 30, "unit_identifier": "U4", "sku": "S1"}'),
    pg_temp.deliver('{"request": 31, "unit_identifier": "U4", "sku": "S1"}'),
    pg_temp.deliver('{"request": 32, "unit_identifier": "U4", "sku": "S2"}'),
    pg_temp.deliver('{"request": 33, "unit_identifier": "U4", "sku": "S2"}'),
    pg_temp.deliver('{"request": 34, "unit_identifier": "U4", "sku": "S3"}')
  ],
  '{{created},{unchanged},{revised},{unchanged},{revised}}',
  'a receipt with its first two revisions'
);
select is(pg_temp.calls(), null, 'has not looked into the history');
select is(pg_temp.deliver('{"request": 35, "unit_identifier": "U4", "sku": "S4"}'), '{revised}', 'the third one');
select is(pg_temp.calls(), 'has_revised 1', 'looks once');
update receipts set sku = 'by hand' where program_identifier = 'apply_once' and unit_identifier = 'U4';
select is(pg_temp.calls(), 'has_revised 1', 'and a correction by hand does not');
commit;

select * from finish();
delete from receipts where program_identifier = 'apply_once';
