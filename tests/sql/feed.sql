-- The feed, as one session sees it; feed.bash has several.

set test.program = 'feed';
\ir include/deliver.psql
set search_path = inventory, tap;

-- Pages of the feed from a cursor on, until there are no more: key and change of each row, sorted, and the last cursor.
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
      if change.cursor < cursor collate "C" then
        raise exception '% is after %', change.cursor, cursor;
      end if;
      told := told || concat_ws(' ', change.unit_identifier, change.change, (change.receipt).sku);
      cursor := change.cursor;
    end loop;
  end loop;
  told := array(select unnest(told) collate "C" order by 1);
end
$$;

create temp table at as select inventory.changes_begin() as cursor;
create temp table begun as select * from at;
create temp table tests as select plan(76) as line;

select from pg_temp.deliver('{"request": 1, "unit_identifier": "U1"}', '{"request": 2, "unit_identifier": "U2"}',
  '{"request": 3, "unit_identifier": "U3"}');
select from pg_temp.deliver('{"request": 4, "unit_identifier": "U1", "sku": "S1"}', '{"request": 5, "unit_identifier": "U2"}');
update receipts set received_at = received_at - interval '1 hour' where program_identifier = 'feed' and unit_identifier = 'U3';

select * from tests;
select is((pg_temp.follow(at.cursor, most)).told, array[
  'U1 written S1', 'U1 written S1', 'U2 written S123456', 'U3 written S123456', 'U3 written S123456'
], 'created, revised, and written by hand, in pages of ' || most)
from at cross join unnest(array[1, 2, 3, 1000, 2147483647]) as most;

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
select is(count(*)::integer, 2, 'the first page') from page;
delete from receipts where program_identifier = 'feed' and unit_identifier in (select unit_identifier from page);
create temp table expected as
select array(
  select concat_ws(' ', unit_identifier, case when unit_identifier in (select unit_identifier from page) then 'deleted' else 'written S123456' end)
  from unnest(array['V1', 'V2', 'V3', 'V4']) as unit_identifier
) as told;
select is((pg_temp.follow(cursor, 2)).told, expected.told, 'the next ones')
from expected cross join (select max(cursor) as cursor from page) as last;
select is((pg_temp.follow(cursor, 2)).told, expected.told, 'a reader who had not got that far hears of the deletion too')
from at cross join expected;

-- A key is told with its state now.
update at set cursor = (pg_temp.follow(at.cursor, 1000)).cursor;
begin;
delete from receipts where program_identifier = 'feed' and unit_identifier = 'U3';
select from pg_temp.deliver('{"request": 15, "unit_identifier": "U3", "sku": "again"}');
commit;
select is((pg_temp.follow(cursor, 1)).told, array['U3 written again'], 'deleted and created again in one transaction') from at;
begin;
select from pg_temp.deliver('{"request": 16, "unit_identifier": "W1"}');
savepoint undone;
delete from receipts where program_identifier = 'feed' and unit_identifier = 'U3';
rollback to undone;
savepoint kept;
select from pg_temp.deliver('{"request": 17, "unit_identifier": "W2"}');
release kept;
delete from receipts where program_identifier = 'feed' and unit_identifier = 'W1';
commit;
select is((pg_temp.follow(cursor, 1)).told, array['U3 written again', 'W1 deleted', 'W2 written S123456'],
  'savepoints, and a receipt that its own transaction deletes')
from at;

update at set cursor = (pg_temp.follow(at.cursor, 1000)).cursor;
select from pg_temp.deliver('{"request": 18, "unit_identifier": "W\"1 +:é"}', '{"request": 19, "unit_identifier": "W2 \n"}');
select is((pg_temp.follow(cursor, 1)).told, array['W"1 +:é written S123456', E'W2 \n written S123456'], 'keys of all kinds')
from at;

-- Cursors sort as text, whatever the collation.
select is(
  array(select f.cursor from changes_since(begun.cursor) with ordinality as f order by f.ordinality),
  array(select f.cursor from changes_since(begun.cursor) as f order by f.cursor collate "C"),
  'cursors sort as text'
)
from begun;
select matches(f.cursor, '^[0-9a-f]{16}-[0-9a-f]{16}-[0-9a-f]{16}$', 'and consist of digits')
from begun cross join lateral (select max(f.cursor) as cursor from changes_since(begun.cursor) as f) as f;

-- Rows that are brought back.
update at set cursor = (pg_temp.follow(at.cursor, 1000)).cursor;
create temp table backup as
select * from receipts where program_identifier = 'feed' and unit_identifier in ('U1', 'U2');
delete from receipts where program_identifier = 'feed' and unit_identifier in ('U1', 'U2');
update at set cursor = (pg_temp.follow(at.cursor, 1000)).cursor;
insert into receipts select * from backup;
select is((pg_temp.follow(cursor, 10)).told, array['U1 written S1', 'U2 written S123456'], 'rows that are copied back are told') from at;
update at set cursor = (pg_temp.follow(at.cursor, 1000)).cursor;
set session_replication_role = replica;
delete from receipts where program_identifier = 'feed' and unit_identifier = 'U1';
update receipts set sku = 'S9', revision = revision + 1 where program_identifier = 'feed' and unit_identifier = 'U2';
insert into receipts select * from backup where unit_identifier = 'U1';
set session_replication_role = origin;
select is((pg_temp.follow(cursor, 10)).told, array['U1 written S1', 'U1 written S1', 'U2 written S9'], 'also where a session replicates') from at;
delete from receipt_revisions where program_identifier = 'feed' and unit_identifier = 'U1';

-- What is no cursor, or none for this feed.
select throws_ok(format('select from inventory.changes_since(%L)', wrong), '22023', null, 'no cursor: ' || coalesce(wrong, 'null'))
from unnest(array[null, '', 'x', '1/1:2', '7412345678901234567/1:123456', repeat('f', 50), repeat('0', 50)]) as wrong;
select throws_ok(format('select from %s.changes_since(inventory.changes_begin(), %s)', schema, most), '22023', null, most || ' rows are no page')
from unnest(array['0', '-1', '-2147483648', 'null']) as most cross join unnest(array['inventory', 'reporting']) as schema;
select throws_ok(format('select from inventory.changes_since(%L)', wrong), '55000', null, 'refused: ' || what)
from at
cross join lateral (
  values
    ('another feed', regexp_replace(cursor, '^.{16}', repeat('0', 16))),
    ('ahead', regexp_replace(cursor, '-.{16}-', '-0fffffffffffffff-'))
) as cursors (what, wrong);

-- A cursor is refused after anything that can have hidden changes. Each case is undone.
create function pg_temp.after(variadic statements text[]) returns text language plpgsql as $$
declare
  cursor constant text := inventory.changes_begin();
  statement text;
begin
  foreach statement in array statements loop
    execute statement;
  end loop;
  begin
    perform from inventory.changes_since(cursor);
    raise 'accepted' using errcode = 'UNDO1';
  exception
    when object_not_in_prerequisite_state then
      raise '%', substring(sqlerrm from '^changes since the cursor|^the feed misses changes') using errcode = 'UNDO1';
  end;
exception
  when sqlstate 'UNDO1' then
    return sqlerrm;
end
$$;
\set tell_deleted 'create trigger receipts_tell_deleted after delete on inventory.receipts referencing old table as gone for each statement execute function inventory.tell_deleted()'
select is(pg_temp.after(variadic statements), heard, array_to_string(statements, '; '))
from (
  values
    ('changes since the cursor', array['truncate inventory.receipts cascade']),
    ('the feed misses changes', array['alter table inventory.receipts disable trigger receipts_tell_written']),
    ('the feed misses changes', array['alter table inventory.receipts enable replica trigger receipts_stamp']),
    ('the feed misses changes', array['alter table inventory.receipts disable trigger receipts_keep_revision']),
    ('the feed misses changes', array['drop trigger receipts_tell_deleted on inventory.receipts']),
    ('changes since the cursor', array[
      'alter table inventory.receipts disable trigger receipts_tell_written',
      'alter table inventory.receipts enable always trigger receipts_tell_written'
    ]),
    ('changes since the cursor', array[
      'alter table inventory.receipts disable trigger all',
      'alter table inventory.receipts enable trigger all'
    ]),
    ('changes since the cursor', array['drop trigger receipts_tell_deleted on inventory.receipts', :'tell_deleted']),
    ('changes since the cursor', array['update inventory.feed_state set token = gen_random_uuid()']),
    ('changes since the cursor', array['delete from inventory.feed_state']),
    ('changes since the cursor', array['truncate inventory.feed_events']),
    ('accepted', array['analyze inventory.receipts']),
    ('accepted', array['comment on table inventory.receipts is ''a table''']),
    ('accepted', array['alter table inventory.receipts add column own text']),
    ('accepted', array['reindex table inventory.receipts']),
    ('accepted', array[
      'create trigger own after insert on inventory.receipts for each row execute function inventory.tell_written()'
    ])
) as event (heard, statements);

-- Analysts follow it too, without personal data.
update at set cursor = (pg_temp.follow(at.cursor, 1000)).cursor;
select from pg_temp.deliver('{"request": 21, "unit_identifier": "X1"}', '{"request": 22, "unit_identifier": "X2"}');
delete from receipts where program_identifier = 'feed' and unit_identifier = 'X2';
create temp table analyzed (cursor text, change text, unit_identifier text, sku text);
grant all on analyzed to receiptd_analyst;
grant select on at to receiptd_analyst;
set role receiptd_analyst;
insert into analyzed
select c.cursor, c.change, c.unit_identifier, r.sku
from at
cross join lateral reporting.changes_since(at.cursor, 100) as c
left join reporting.receipts as r using (program_identifier, asn_number, unit_identifier);
reset role;
select set_eq($$ select unit_identifier, change, sku from analyzed $$, $$ values ('X1', 'written', 'S123456'), ('X2', 'deleted', null) $$,
  'an analyst follows with reporting.receipts');
select is((pg_temp.follow((select max(cursor) from analyzed), 10)).told, '{}', 'with the same cursors');

-- Trimming: events that are old and counted go, and cursors from before them are refused.
grant execute on all functions in schema tap to receiptd_purger;
call refresh_totals();
update at set cursor = changes_begin();
delete from receipts where program_identifier = 'feed' and unit_identifier = 'X1';
create temp table behind as select changes_begin() as cursor;
update feed_events set written_at = now() - interval '40 days';
grant select on at, behind to receiptd_purger;
set role receiptd_purger;
select throws_ok(format('select inventory.trim_portion(%L, 10)', age), '22023', null, 'nothing this young is trimmed: ' || age)
from unnest(array['23 hours', '0', '-1 day', '-1000 years 360001 days']) as age;
select throws_ok(format('select inventory.purge_portion(%s)', ages), '22023', null, 'nor purged: ' || ages)
from unnest(
  array[
    $$ interval '23 hours', null, 1 $$,
    $$ interval '-1000 years 360001 days', null, 1 $$,
    $$ null, interval '-1000 years 360001 days', 1 $$
  ]
) as ages;
call inventory.trim_feed(null);
call inventory.trim_feed(interval '41 days');
reset role;
select is(count(*)::integer, 1, 'younger events stay')
from feed_events where unit_identifier = 'X1' and change = 'deleted';
set role receiptd_purger;
call inventory.trim_feed(interval '30 days', 2);
reset role;
select is(array_agg(unit_identifier), array['X1'], 'and so does what totals have not counted') from feed_events;
select is((pg_temp.follow(cursor, 10)).told, array['X1 deleted'], 'a cursor behind the trimmed events is good') from at;
select throws_ok(format('select from changes_since(%L)', cursor), '55000', null, 'one from before them is refused') from begun;
call refresh_totals();
set role receiptd_purger;
call inventory.trim_feed(interval '30 days');
reset role;
select is_empty('select from feed_events', 'once it is counted, it goes');
select throws_ok(format('select from changes_since(%L)', cursor), '55000', null, 'and its cursor with it') from at;
select is((pg_temp.follow(cursor, 10)).told, '{}', 'what is behind it stays good') from behind;

-- History that is deleted by hand takes what the feed would tell with it; history that goes with its receipt does not.
select from pg_temp.deliver('{"request": 91, "unit_identifier": "H1"}');
select from pg_temp.deliver('{"request": 92, "unit_identifier": "H2"}');
create temp table history as select changes_begin() as cursor;
select from pg_temp.deliver('{"request": 93, "unit_identifier": "H1", "sku": "2"}');
select from pg_temp.deliver('{"request": 94, "unit_identifier": "H2", "sku": "2"}');
delete from receipts where unit_identifier = 'H1';
select is((pg_temp.follow(cursor, 10)).told, array['H1 deleted', 'H2 written 2'], 'history goes with its receipt') from history;
create temp table later as select changes_begin() as cursor;
delete from receipt_revisions where unit_identifier = 'H2';
select throws_ok(format('select from changes_since(%L)', cursor), '55000', null, 'history is deleted: an earlier cursor is refused')
from history;
select is((pg_temp.follow(cursor, 10)).told, '{}', 'a later one is good') from later;
select isnt_empty('select from totals_state where counted_in is null', 'and totals, which had not counted it, count everything');
call refresh_totals();
select from pg_temp.deliver('{"request": 95, "unit_identifier": "H2", "sku": "3"}');
truncate receipt_revisions;
select throws_ok(format('select from changes_since(%L)', cursor), '55000', null, 'history is truncated: so is every earlier one') from later;
delete from receipts where unit_identifier = 'H2';
delete from feed_events where unit_identifier in ('H1', 'H2');
call refresh_totals();
update behind set cursor = changes_begin();

-- Events of another cluster, which a dump has brought, are trimmed by their age alone.
insert into feed_events (change, program_identifier, asn_number, unit_identifier, written_in, written_at)
values ('deleted', 'feed', 'A', 'elsewhere', 1::bigint << 50, now() - interval '40 days');
set role receiptd_purger;
call inventory.trim_feed(interval '30 days');
reset role;
select is_empty('select from feed_events', 'an event of another cluster is trimmed');
select is((pg_temp.follow(cursor, 10)).told, '{}', 'and refuses nobody') from behind;

-- By hand it is the same.
select from pg_temp.deliver('{"request": 23, "unit_identifier": "X3"}');
delete from receipts where program_identifier = 'feed';
select isnt(totals_counted_in(), null, 'totals are in use');
delete from feed_events;
select is(totals_counted_in(), null, 'and count everything after what they lack is deleted by hand');
select throws_ok(format('select from changes_since(%L)', cursor), '55000', null, 'cursors from before it are refused') from behind;

delete from receipts where program_identifier = 'feed';
select * from finish();
