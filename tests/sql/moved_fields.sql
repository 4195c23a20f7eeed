-- A field that the vendor adds gets a column, and moves there out of extra: what was stored before and what comes after are
-- the same content. Programs with and without the field may deliver side by side.

set search_path = inventory, tap;
set test.program = 'moved';
set client_min_messages = warning;
\ir include/deliver.psql
\ir include/newer.psql

create function pg_temp.deliver_older(request integer, unit text, extra jsonb, more jsonb default '{}') returns text language sql as $$
  select (pg_temp.deliver(jsonb_build_object('request', request, 'unit_identifier', unit, 'extra', extra) || more))[1]
$$;

select plan(79);

select is((select array_agg(name order by name) from unnest(inventory.content_columns()) as name),
  (select array_agg(name order by name) from (select name from pg_temp.content() as name union values ('program_identifier'), ('asn_number'), ('unit_identifier')) as c),
  'content is what the worker fills in, but for the key name and the request id');

-- Before: no program knows the field.

select is(pg_temp.deliver_older(1, 'U1', '{"color": "red"}'), 'created', 'a field that nobody knows goes into extra');
select is(pg_temp.deliver_older(2, 'U2', '{"color": 7, "to": {"dock": 1}}'), 'created', 'a number there');
select is(pg_temp.deliver_older(3, 'U3', '{"color": {"a": 1}}'), 'created', 'something else there');
select is(pg_temp.deliver_older(4, 'U4', '{"color": " ", "b": null}'), 'created', 'blank');
select is(pg_temp.deliver_older(5, 'U5', '{"color": "old"}'), 'created', 'one with');
select is(pg_temp.deliver_older(6, 'U5', '{"color": "red"}'), 'revised', 'a history');
select is(pg_temp.deliver_older(7, 'U6', '{"color": 123456789012345678901234567890}'), 'created', 'a long number');
select is(pg_temp.deliver_older(25, 'U90', '{"color": 1.3520e3}'), 'created', 'an integer with a fraction and an exponent');

select hasnt_trigger('receipts', 'receipts_fold_extra', 'deliveries do not pay for moves while no field is moved');

-- Two columns: somebody's own, until the field is added.

alter table inventory.receipts add column color text;
alter table inventory.receipt_revisions add column color text;
select is((select string_agg(problem, ',') from schema_problems()), null, 'two new columns are no problem');
update receipts set color = 'by hand' where program_identifier = 'moved' and unit_identifier = 'U3';
update receipts set color = null where program_identifier = 'moved' and unit_identifier = 'U3';
select is_empty(
  $$ select from receipt_revisions where program_identifier = 'moved' and unit_identifier = 'U3' $$,
  'columns that a field might have are no content before it is added'
);

-- The column takes over.

begin;
set local role receiptd_owner;
select lives_ok($$ select inventory.add_field('color', '{color}') $$, 'the column takes over');
commit;
select trigger_is('receipts', 'receipts_fold_extra', 'fold_extra', 'revisions go through a trigger from then on');
select throws_ok($$ select inventory.end_move('color') $$, '55000', null, 'a move does not end before all rows are moved');
select throws_ok($$ select inventory.add_field('none', '{none}') $$, '42703', null, 'a column that is not there cannot');
select is(pg_temp.deliver_older(8, 'U1', '{"color": "red"}'), 'unchanged', 'not moved yet, by an older program: unchanged');
select is(pg_temp.deliver_newer(9, 'U1', 'red'), 'unchanged', 'by a newer one: unchanged');
select is(pg_temp.deliver_newer(10, 'U2', '7', '{"extra": {"to": {"dock": 1}}}'), 'unchanged', 'a number that was sent is the text');
select is(pg_temp.deliver_newer(11, 'U6', '123456789012345678901234567890'), 'unchanged', 'digit for digit');
select is(pg_temp.deliver_newer(26, 'U90', '1352'), 'unchanged', 'an integer, however it was written');
select is(pg_temp.deliver_older(27, 'U90', '{"color": 1352.0}'), 'unchanged', 'by an older program too');
select is(pg_temp.deliver_newer(12, 'U4', null, '{"extra": {"b": null}}'), 'unchanged', 'blank is absent');
select is(pg_temp.deliver_newer(13, 'U5', 'blue'), 'revised', 'another value is a revision');
select results_eq(
  $$ select revision, color, extra from receipt_revisions where program_identifier = 'moved' and unit_identifier = 'U5' order by 1 $$,
  $$ values (0, null, '{"color": "old"}'::jsonb), (1, 'red', null) $$,
  'and what it replaced is kept with the value in the column'
);
select is(pg_temp.deliver_older(14, 'U5', '{"color": "green"}'), 'revised', 'an older program revises it');
select results_eq(
  $$ select color, extra from receipts where program_identifier = 'moved' and unit_identifier = 'U5' $$,
  $$ values ('green', null::jsonb) $$,
  'in the column'
);
select is(pg_temp.deliver_older(15, 'U5', '{"color": "green"}'), 'unchanged', 'delivers it once more');
select is(pg_temp.deliver_newer(16, 'U5', 'green'), 'unchanged', 'and so does a newer one');
select is(pg_temp.deliver_newer(17, 'U7', 'red'), 'created', 'a newer program creates one');
select is(pg_temp.deliver_older(18, 'U7', '{"color": "red"}'), 'unchanged', 'an older one knows it');
select is(pg_temp.deliver_older(19, 'U7', '{"color": null, "a": 1}'), 'revised', 'null in extra');
select results_eq(
  $$ select color, extra from receipts where program_identifier = 'moved' and unit_identifier = 'U7' $$,
  $$ values (null, '{"a": 1}'::jsonb) $$,
  'means that there is no value'
);
select is(pg_temp.deliver_older(20, 'U8', '{"color": "red"}'), 'created', 'an older one creates one');
select is(pg_temp.deliver_newer(21, 'U8', 'red'), 'unchanged', 'which a newer one knows');
select is(pg_temp.deliver_newer(22, 'U3', null, '{"extra": {"color": {"a": 1}}}'), 'unchanged', 'what is no text stays');

-- Moving is no revision, and the feed reports it.

create temp table before as
select unit_identifier, revision, revised_at, request_id, revised_request_id, received_at, created_in
from receipts
where program_identifier = 'moved';
select inventory.changes_begin() as cursor \gset
call inventory.move_field('color', 2);
select set_eq(
  $$
    select unit_identifier, revision, revised_at, request_id, revised_request_id, received_at, created_in
    from receipts
    where program_identifier = 'moved'
  $$,
  'select * from before',
  'moving rows is no revision'
);
select set_eq(
  format($$ select distinct unit_identifier from changes_since(%L) where program_identifier = 'moved' $$, :'cursor'),
  $$ values ('U1'), ('U2'), ('U4'), ('U6'), ('U8'), ('U90') $$,
  'the feed reports each row that was moved, and no other'
);
select results_eq(
  $$ select unit_identifier collate "default", color, extra from receipts where program_identifier = 'moved' order by 1 $$,
  $$
    values
      ('U1', 'red', null),
      ('U2', '7', '{"to": {"dock": 1}}'::jsonb),
      ('U3', null, '{"color": {"a": 1}}'),
      ('U4', null, '{"b": null}'),
      ('U5', 'green', null),
      ('U6', '123456789012345678901234567890', null),
      ('U7', null, '{"a": 1}'),
      ('U8', 'red', null),
      ('U90', '1352', null)
  $$,
  'each value is in its place'
);
select results_eq(
  $$ select revision, color, extra from receipt_revisions where program_identifier = 'moved' and unit_identifier = 'U5' order by 1 $$,
  $$ values (0, 'old', null::jsonb), (1, 'red', null), (2, 'blue', null) $$,
  'in the history too'
);
select is((select moved_at is not null from moved_fields), true, 'it is done');
select is((select string_agg(problem, ',') from schema_problems()), null, 'no problem meanwhile');
select is(pg_temp.deliver_older(30, 'U1', '{"color": "red"}'), 'unchanged', 'an older program still finds the same');
select is(pg_temp.deliver_newer(31, 'U1', 'red'), 'unchanged', 'and a newer one');
update receipts set color = 'by hand' where program_identifier = 'moved' and unit_identifier = 'U1';
select results_eq(
  $$ select r.revision, r.color, h.color from receipts as r join receipt_revisions as h using (program_identifier, unit_identifier)
    where program_identifier = 'moved' and unit_identifier = 'U1' $$,
  $$ values (1, 'by hand', 'red') $$,
  'a correction by hand is a revision'
);
begin;
set local role receiptd_owner;
select lives_ok($$ select inventory.end_move('color') $$, 'the move ends');
select is_empty('select from moved_fields', 'nothing is left of it');
select hasnt_trigger('receipts', 'receipts_fold_extra', 'and deliveries do not pay for it');
select is((select string_agg(problem, ',') from schema_problems()), null, 'which is no problem');
rollback;

-- And back.

begin;
set local role receiptd_owner;
select throws_ok($$ select inventory.remove_field('color') $$, '55000', null, 'a column with values is not dropped');
select inventory.return_field('color', '{color}') \g /dev/null
commit;
select throws_ok($$ select inventory.remove_field('color') $$, '55000', null, 'nor before all were moved');
select is(pg_temp.deliver_newer(40, 'U1', 'by hand'), 'unchanged', 'on the way back a newer program finds the same');
select is(pg_temp.deliver_older(41, 'U1', '{"color": "by hand"}'), 'unchanged', 'and so does an older one');
select is(pg_temp.deliver_newer(42, 'U9', 'red'), 'created', 'a newer one creates one');
select is(pg_temp.deliver_newer(43, 'U8', 'blue'), 'revised', 'and revises one');
select results_eq(
  $$ select unit_identifier collate "default", color, extra from receipts where program_identifier = 'moved' and unit_identifier in ('U8', 'U9') order by 1 $$,
  $$ values ('U8', null, '{"color": "blue"}'::jsonb), ('U9', null, '{"color": "red"}') $$,
  'whose values are in extra'
);
select is(pg_temp.deliver_newer(44, 'U9', 'red'), 'unchanged', 'where it finds them');
select is(pg_temp.deliver_older(48, 'U5', '{"color": null}'), 'revised', 'an older one takes a value away');
select results_eq(
  $$ select color, extra from receipts where program_identifier = 'moved' and unit_identifier = 'U5' $$,
  $$ values (null, '{"color": null}'::jsonb) $$,
  'which does not come back out of the column'
);
select is((select string_agg(problem, ',') from schema_problems()), null, 'no problem meanwhile either');
call inventory.move_field('color');
select is_empty('select from receipts where color is not null', 'the column is empty');
select is_empty('select from receipt_revisions where color is not null', 'and that of the history');
select is(
  (select extra from receipt_revisions where program_identifier = 'moved' and unit_identifier = 'U5' and revision = 1),
  '{"color": "red"}', 'whose values are in extra'
);
begin;
set local role receiptd_owner;
select lives_ok($$ select inventory.remove_field('color') $$, 'the column goes');
commit;
select hasnt_column('receipts', 'color', 'for good');
select hasnt_column('receipt_revisions', 'color', 'in the history too');
select is((select direction from moved_fields), 'returned', 'it is known that there was one');
select is(pg_temp.deliver_older(45, 'U2', '{"color": 7, "to": {"dock": 1}}'), 'unchanged', 'what was a number before it was a text is the same');
select is(pg_temp.deliver_older(46, 'U4', '{"color": " ", "b": null}'), 'unchanged', 'and so is what was blank');
select is(pg_temp.deliver_older(47, 'U2', '{"color": 8}'), 'revised', 'a new value is a revision');
select is((select extra from receipts where program_identifier = 'moved' and unit_identifier = 'U2'), '{"color": 8}', 'and is kept as it was sent');
select is((select string_agg(problem, ',') from schema_problems()), null, 'and there is no problem');
select is(pg_temp.deliver_older(50, 'U6', '{"color": "123456789012345678901234567890"}'), 'unchanged', 'an older program finds the same');
select is(pg_temp.deliver_older(51, 'U8', '{"color": "blue"}'), 'unchanged', 'everywhere');
select is(pg_temp.deliver_older(52, 'U8', null), 'revised', 'and revises');
select is(
  (select extra from receipt_revisions where program_identifier = 'moved' and unit_identifier = 'U8' order by revision desc limit 1),
  '{"color": "blue"}', 'with its history'
);

begin;
set local role receiptd_owner;
select lives_ok($$ select inventory.end_move('color') $$, 'deliveries from before the return are over');
commit;
select hasnt_trigger('receipts', 'receipts_fold_extra', 'the trigger is gone');
begin;
insert into moved_fields (column_name, path) values ('to_identifier', '{dock}');
select results_eq(
  $$
    select sent, inventory.fold(jsonb_build_object('extra', jsonb_build_object('dock', sent))) ->> 'to_identifier'
    from (
      values
        (1, '1352'::jsonb), (2, '1352.0'), (3, '1.352e3'), (4, '1352.5'), (5, '"1352"'), (6, '" +01352.0 "'),
        (7, '"1.352E3"'), (8, '"1352x"'), (9, '"1352.5"'), (10, '"1e1000000000"'), (11, '"9223372036854775807"'),
        (12, '"9223372036854775808"'), (13, '-9223372036854775808.0'), (14, 'true'), (15, '"- 1"'), (16, '"-0"')
    ) as number (n, sent)
    order by n
  $$,
  $$
    values
      ('1352'::jsonb, '1352'), ('1352.0', '1352'), ('1.352e3', '1352'), ('1352.5', null), ('"1352"', '1352'),
      ('" +01352.0 "', '1352'), ('"1.352E3"', '1352'), ('"1352x"', null), ('"1352.5"', null), ('"1e1000000000"', null),
      ('"9223372036854775807"', '9223372036854775807'), ('"9223372036854775808"', null),
      ('-9223372036854775808.0', '-9223372036854775808'), ('true', null), ('"- 1"', null), ('"-0"', '0')
  $$,
  'a column of integers takes each that is one and in range'
);
rollback;

select * from finish();
delete from receipts where program_identifier = 'moved';
