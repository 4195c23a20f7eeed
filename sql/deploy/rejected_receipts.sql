-- Deploy receiptd:rejected_receipts to pg
-- requires: schema
-- requires: manual_changes
-- requires: receipt_revisions

begin;

set local role receiptd_owner;

-- One row for each problem, not for each delivery: many senders retry what they should not. The digest finds the row of an
-- identical delivery. It is 16 bytes, however large the body is, and it covers the name of the API key, since a problem is
-- solved with a sender.
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
  digest uuid,
  deliveries integer not null default 1,
  last_received_at timestamptz not null default now(),
  repeat_request_ids uuid[],
  resolved_at timestamptz,
  resolution text,
  constraint rejected_receipts_pkey primary key (rejection_id),
  constraint rejected_receipts_request_id_key unique (request_id),
  constraint rejected_receipts_status_check check (status in (400, 422)),
  constraint rejected_receipts_resolution_check check ((resolved_at is null) = (resolution is null)),
  constraint rejected_receipts_deliveries_check check (deliveries > 0)
);

-- What is still to be looked at, which ought to be little of a table that only grows.
create index rejected_receipts_unresolved_idx on inventory.rejected_receipts (received_at, rejection_id)
  where resolved_at is null;

-- An identical delivery is a repeat of what is open, and of what a receipt has resolved. What a person has resolved is no longer
-- in the index: if it is delivered once more, that is a new problem, which somebody has to see.
create unique index rejected_receipts_digest_idx on inventory.rejected_receipts (digest)
  where resolved_at is null or resolution in ('created', 'revised', 'unchanged', 'superseded');

revoke all on inventory.rejected_receipts from public;
-- The service adds rows, counts repeats, with the reasons that it has for the latest one, and resolves rows; what was received stays.
grant
  select,
  insert,
  update (status, message, errors, deliveries, last_received_at, repeat_request_ids, resolved_at, resolution)
  on inventory.rejected_receipts
  to receiptd_writer;
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
      new.last_received_at := now();
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

-- A digest of what was erased would prove a guess of it.
create function inventory.forget_digest()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.digest := null;
  return new;
end
$$;

create trigger rejected_receipts_forget_digest
before update of body on inventory.rejected_receipts
for each row
when (new.body is distinct from old.body)
execute function inventory.forget_digest();

-- A receipt that "receiptd reprocess" made arrived when it was rejected. A correction by hand is no delivery, so it resolves
-- nothing: a statement that fills in a column everywhere must not close what nobody has looked at.
--
-- Called for each open rejection: so PostgreSQL always looks the receipt up by its key, whatever it believes about the sizes of
-- the tables. As its owner, since the service has no privilege on receipt_revisions.
create function inventory.is_superseded(
  rejected_at timestamptz,
  program_identifier text,
  asn_number text,
  unit_identifier text
)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  present record;
begin
  if program_identifier is null or asn_number is null or unit_identifier is null then
    return false;
  end if;
  select
    case when r.revision = 0 then r.request_id else r.revised_request_id end as request_id,
    coalesce(r.revised_at, r.received_at) as stored_at
  into present
  from inventory.receipts as r
  where (r.program_identifier, r.asn_number, r.unit_identifier) = (program_identifier, asn_number, unit_identifier);
  if not found or present.stored_at <= rejected_at then
    return false;
  end if;
  return exists (
    select
    from (
      select present.request_id, present.stored_at
      union all
      select v.request_id, v.received_at
      from inventory.receipt_revisions as v
      where (v.program_identifier, v.asn_number, v.unit_identifier) = (program_identifier, asn_number, unit_identifier)
    ) as version (request_id, stored_at)
    left join inventory.rejected_receipts as d on d.request_id = version.request_id
    where version.request_id is not null
      and coalesce(d.received_at, version.stored_at) > rejected_at
  );
end
$$;

-- What is still to be done, exact at every moment. It stays cheap because the service marks what was superseded.
create view inventory.open_rejections as
select r.*
from inventory.rejected_receipts as r
where r.resolved_at is null
  and not inventory.is_superseded(r.received_at, r.program_identifier, r.asn_number, r.unit_identifier);

revoke all on inventory.open_rejections from public;
grant select on inventory.open_rejections to receiptd_writer, receiptd_reader;

-- What somebody has locked is left for the next time.
create function inventory.mark_superseded()
returns bigint
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
  with superseded as (
    select r.rejection_id
    from inventory.rejected_receipts as r
    where r.resolved_at is null
      and inventory.is_superseded(r.received_at, r.program_identifier, r.asn_number, r.unit_identifier)
    for no key update of r skip locked
  ), marked as (
    update inventory.rejected_receipts as r
    set resolved_at = now(), resolution = 'superseded'
    from superseded
    where r.rejection_id = superseded.rejection_id
    returning 1
  )
  select count(*)
  from marked
$$;

revoke all on function inventory.forget_digest() from public;
revoke all on function inventory.is_superseded(timestamptz, text, text, text) from public;
revoke all on function inventory.mark_superseded() from public;
grant execute on function inventory.is_superseded(timestamptz, text, text, text)
  to receiptd_writer, receiptd_reader, receiptd_analyst;
grant execute on function inventory.mark_superseded() to receiptd_writer;

comment on table inventory.rejected_receipts is
  'Deliveries with a valid API key that were rejected for good, because they were no valid receipt. The sender does not send them again, so each is kept here as it arrived. One row for each problem: identical deliveries with the same key are counted in one row. A row is resolved when a receipt for its key arrives later, when "receiptd reprocess" makes a receipt of it after the rules were widened, or by hand: update ... set resolved_at = now(), resolution = ''...''. The service deletes nothing here: how long this is kept is for the owner to decide.';
comment on constraint rejected_receipts_request_id_key on inventory.rejected_receipts is
  'A delivery is kept once, even if its acknowledgement was lost and it was stored again.';
comment on constraint rejected_receipts_resolution_check on inventory.rejected_receipts is
  'What was resolved says how.';
comment on index inventory.rejected_receipts_unresolved_idx is
  'For what is not resolved yet: where resolved_at is null.';
comment on index inventory.rejected_receipts_digest_idx is
  'Finds the row that an identical delivery belongs to.';
comment on constraint rejected_receipts_deliveries_check on inventory.rejected_receipts is
  'A row is kept for a delivery.';
comment on trigger rejected_receipts_forget_digest on inventory.rejected_receipts is
  'Clears the digest when a body is changed, for example to erase a person.';
comment on function inventory.forget_digest() is
  'Before an update of the body of a rejected delivery: clears its digest.';
comment on function inventory.is_superseded(timestamptz, text, text, text) is
  'Whether a delivery that was rejected at that time is superseded: whether a later delivery of its key was stored.';
comment on function inventory.mark_superseded() is
  'Resolves the rejected deliveries that a later receipt has superseded, and returns how many. The service calls it every minute.';
comment on view inventory.open_rejections is
  'The rejected deliveries that somebody has to deal with: those of rejected_receipts that are not resolved, and whose key no later receipt has. One row for each problem.';

comment on column inventory.rejected_receipts.rejection_id is
  'The number of this row. Example: 9d3c5b7a-0e1f-4a2b-8c3d-4e5f60718293';
comment on column inventory.rejected_receipts.received_at is
  'When the delivery arrived, or the first of several identical ones. Example: 2026-11-23 12:00:00.123456+00';
comment on column inventory.rejected_receipts.request_id is
  'That delivery, as answered in X-Request-Id and written to the service''s log. Example: 5f0c2b1e-7a3d-4c58-9a6b-1d2e3f405162';
comment on column inventory.rejected_receipts.api_key_name is
  'The name, in the service''s key file, of the API key with which it was sent. Example: optoro-2026';
comment on column inventory.rejected_receipts.status is
  'Why it was rejected, as an HTTP status: 400 no JSON object (or sent as another content type), 422 missing or invalid fields. Also if RECEIPTD_REJECTION_POLICY=accept answers 200. Of several identical deliveries, the latest. Example: 422';
comment on column inventory.rejected_receipts.message is
  'The same in words. Example: Validation Failed';
comment on column inventory.rejected_receipts.errors is
  'Which fields are wrong, for status 422; else null. Of several identical deliveries, what was wrong with the latest, which differs if the service''s settings have changed. Example: [{"field": "from.identifier", "code": "missing_field"}]';
comment on column inventory.rejected_receipts.body is
  'The body of the request, byte for byte. Can hold PERSONAL DATA: the e-mail address of who received the unit (ot_user_login). Shown as text: convert_from(body, ''UTF8''), which fails where the body is no UTF-8. Of a compressed body, this is what was compressed, unless it was damaged. Example: {"program_identifier": "returns", ...}';
comment on column inventory.rejected_receipts.program_identifier is
  'The delivery''s program_identifier, as in receipts; null where it could not be read or could not be part of a key. Example: returns';
comment on column inventory.rejected_receipts.asn_number is
  'The delivery''s asn_number, as in receipts; null where it could not be read or could not be part of a key. Example: SO00001234';
comment on column inventory.rejected_receipts.unit_identifier is
  'The delivery''s unit_identifier, as in receipts; null where it could not be read or could not be part of a key. Example: 123456891011';
comment on column inventory.rejected_receipts.sender_headers is
  'The headers by which the sender identifies the delivery, as in receipts; null without any. Of several identical deliveries, those of the first. Example: {"x-optiturn-id": "2f6c1d0a", "x-optiturn-api-version": "1.0.0"}';
comment on column inventory.rejected_receipts.digest is
  'The first 16 bytes of the SHA-256 of api_key_name, a NUL, and body: two deliveries with the same digest are identical. If the body names a person who was erased before, that digest is hashed once more with a secret. Null after the body was changed. Example: 2cf24dba-5fb0-a30e-26e8-3b2ac5b9e29e';
comment on column inventory.rejected_receipts.deliveries is
  'How many identical deliveries there were, this one included. Example: 6';
comment on column inventory.rejected_receipts.last_received_at is
  'When the last of them arrived. Example: 2026-11-23 12:31:00.123456+00';
comment on column inventory.rejected_receipts.repeat_request_ids is
  'The request ids of the latest 100 repeats, oldest first; null without repeats. Example: {0b8e6a4c-93d1-4f27-8e5a-6c7d8e9f0a1b}';
comment on column inventory.rejected_receipts.resolved_at is
  'When it was resolved, or when the service noticed that it was superseded; null until then. Example: 2026-11-24 08:30:00.654321+00';
comment on column inventory.rejected_receipts.resolution is
  'What became of it: created, revised or unchanged (the receipt that "receiptd reprocess" made of it), superseded (a delivery of the same key that arrived later was stored), or what somebody wrote. Example: superseded';

-- A column means the same in the view.
do $$
declare
  field record;
begin
  for field in
    select attname, col_description(attrelid, attnum) as meaning
    from pg_attribute
    where attrelid = 'inventory.rejected_receipts'::regclass and attnum > 0
  loop
    execute format('comment on column inventory.open_rejections.%I is %L', field.attname, field.meaning);
  end loop;
end
$$;

commit;
