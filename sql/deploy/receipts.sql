-- Deploy receiptd:receipts to pg
-- requires: schema

begin;

set local role receiptd_owner;

-- The three columns of the key are compared byte by byte: so a new release of the operating system, whose sorting may
-- differ, cannot damage the index that tells a new receipt from a known one.
--
-- Only the key has a check, and one for all three. PostgreSQL parses every check of a table again for every statement: one on
-- each of the 26 other texts (not empty, at most 1,000 characters) made a statement of 6 receipts cost 49 µs of the server's
-- time a receipt instead of 34. The service, which is the only one that writes here all day, enforces all rules. Text has no limit but
-- that of the key: its index takes 2,674 bytes for the three columns together, whatever they are.
--
-- What was tried otherwise, and left, because it changed nothing for the service (new receipts and revisions a second:
-- within 10 %, which is noise):
-- - received_at and to_identifier, of fixed width, in front: 360 bytes a row instead of 369, and a day at one warehouse
--   read in 13 ms instead of 18. The table reads as the contract does instead, and as receipt_revisions does.
-- - fillfactor 90 or 80: 10 or 22 % more bytes a row, for 87 or 92 % of revisions without a change to an index instead
--   of 79 %.
-- - The key with the unit in front, and an index on asn_number instead of that on unit_identifier: 93 bytes of index a
--   row instead of 137. But where most ASNs have one unit, PostgreSQL then looks up a receipt by its ASN alone, and
--   reads through all units of a large one.
create table inventory.receipts (
  program_identifier text collate "C" not null,
  asn_number text collate "C" not null,
  shipment_identifier text,
  from_identifier text not null,
  from_type text not null,
  to_identifier bigint not null,
  to_type text not null,
  to_original_identifier text not null,
  carton_identifier text,
  reference_type text,
  reference_identifier text,
  reference_alternate_identifier text,
  line_identifier text,
  unit_identifier text collate "C" not null,
  reference_line_identifier text,
  sku text not null,
  upc text,
  serial_number text,
  initial_condition text not null,
  initial_channel text not null,
  return_reason text,
  ot_user_login text not null,
  merchant text,
  concept text,
  asin text,
  tracking_number text,
  location_identifier text,
  client_unit_identifier text,
  reject_reason text,
  extra jsonb,
  revision integer not null default 0,
  request_id uuid not null,
  revised_request_id uuid,
  api_key_name text not null,
  sender_headers jsonb,
  received_at timestamptz not null default now(),
  revised_at timestamptz,
  created_in bigint default pg_current_xact_id()::text::bigint,
  changed_by text,
  changed_at timestamptz,
  constraint receipts_pkey primary key (program_identifier, asn_number, unit_identifier),
  constraint receipts_unit_identifier_check check (least(program_identifier, asn_number, unit_identifier) <> '')
);

-- A B-tree, though rows arrive in order of time: a revision moves an old row to a new page, and room that a purge frees is
-- filled with new rows. So each range of a BRIN index soon holds all times: in a simulation of three years with a purge
-- each day, reading one day took 4,994 of 5,021 pages with it, and 106 with this one (124 and 94 in the first year). Its right
-- end is in memory, and the equal times of a batch share one entry, so it costs an insertion less than can be measured.
create index receipts_received_at_idx on inventory.receipts (received_at);

-- "What became of this unit?" is what is asked most, and the key answers it by being read from end to end. In one run
-- this index took 2 to 4 µs of the server's time for each receipt, of 42, and 100 bytes of the write-ahead log.
create index receipts_unit_identifier_idx on inventory.receipts (unit_identifier);

-- For the feed: the transaction that wrote a version. Of the first one it is here, of every later one in the row of
-- receipt_revisions for the version that it replaced. So it never changes where it is, new values belong at the right end of
-- a B-tree, and a revision changes no indexed column of receipts. (One column in receipts with the transaction of the
-- present version would cost revisions their HOT updates.)
create index receipts_created_in_idx on inventory.receipts (created_in);

revoke all on inventory.receipts from public;
grant select, insert, update on inventory.receipts to receiptd_writer;
grant select on inventory.receipts to receiptd_reader;

comment on table inventory.receipts is
  'One row for each unit received in a warehouse against an advance ship notice (ASN), as the warehouse system OptiTurn reported it last. The key is program_identifier, asn_number, unit_identifier. Text is kept as it was sent; what was sent as a number is kept digit for digit. A report that differs from the row replaces it and raises revision; what it said before is in receipt_revisions. Correct a row by hand with a plain update of its content: that too is counted and kept.';
comment on constraint receipts_pkey on inventory.receipts is
  'Decides whether a report is a new receipt or one that is known already.';
comment on index inventory.receipts_received_at_idx is
  'For reports over a span of time, that is, with received_at between two times.';
comment on index inventory.receipts_unit_identifier_idx is
  'For the receipts of one unit, whatever it was received against.';
comment on index inventory.receipts_created_in_idx is 'For inventory.changes_since.';

comment on column inventory.receipts.program_identifier is
  'Reported as program_identifier: the program under which the unit was received. ASN numbers are unique within a program. Part of the key. Example: returns';
comment on column inventory.receipts.asn_number is
  'Reported as asn_number: the advance ship notice (ASN) against which the unit was received. Part of the key. Example: SO00001234';
comment on column inventory.receipts.shipment_identifier is
  'Reported as shipment_identifier: ties together the ASNs of one order or RMA. Example: SI1ZAAAAAAZZ97764680';
comment on column inventory.receipts.from_identifier is
  'Reported as from.identifier: where the ASN came from, by its number. Example: 22';
comment on column inventory.receipts.from_type is
  'Reported as from.type: the kind of place the ASN came from, as on the ASN; free text such as Warehouse, Store, Ecom. Example: Warehouse';
comment on column inventory.receipts.to_identifier is
  'Reported as to.identifier: the warehouse in which the unit was received, by OptiTurn''s own number. Example: 1352';
comment on column inventory.receipts.to_type is
  'Reported as to.type: the kind of place in which the unit was received; free text. Example: Store';
comment on column inventory.receipts.to_original_identifier is
  'Reported as to.original_identifier: the place in which the unit was received, by the retailer''s own number. Example: 42';
comment on column inventory.receipts.carton_identifier is
  'Reported as carton_identifier: the carton on the ASN. Example: CTAA1234567';
comment on column inventory.receipts.reference_type is
  'Reported as reference.type: the kind of order or return behind the shipment. Known values: StockTransferOrder, RA, RMA, ForwardOrder. The service refuses others; the table does not, so that the list can grow without a change to it. Example: RMA';
comment on column inventory.receipts.reference_identifier is
  'Reported as reference.identifier: the order or return behind the shipment, such as the RA number. Example: 12345';
comment on column inventory.receipts.reference_alternate_identifier is
  'Reported as reference.alternate_identifier: another number of that order or return, which can be scanned. Example: OR12345678';
comment on column inventory.receipts.line_identifier is
  'Reported as line_identifier: the line of the ASN. Example: 123456789';
comment on column inventory.receipts.unit_identifier is
  'Reported as unit_identifier: the OptiTurn license plate (LP) of the unit. Part of the key. Example: 123456891011';
comment on column inventory.receipts.reference_line_identifier is
  'Reported as reference_line_identifier: the line in the reference, such as an item of an RMA. Example: 1';
comment on column inventory.receipts.sku is
  'Reported as sku: the stock keeping unit: which product it is, by the retailer''s number. Example: S123456';
comment on column inventory.receipts.upc is
  'Reported as upc: the universal product code: the product''s bar code. As sent, so leading zeros may be missing. Example: 12345678905';
comment on column inventory.receipts.serial_number is
  'Reported as serial_number: the manufacturer''s serial number of the unit. Example: 12345678910001';
comment on column inventory.receipts.initial_condition is
  'Reported as initial_condition: the condition assigned at receiving. Known values: N, R, A, B, C, X, TT. The service refuses others; the table does not, so that the list can grow without a change to it. Example: N';
comment on column inventory.receipts.initial_channel is
  'Reported as initial_channel: the channel assigned at receiving: where the unit is to go next. Example: blinq';
comment on column inventory.receipts.return_reason is
  'Reported as return_reason: why the unit was returned. Example: not like';
comment on column inventory.receipts.ot_user_login is
  'Reported as ot_user_login: who received the unit: the e-mail address of a user of OptiTurn. PERSONAL DATA: give it only to those who need it, and leave it out of extracts and logs. Example: jdoe@email.com';
comment on column inventory.receipts.merchant is
  'Reported as merchant: usually the owner of the inventory. Example: Merchant Name';
comment on column inventory.receipts.concept is
  'Reported as concept: usually a brand of the merchant. Example: Brand';
comment on column inventory.receipts.asin is
  'Reported as asin: Amazon''s product number, 10 characters. Example: 120029872';
comment on column inventory.receipts.tracking_number is
  'Reported as tracking_number: the carrier''s tracking number, as scanned; may differ from the one on the ASN. Example: 123012300123033';
comment on column inventory.receipts.location_identifier is
  'Reported as location_identifier: where the unit was first stored. Example: Pallet 1';
comment on column inventory.receipts.client_unit_identifier is
  'Reported as client_unit_identifier: the number of the unit on the ASN, or the client''s own license plate. Example: 123456891011';
comment on column inventory.receipts.reject_reason is
  'Reported as reject_reason: why the unit was not accepted: "Empty Box" when the parcel was empty or fraudulent. Example: Empty Box';
comment on column inventory.receipts.extra is
  'What was reported beyond the columns of this table, as one JSON object nested as it was sent; null when there was nothing. Makes a later version of the vendor''s interface lose nothing. Example: {"to": {"dock": 7}}';
comment on column inventory.receipts.revision is
  'How often the content was replaced: 0 as first received, then 1, 2, ... without a gap. The versions before this one are in receipt_revisions. Example: 0';
comment on column inventory.receipts.request_id is
  'The delivery that created the row, as answered in X-Request-Id and written to the service''s log. It never changes. Example: 5f0c2b1e-7a3d-4c58-9a6b-1d2e3f405162';
comment on column inventory.receipts.revised_request_id is
  'The delivery that brought the present version; null while revision is 0, and after a correction by hand. Example: 0b8e6a4c-93d1-4f27-8e5a-6c7d8e9f0a1b';
comment on column inventory.receipts.api_key_name is
  'The name, in the service''s key file, of the API key with which the present version was sent; a correction by hand leaves it as it was. Example: optoro-2026';
comment on column inventory.receipts.sender_headers is
  'The headers by which the sender identifies the delivery that brought the present version: x-optiturn-id, x-optiturn-api-version and traceparent, those that it sent; null without any; a correction by hand leaves it as it was. No content: another value is no revision. Example: {"x-optiturn-id": "2f6c1d0a", "x-optiturn-api-version": "1.0.0"}';
comment on column inventory.receipts.received_at is
  'When the delivery that created the row arrived (the vendor sends no time of its own); of one that was refused at first: when "receiptd reprocess" made a receipt of it, while rejected_receipts says when it arrived. It never changes. Example: 2026-11-23 12:00:00.123456+00';
comment on column inventory.receipts.revised_at is
  'When the present version arrived, with the same exception as received_at; null while revision is 0. Example: 2026-11-24 08:30:00.654321+00';
comment on column inventory.receipts.created_in is
  'The number of the transaction that created the row (pg_current_xact_id), for inventory.changes_since. Example: 123456';
comment on column inventory.receipts.changed_by is
  'The login (session_user) of the person or program that made the present version by hand; null if the service did. inventory.manual_changes lists every other change by hand. Example: jack';
comment on column inventory.receipts.changed_at is
  'When changed_by did it, whatever received_at says; null if the service did. Example: 2026-11-24 08:30:00.654321+00';

commit;
