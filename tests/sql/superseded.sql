-- Which rejections are open: a receipt of the same key that is delivered later closes one, at once and for all readers.

begin;
set local search_path = inventory, tap;
set local test.program = 'superseded';
\ir include/deliver.psql

select plan(11);

-- What is open of these rejections, by unit.
create function pg_temp.open_units() returns text language sql as $$
  select coalesce(string_agg(unit_identifier, ' ' order by unit_identifier), '')
  from inventory.open_rejections
  where program_identifier = 'superseded' and asn_number = 'open'
$$;
insert into rejected_receipts (
  request_id, api_key_name, status, message, body, received_at, program_identifier, asn_number, unit_identifier
)
select pg_temp.request(300 + n), 'local', 422, 'm', '{}', now() - interval '30 minutes', 'superseded', 'open', 'u' || n
from generate_series(1, 5) as n;
-- One whose key is known in part only.
insert into rejected_receipts (request_id, api_key_name, status, message, body, received_at, program_identifier, asn_number)
values (pg_temp.request(310), 'local', 422, 'm', '{}', now() - interval '30 minutes', 'superseded', 'open');
select is(pg_temp.open_units(), 'u1 u2 u3 u4 u5', 'without a receipt, all are open');

select pg_temp.deliver('{"request": 401, "asn_number": "open", "unit_identifier": "u1"}') \g /dev/null
select is(pg_temp.open_units(), 'u2 u3 u4 u5', 'a receipt that was stored later closes its rejection at once');
-- u2: the receipt was there before.
select pg_temp.deliver('{"request": 402, "asn_number": "open", "unit_identifier": "u2"}') \g /dev/null
update receipts set received_at = now() - interval '1 hour' where asn_number = 'open' and unit_identifier = 'u2';
select is(pg_temp.open_units(), 'u2 u3 u4 u5', 'one that was stored earlier does not');
update receipts set sku = 'by hand' where asn_number = 'open' and unit_identifier = 'u2';
select is(pg_temp.open_units(), 'u2 u3 u4 u5', 'nor does a correction by hand');
-- u3: delivered later, then corrected by hand.
select pg_temp.deliver('{"request": 403, "asn_number": "open", "unit_identifier": "u3"}') \g /dev/null
update receipts set sku = 'by hand' where asn_number = 'open' and unit_identifier = 'u3';
select is(pg_temp.open_units(), 'u2 u4 u5', 'a later delivery counts, also after a correction by hand');
-- u4: what "receiptd reprocess" made of another rejection that arrived earlier.
insert into rejected_receipts (request_id, api_key_name, status, message, body, received_at)
values (pg_temp.request(404), 'local', 422, 'm', 'earlier', now() - interval '1 hour');
select pg_temp.deliver('{"request": 404, "asn_number": "open", "unit_identifier": "u4"}') \g /dev/null
select is(pg_temp.open_units(), 'u2 u4 u5', 'a receipt made of an earlier rejection is not a later delivery');
set local role receiptd_writer;
select inventory.mark_superseded() as first \gset marked_
select inventory.mark_superseded() as then \gset marked_
reset role;
select is(:marked_first, 2, 'what was superseded is marked');
select is(:marked_then, 0, 'once');
select results_eq(
  $$
    select unit_identifier collate "default", resolution
    from rejected_receipts
    where asn_number = 'open' and resolved_at is not null
    order by 1
  $$,
  $$ values ('u1', 'superseded'), ('u3', 'superseded') $$,
  'with how it was resolved'
);
select is(pg_temp.open_units(), 'u2 u4 u5', 'and what is open is the same as before');

-- A digest proves a guess of what was erased.

update rejected_receipts set digest = request_id where request_id in (pg_temp.request(301), pg_temp.request(302));
update rejected_receipts set body = 'erased' where request_id = pg_temp.request(301);
update rejected_receipts set body = body, resolution = resolution where request_id = pg_temp.request(302);
select results_eq(
  $$ select digest from rejected_receipts where request_id in (pg_temp.request(301), pg_temp.request(302)) order by request_id $$,
  $$ values (null::uuid), (pg_temp.request(302)) $$,
  'a body that was changed has no digest, and one that was not keeps it'
);

select * from finish();
rollback;
