-- Receipts as two years bring them: the units of the ASNs :first to :last out of :asns, in the order of their arrival.
-- Their keys and sizes follow from the number of the ASN, so parts can be filled side by side.
set timezone = 'UTC';
set jit = off;
set work_mem = '256MB';

with asn as materialized (
  select
    n,
    ceil(500 ^ ((hashint8extended(n, 0) & 1048575) / 1048576::float8))::int as units,
    case when hashint8extended(n, 1) & 1 = 0 then 'returns' else 'program-' || abs(hashint8extended(n, 2) % 9) end
      as program,
    abs(hashint8extended(n, 3) % 2000) as origin,
    abs(hashint8extended(n, 4) % 12) as warehouse,
    abs(hashint8extended(n, 5) % 100) as kind,
    to_timestamp(:until) - interval '730 days' * (1 - n / :asns::float8) as begun
  from generate_series(:first::bigint, :last) as n
),
unit as (
  select
    asn.*,
    u,
    (200000 * random() * random())::int as product,
    random() as condition,
    random() as chance,
    begun + interval '2 days' * random() - interval '2 days' as received_at
  from asn cross join lateral generate_series(1, units) as u
)
insert into inventory.receipts (
  program_identifier, asn_number, shipment_identifier, from_identifier, from_type, to_identifier, to_type,
  to_original_identifier, carton_identifier, reference_type, reference_identifier, reference_alternate_identifier,
  line_identifier, unit_identifier, reference_line_identifier, sku, upc, serial_number, initial_condition,
  initial_channel, return_reason, ot_user_login, merchant, concept, asin, tracking_number, location_identifier,
  client_unit_identifier, reject_reason, request_id, api_key_name, received_at
)
select
  program,
  'SO' || lpad(n::text, 8, '0'),
  'SI1Z' || upper(left(md5(n::text), 16)),
  origin,
  case when kind < 60 then 'Ecom' when kind < 90 then 'Store' else 'Warehouse' end,
  1300 + warehouse,
  'Warehouse',
  40 + warehouse,
  'CT' || upper(left(md5((n * 25 + u / 20)::text), 9)),
  case when kind < 70 then 'RMA' when kind < 80 then 'RA' when kind < 95 then 'StockTransferOrder'
    else 'ForwardOrder' end,
  10000000 + n,
  'OR' || (10000000 + n),
  100000000 + (n * 7 + u) % 900000000,
  100000000000 + n * 500 + u,
  u,
  'S' || lpad(product::text, 6, '0'),
  12300000000 + product * 7,
  case when chance < 0.25 then (10000000000000 + n * 500 + u)::text end,
  case when condition < 0.45 then 'N' when condition < 0.65 then 'A' when condition < 0.77 then 'B'
    when condition < 0.85 then 'C' when condition < 0.92 then 'R' when condition < 0.98 then 'X' else 'TT' end,
  (array['store', 'blinq', 'vendor', 'liquidation', 'recycle'])[1 + (5 * condition)::int % 5],
  (array['not like', 'too small', 'too large', 'damaged', 'late', 'wrong item'])[1 + (6 * chance)::int % 6],
  'user' || (300 * random())::int || '@example.com',
  'Merchant ' || program,
  'Brand ' || product % 50,
  case when chance < 0.6 then 'B0' || upper(left(md5(product::text), 8)) end,
  case when kind < 90 then '9400' || lpad(abs(hashint8extended(n, 6) % 1000000000000000000)::text, 18, '0') end,
  'Pallet ' || (n + u / 40) % 500,
  123000000000 + n * 500 + u,
  case when chance > 0.99 then 'Empty Box' end,
  gen_random_uuid(),
  'optoro',
  received_at
from unit
order by received_at;
