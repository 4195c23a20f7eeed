-- The feed, as one session sees it; feed.bash has several.

set test.program = 'feed';
\ir include/deliver.psql
set search_path = inventory, tap;

-- Pages of the feed from a cursor on, until there are no more: key and change of each row, and the last cursor.
create function pg_temp.follow(after text, most integer, out told text[], out cursor text) language plpgsql as $$
declare
  change record;
  got boolean = true;
begin
  told := '{}';
  cursor := after;
  while got loop
    got := false;
    for change in select * from inventory.changes_since(cursor, most) loop
      got := true;
      told := told || concat_ws(' ', change.unit_identifier, change.change, (change.receipt).sku);
      cursor := change.cursor;
    end loop;
  end loop;
end
$$;

create temp table at as select inventory.changes_begin() as cursor;
create temp table tests as select plan(19) as line;

select from pg_temp.deliver('{"request": 1, "unit_identifier": "U1"}', '{"request": 2, "unit_identifier": "U2"}',
  '{"request": 3, "unit_identifier": "U3"}');
select from pg_temp.deliver('{"request": 4, "unit_identifier": "U1", "sku": "S1"}', '{"request": 5, "unit_identifier": "U2"}');
update receipts set received_at = received_at - interval '1 hour' where program_identifier = 'feed' and unit_identifier = 'U3';

select * from tests;
select is((pg_temp.follow(at.cursor, most)).told, array[
  'U1 written S1', 'U2 written S123456', 'U3 written S123456', 'U1 written S1', 'U3 written S123456'
], 'created, revised, and written by hand, in pages of ' || most)
from at cross join unnest(array[1, 2, 3, 1000]) as most;

update at set cursor = (pg_temp.follow(at.cursor, 1000)).cursor;
select is((pg_temp.follow(cursor, 10)).told, '{}', 'behind the last row there is nothing') from at;
select from pg_temp.deliver('{"request": 6, "unit_identifier": "U2"}');
select is((pg_temp.follow(cursor, 10)).told, '{}', 'a re-delivery that changed nothing is no change') from at;

-- What was told and is deleted before the next page takes nothing with it.
begin;
select from pg_temp.deliver('{"request": 11, "unit_identifier": "V1"}', '{"request": 12, "unit_identifier": "V2"}');
select from pg_temp.deliver('{"request": 13, "unit_identifier": "V3"}', '{"request": 14, "unit_identifier": "V4"}');
commit;
create temp table page as select changed.* from at cross join lateral changes_since(at.cursor, 2) as changed;
select is(array_agg(unit_identifier), array['V1', 'V2'], 'the first page') from page;
delete from receipts where program_identifier = 'feed' and unit_identifier in ('V1', 'V2');
select is((pg_temp.follow(cursor, 2)).told, array['V3 written S123456', 'V4 written S123456', 'V1 deleted', 'V2 deleted'],
  'the next ones')
from (select max(cursor) as cursor from page where unit_identifier = 'V2') as last;
select is((pg_temp.follow(cursor, 2)).told, array['V3 written S123456', 'V4 written S123456', 'V1 deleted', 'V2 deleted'],
  'who had not got that far is told of the deletion all the same')
from at;

-- Deleted and made again in one transaction: the deletion is told first.
update at set cursor = (pg_temp.follow(at.cursor, 1000)).cursor;
begin;
delete from receipts where program_identifier = 'feed' and unit_identifier = 'V3';
select from pg_temp.deliver('{"request": 15, "unit_identifier": "V3", "sku": "again"}');
commit;
select is((pg_temp.follow(cursor, 1)).told, array['V3 deleted', 'V3 written again'], 'deleted and made again') from at;

select from pg_temp.deliver('{"request": 16, "unit_identifier": "W\"1 +:é"}', '{"request": 17, "unit_identifier": "W2"}');
select is((pg_temp.follow(cursor, 1)).told, array['V3 deleted', 'V3 written again', 'W"1 +:é written S123456', 'W2 written S123456'],
  'keys of all kinds')
from at;

-- What is no cursor, or not one of this cluster.
select throws_ok(format('select from inventory.changes_since(%L)', wrong), '22023', null, 'no cursor: ' || coalesce(wrong, 'null'))
from unnest(array[null, '', 'x', '1/1:2+3']) as wrong;
select throws_ok($$ select from inventory.changes_since(inventory.changes_begin(), 0) $$, '22023', null, 'no rows are no page');
select throws_ok(format('select from inventory.changes_since(%L)', wrong), '55000', null, 'another cluster or time: ' || what)
from (
  select 'system' as what, '1/1:3' as wrong
  union all
  select 'timeline', regexp_replace(cursor, '/\d+', '/99') from at
  union all
  select 'ahead', regexp_replace(cursor, ':.*', ':999999999999') from at
) as cursors;

delete from receipts where program_identifier = 'feed';
delete from feed_events;
select * from finish();
