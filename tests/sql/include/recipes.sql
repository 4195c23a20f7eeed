-- For the recipes of sql/README.md: receipts that a wrong statement counts. Nothing else is in the table, in this transaction.
delete from inventory.rejected_receipts;
delete from inventory.receipts;
insert into inventory.condition_codes values ('N', 'new');

insert into inventory.receipts (
  program_identifier, asn_number, unit_identifier, sku, initial_condition, serial_number, upc, received_at,
  from_identifier, from_type, to_identifier, to_type, to_original_identifier, initial_channel, ot_user_login, request_id, api_key_name,
  revision, revised_request_id, revised_at
)
select
  program, asn, 'U' || n, sku, condition, serial, upc, date_trunc('hour', now()) - age,
  '22', 'Store', 1352, 'Store', '42', 'blinq', 'jdoe@email.com', ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'test',
  0, null, null
from (
  values
    (1, 'returns', 'A1', 'S1', 'N', '100', '12345678905', interval '20 days'),
    (2, 'returns', 'A1', 'S1', 'A', null, '012345678905', interval '20 days'),
    -- Late; and a serial number that another SKU has too.
    (3, 'returns', 'A1', 'S2', 'N', '300', '12345678906', interval '5 days 2 hours'),
    (4, 'returns', 'A2', 'S1', 'N', '100', '12345678905', interval '10 days'),
    (5, 'returns', 'A2', 'S3', 'B', '300', '4006381333931', interval '10 days'),
    -- The same ASN twice.
    (6, 'returns', 'A2', 'S3', 'B', '900', '4006381333931', interval '10 days'),
    (7, 'returns', 'A2', 'S3', 'B', '900', null, interval '10 days'),
    -- An old one, complete, and late, but not lately.
    (8, 'returns', 'A3', 'S1', 'N', '800', '12345678905', interval '60 days'),
    (9, 'returns', 'A3', 'S4', 'N', '809', null, interval '40 days'),
    -- Late twice, lately once.
    (12, 'returns', 'A5', 'S4', 'N', null, null, interval '60 days'),
    (13, 'returns', 'A5', 'S4', 'N', null, null, interval '45 days'),
    (14, 'returns', 'A5', 'S4', 'N', null, null, interval '1 day'),
    -- The number of an ASN that another program has too.
    (10, 'transfers', 'A1', 'S1', 'X', '120', null, interval '1 day'),
    (11, 'returns', 'A1', 'S1', 'A', '120', null, interval '19 days')
) as unit (n, program, asn, sku, condition, serial, upc, age);
