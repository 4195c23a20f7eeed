-- Deploy receiptd:rejected_receipts to pg
-- requires: schema
-- requires: manual_changes

begin;

set local role receiptd_owner;

-- request_id is unique, so that a delivery which is stored twice over, because the first acknowledgement was lost, is
-- here once.
create table inventory.rejected_receipts (
  rejection_id uuid not null default gen_random_uuid(),
  received_at timestamptz not null default now(),
  request_id uuid not null,
  api_key_name text not null,
  status smallint not null,
  message text not null,
  errors jsonb,
  body bytea not null,
  program_identifier text collate "C",
  asn_number text collate "C",
  unit_identifier text collate "C",
  sender_headers jsonb,
  resolved_at timestamptz,
  resolution text,
  constraint rejected_receipts_pkey primary key (rejection_id),
  constraint rejected_receipts_request_id_key unique (request_id),
  constraint rejected_receipts_status_check check (status in (400, 422)),
  constraint rejected_receipts_resolution_check check ((resolved_at is null) = (resolution is null))
);

-- What is still to be looked at, which ought to be little of a table that only grows.
create index rejected_receipts_unresolved_idx on inventory.rejected_receipts (received_at, rejection_id)
  where resolved_at is null;

revoke all on inventory.rejected_receipts from public;
-- The service adds rows, and marks those that "receiptd reprocess" has made a receipt of; what was received stays.
-- (request_id: "on conflict do update" needs a column to set; it is set to what it is.)
grant select, insert, update (request_id, resolved_at, resolution) on inventory.rejected_receipts to receiptd_writer;
grant select on inventory.rejected_receipts to receiptd_reader;

-- The service writes when a delivery arrived and under which request id, and nobody else's login can make it look otherwise.
create function inventory.stamp_rejection()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not pg_has_role('receiptd_owner', 'usage') then
    if tg_op = 'INSERT' then
      new.rejection_id := gen_random_uuid();
      new.received_at := now();
      new.resolved_at := null;
      new.resolution := null;
    else
      new.request_id := old.request_id;
    end if;
  end if;
  return new;
end
$$;
revoke all on function inventory.stamp_rejection() from public;

create trigger rejected_receipts_stamp
before insert or update of request_id on inventory.rejected_receipts
for each row
execute function inventory.stamp_rejection();

create trigger rejected_receipts_log_change
after insert or update or delete on inventory.rejected_receipts
for each row
when (session_user <> 'receiptd_writer')
execute function inventory.log_manual_change('rejected_receipts');

create trigger rejected_receipts_log_truncate
after truncate on inventory.rejected_receipts
for each statement
execute function inventory.log_manual_change('rejected_receipts');

comment on function inventory.stamp_rejection() is
  'Before a rejected delivery is written: only the owner may say when it arrived, or change its request id.';
comment on trigger rejected_receipts_stamp on inventory.rejected_receipts is
  'Keeps the service from writing another time of arrival or request id.';
comment on trigger rejected_receipts_log_change on inventory.rejected_receipts is 'For inventory.manual_changes.';
comment on trigger rejected_receipts_log_truncate on inventory.rejected_receipts is 'For inventory.manual_changes.';

comment on table inventory.rejected_receipts is
  'Deliveries with a valid API key that were refused for good, because they were no valid receipt: the sender does not send them again, so they are kept here as they came. After the service was taught to take them, "receiptd reprocess" makes receipts of them; what will never be one, resolve by hand: update ... set resolved_at = now(), resolution = ''...''. The service deletes nothing here: how long this is kept is for the owner to decide.';
comment on constraint rejected_receipts_request_id_key on inventory.rejected_receipts is
  'A delivery is kept once, also where it had to be stored twice over.';
comment on constraint rejected_receipts_resolution_check on inventory.rejected_receipts is
  'What was resolved says how.';
comment on index inventory.rejected_receipts_unresolved_idx is
  'For what is not resolved yet: where resolved_at is null.';

comment on column inventory.rejected_receipts.rejection_id is
  'The number of this row. Example: 9d3c5b7a-0e1f-4a2b-8c3d-4e5f60718293';
comment on column inventory.rejected_receipts.received_at is
  'When the delivery arrived. Example: 2026-11-23 12:00:00.123456+00';
comment on column inventory.rejected_receipts.request_id is
  'The delivery, as answered in X-Request-Id and written to the service''s log. Example: 5f0c2b1e-7a3d-4c58-9a6b-1d2e3f405162';
comment on column inventory.rejected_receipts.api_key_name is
  'The name, in the service''s key file, of the API key with which it was sent. Example: optoro-2026';
comment on column inventory.rejected_receipts.status is
  'Why it was refused, as an HTTP status: 400 no JSON object (or sent as another content type), 422 missing or invalid fields. Also where RECEIPTD_REJECTION_POLICY=accept answers 200. Example: 422';
comment on column inventory.rejected_receipts.message is
  'The same in words. Example: Validation Failed';
comment on column inventory.rejected_receipts.errors is
  'Which fields are wrong, for status 422; else null. Example: [{"field": "from.identifier", "code": "missing_field"}]';
comment on column inventory.rejected_receipts.body is
  'The body of the request, byte for byte. Can hold PERSONAL DATA: the e-mail address of who received the unit (ot_user_login). Shown as text: convert_from(body, ''UTF8''), which fails where the body is no UTF-8. Of a compressed body, this is what was compressed, unless it was damaged. Example: {"program_identifier": "returns", ...}';
comment on column inventory.rejected_receipts.program_identifier is
  'The delivery''s program_identifier, as in receipts; null where it could not be read or could not be part of a key. Example: returns';
comment on column inventory.rejected_receipts.asn_number is
  'The delivery''s asn_number, as in receipts; null where it could not be read or could not be part of a key. Example: SO00001234';
comment on column inventory.rejected_receipts.unit_identifier is
  'The delivery''s unit_identifier, as in receipts; null where it could not be read or could not be part of a key. Example: 123456891011';
comment on column inventory.rejected_receipts.sender_headers is
  'The headers by which the sender identifies the delivery, as in receipts; null without any. Example: {"x-optiturn-id": "2f6c1d0a", "x-optiturn-api-version": "1.0.0"}';
comment on column inventory.rejected_receipts.resolved_at is
  'When it was dealt with; null while that is still to be done. Example: 2026-11-24 08:30:00.654321+00';
comment on column inventory.rejected_receipts.resolution is
  'What became of it: created, revised or unchanged (the receipt that "receiptd reprocess" made of it), superseded (what a later delivery of the same key said was in receipts already), or what somebody wrote. Example: created';

commit;
