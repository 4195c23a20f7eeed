-- Deploy receiptd:reporting to pg
-- requires: receipt_revisions
-- requires: rejected_receipts
--
-- Needs the role receiptd_analyst of roles.sql.

begin;

set local role receiptd_owner;

-- The time zone, or UTC if this server does not know it: a release of the operating system may drop one. (Declared
-- immutable so that a column can be generated from it, which a restored dump does again; inventory.refresh_totals() puts right
-- what has changed since.)
create function inventory.known_time_zone(time_zone text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform '2026-01-01 00:00:00+00'::timestamptz at time zone time_zone;
  return time_zone;
exception
  when invalid_parameter_value then
    return 'UTC';
end
$$;

-- What the company knows and the vendor does not report. Both may stay empty.
create table inventory.warehouses (
  to_identifier bigint not null,
  name text not null,
  time_zone text not null default 'UTC',
  closed_on date,
  constraint warehouses_pkey primary key (to_identifier)
);
-- Not valid: so a dump has it after the rows, and restores them on a server that no longer knows a time zone.
alter table inventory.warehouses
  add constraint warehouses_time_zone_check check (inventory.known_time_zone(time_zone) = time_zone) not valid;
-- The time zones in effect. Another one takes effect together with the totals that are counted in it, which takes a while:
-- so this is a table of its own, and not a column of the one that the company fills in.
create table inventory.day_zones (
  to_identifier bigint not null,
  time_zone text not null,
  day_zone text generated always as (inventory.known_time_zone(time_zone)) stored,
  constraint day_zones_pkey primary key (to_identifier)
);
create table inventory.condition_codes (
  initial_condition text collate "C" not null,
  meaning text not null,
  constraint condition_codes_pkey primary key (initial_condition)
);
revoke all on inventory.warehouses, inventory.day_zones, inventory.condition_codes from public;
grant select on inventory.warehouses, inventory.day_zones, inventory.condition_codes to receiptd_reader;

create trigger warehouses_log_change
after insert or update or delete on inventory.warehouses
for each row
execute function inventory.log_manual_change('warehouses');
create trigger condition_codes_log_change
after insert or update or delete on inventory.condition_codes
for each row
execute function inventory.log_manual_change('condition_codes');
comment on trigger warehouses_log_change on inventory.warehouses is 'For inventory.manual_changes.';
comment on trigger condition_codes_log_change on inventory.condition_codes is 'For inventory.manual_changes.';

create function inventory.unknown_time_zones()
returns table (to_identifier bigint, name text, time_zone text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select w.to_identifier, w.name, w.time_zone
  from inventory.warehouses as w
  where inventory.known_time_zone(w.time_zone) <> w.time_zone
  order by w.to_identifier
$$;
revoke all on function inventory.known_time_zone(text), inventory.unknown_time_zones() from public;
grant execute on function inventory.unknown_time_zones() to receiptd_writer, receiptd_reader;
comment on function inventory.known_time_zone(text) is 'A time zone, or UTC if this server does not know it.';
comment on function inventory.unknown_time_zones() is
  'The warehouses whose time zone this server does not know, so that their days are UTC. Give them another name from pg_timezone_names, or install the missing time zones (Debian: tzdata-legacy).';

comment on table inventory.warehouses is
  'The warehouses by the vendor''s number, for the company to fill in: their names and time zones, in which reporting.receipts_by_day counts days. Without a row: the number, and UTC.';
comment on constraint warehouses_time_zone_check on inventory.warehouses is
  'A time zone that is written is one that PostgreSQL knows: pg_timezone_names.';
comment on column inventory.warehouses.closed_on is
  'From when on nothing is expected there, so that reporting.silences leaves it out; null: it is open. Example: 2026-11-30';
comment on table inventory.day_zones is
  'The time zone in which the reports count days at a warehouse now. A change of inventory.warehouses takes effect with the next inventory.refresh_totals(), which writes this table. Without a row: UTC.';
comment on column inventory.day_zones.to_identifier is
  'The warehouse, as receipts.to_identifier has it. Example: 1352';
comment on column inventory.day_zones.time_zone is
  'Its time zone, as in inventory.warehouses. Example: America/Kentucky/Louisville';
comment on column inventory.day_zones.day_zone is
  'The time zone in which days are counted: time_zone, or UTC if this server does not know it. Example: America/Kentucky/Louisville';
comment on column inventory.warehouses.to_identifier is
  'The warehouse, as receipts.to_identifier has it. Example: 1352';
comment on column inventory.warehouses.name is
  'What the company calls it. Example: Louisville';
comment on column inventory.warehouses.time_zone is
  'Its time zone, by its name in pg_timezone_names. Example: America/Kentucky/Louisville';
comment on table inventory.condition_codes is
  'What the codes in receipts.initial_condition mean, for the company to fill in: the vendor does not publish it.';
comment on column inventory.condition_codes.initial_condition is
  'The code, as receipts.initial_condition has it. Example: A';
comment on column inventory.condition_codes.meaning is
  'What the company and its warehouse have agreed that it means. Example: opened, complete';

create schema reporting;
revoke all on schema reporting from public;
grant usage on schema reporting to receiptd_analyst, receiptd_reader;
comment on schema reporting is
  'Views for reports: no personal data (who received a unit, fields that the vendor has not specified), no bookkeeping, no JSON. Members of receiptd_analyst read these and nothing else.';

-- GS1 General Specifications, section 7.9: the digits, weighted 1 and 3 in turn from the check digit on, add up to a multiple
-- of ten. A digit is number / 10 ^ place modulo 10, and the sum counts modulo 10 too, so the quotients are added as they are.
create function inventory.is_gtin(number bigint)
returns boolean
language sql
immutable
parallel safe
return (
  number + number / 100 + number / 10000 + number / 1000000 + number / 100000000 + number / 10000000000
    + number / 1000000000000
    + 3 * (
      number / 10 + number / 1000 + number / 100000 + number / 10000000 + number / 1000000000 + number / 100000000000
        + number / 10000000000000
    )
) % 10 = 0;

-- PostgreSQL puts the expression itself into a query, which takes 1.5 microseconds a row; a sum over generate_series took 7. That
-- needs a function without settings of its own; its operators are resolved when it is created, whatever search_path says later.
create function inventory.gtin(upc text)
returns text
language sql
immutable
parallel safe
return case
  when octet_length(upc) between 7 and 14
    and ltrim(upc, '0123456789') = ''
    and inventory.is_gtin(upc::bigint)
  then lpad(upc, 14, '0')
end;

create function inventory.is_return(reference_type text)
returns boolean
language sql
immutable
parallel safe
return reference_type in ('RMA', 'RA', 'ReturnsPortalOrder');

create function inventory.is_transfer(reference_type text)
returns boolean
language sql
immutable
parallel safe
return reference_type = 'StockTransferOrder';

revoke all on function
  inventory.is_gtin(bigint),
  inventory.gtin(text),
  inventory.is_return(text),
  inventory.is_transfer(text)
from public;
-- The service calls them too, once an index has such an expression.
grant execute on function
  inventory.is_gtin(bigint),
  inventory.gtin(text),
  inventory.is_return(text),
  inventory.is_transfer(text)
to receiptd_analyst, receiptd_reader, receiptd_writer;

comment on function inventory.is_gtin(bigint) is
  'Whether the check digit of a Global Trade Item Number of up to 14 digits is right. Example: 12345678905';
comment on function inventory.gtin(text) is
  'A UPC or another Global Trade Item Number with 14 digits; null if its digits and its check digit are not those of one. reporting.receipts.gtin is inventory.gtin(upc), so an index on that expression finds units by their gtin.';
comment on function inventory.is_return(text) is
  'Whether a reference of this type is that of a return. Example: RMA';
comment on function inventory.is_transfer(text) is
  'Whether a reference of this type is that of a transfer between locations of the company. Example: StockTransferOrder';

create view reporting.receipts as
select
  r.program_identifier,
  r.asn_number,
  r.unit_identifier,
  r.shipment_identifier,
  r.carton_identifier,
  r.reference_type,
  r.reference_identifier,
  r.reference_alternate_identifier,
  r.reference_line_identifier,
  r.line_identifier,
  r.from_identifier,
  r.from_type,
  r.to_identifier,
  coalesce(w.name, r.to_identifier::text) as warehouse,
  r.to_type,
  r.to_original_identifier,
  r.sku,
  r.upc,
  inventory.gtin(r.upc) as gtin,
  r.asin,
  r.serial_number,
  r.merchant,
  r.concept,
  r.initial_condition,
  c.meaning as condition_meaning,
  r.initial_channel,
  r.return_reason,
  r.reject_reason,
  r.tracking_number,
  r.location_identifier,
  r.client_unit_identifier,
  r.received_at,
  (r.received_at at time zone coalesce(z.day_zone, 'UTC'))::date as received_on,
  r.revised_at,
  r.revision,
  coalesce(r.revised_at, r.received_at) as last_changed_at
from inventory.receipts as r
left join inventory.warehouses as w on w.to_identifier = r.to_identifier
left join inventory.day_zones as z on z.to_identifier = r.to_identifier
left join inventory.condition_codes as c on c.initial_condition = r.initial_condition;

-- The version that came next is a row of receipt_revisions, or else the present one. Fields are taken from the rows as a
-- whole, so that a field which is added later is here too. Personal data are taken out before anything looks at them, and the
-- barrier keeps a function of the analyst's own, in a condition say, from what the view leaves out.
create view reporting.receipt_changes with (security_barrier) as
select
  past.program_identifier,
  past.asn_number,
  past.unit_identifier,
  past.revision + 1 as revision,
  past.replaced_at as changed_at,
  case
    when later.revision is not null then later.request_id
    else present.revised_request_id
  end as request_id,
  field.name as field,
  field.value as old_value,
  next.version ->> field.name as new_value,
  case
    when later.revision is not null and later.changed_by is null then 'service'
    when later.revision is null and present.changed_by is null then 'service'
    else 'manual'
  end as source
from inventory.receipt_revisions as past
join inventory.receipts as present using (program_identifier, asn_number, unit_identifier)
left join inventory.receipt_revisions as later
  on (later.program_identifier, later.asn_number, later.unit_identifier, later.revision)
    = (past.program_identifier, past.asn_number, past.unit_identifier, past.revision + 1)
-- Behind offset, it is made once for each version, and not for each of its fields.
cross join lateral (
  select coalesce(to_jsonb(later), to_jsonb(present)) as version
  offset 0
) as next
cross join lateral jsonb_each_text(
  to_jsonb(past) - array['ot_user_login', 'extra', 'api_key_name', 'sender_headers']
) as field (name, value)
where field.name not in (
    'revision',
    'request_id',
    'received_at',
    'replaced_at'
  )
  -- The rest is about the version and not its content, or somebody's own.
  and field.name = any ((select inventory.field_columns())::text[])
  and next.version ? field.name
  and field.value is distinct from next.version ->> field.name;

create view reporting.rejections as
select
  r.program_identifier,
  r.status,
  coalesce(error ->> 'field', 'body') as field,
  coalesce(error ->> 'code', regexp_replace(r.message, ' at line \d+, column \d+', '')) as reason,
  count(*) as rejections,
  count(*) filter (where o.rejection_id is not null) as unresolved,
  min(r.received_at) as first_received_at,
  max(r.last_received_at) as last_received_at,
  sum(r.deliveries) as deliveries
from inventory.rejected_receipts as r
left join inventory.open_rejections as o using (rejection_id)
left join lateral jsonb_array_elements(r.errors) as error on true
group by 1, 2, 3, 4;

-- Whoever reads a view calls its functions.
grant execute on function inventory.field_columns() to receiptd_analyst;
grant select on all tables in schema reporting to receiptd_analyst, receiptd_reader;

comment on view reporting.receipts is
  'One row for each unit received, as reported last. Text is as it was sent. The key is program_identifier, asn_number, unit_identifier.';
comment on view reporting.receipt_changes is
  'One row for each field that a later delivery, or a correction by hand, has changed. Not of who received the unit, nor of fields that the vendor has not specified.';
comment on view reporting.rejections is
  'Rejected deliveries by field and reason: how many problems, and how many deliveries, since many senders retry them. One with several wrong fields counts under each of them.';

-- A column that is one of receipts means the same, without its last sentence's reference to the service.
do $$
declare
  field record;
begin
  for field in
    select viewed.attrelid::regclass as view, viewed.attname as name, col_description(kept.attrelid, kept.attnum) as meaning
    from pg_attribute as viewed
    join pg_attribute as kept on kept.attrelid = 'inventory.receipts'::regclass and kept.attname = viewed.attname
    where viewed.attrelid in (
        select oid from pg_class where relnamespace = 'reporting'::regnamespace
      )
      and kept.attnum > 0
      and viewed.attname not in ('revision', 'request_id')
  loop
    execute format('comment on column %s.%I is %L', field.view, field.name, field.meaning);
  end loop;
end
$$;
comment on column reporting.receipts.warehouse is
  'The warehouse by the name in inventory.warehouses; else its number. Example: Louisville';
comment on column reporting.receipts.condition_meaning is
  'What the condition means, from inventory.condition_codes; null where the company has not filled that in. Example: opened, complete';
comment on column reporting.receipts.gtin is
  'The upc as a Global Trade Item Number of 14 digits, with the leading zeros that get lost on the way; null where its digits and its check digit do not make one. Example: 00012345678905';
comment on column reporting.receipts.received_on is
  'The day of received_at in the time zone of the warehouse (inventory.warehouses; else UTC). Example: 2026-11-23';
comment on column reporting.receipts.revision is
  'How often the content was replaced: 0 as first received, then 1, 2, ...; reporting.receipt_changes has what changed. Example: 0';
comment on column reporting.receipts.last_changed_at is
  'When the unit was reported with the content that it has now: revised_at, or received_at if it was never revised. Example: 2026-11-24 08:30:00.654321+00';
comment on column reporting.receipt_changes.revision is
  'The version that has the new value: 1, 2, ... Example: 1';
comment on column reporting.receipt_changes.changed_at is
  'When that version arrived. Example: 2026-11-24 08:30:00.654321+00';
comment on column reporting.receipt_changes.request_id is
  'The delivery that brought it, as answered in X-Request-Id; null for a correction by hand. Example: 0b8e6a4c-93d1-4f27-8e5a-6c7d8e9f0a1b';
comment on column reporting.receipt_changes.field is
  'Which column of reporting.receipts. Example: sku';
comment on column reporting.receipt_changes.old_value is
  'What it said before; null: nothing. Example: S123456';
comment on column reporting.receipt_changes.new_value is
  'What it has said since; null: nothing. Example: S654321';
comment on column reporting.receipt_changes.source is
  'service: a delivery brought the new value; manual: somebody changed it by hand, whom inventory.receipts and inventory.receipt_revisions name (changed_by). Example: service';
comment on column reporting.rejections.status is
  'Why, as an HTTP status: 400 no JSON object, 422 missing or invalid fields. Example: 422';
comment on column reporting.rejections.field is
  'The field that was wrong, as the sender names it; body: it was no JSON object. Example: from.identifier';
comment on column reporting.rejections.reason is
  'What was wrong with it. Example: missing_field';
comment on column reporting.rejections.rejections is
  'How many problems: identical deliveries count once. Example: 7';
comment on column reporting.rejections.unresolved is
  'How many of these problems are open: not resolved, and no later receipt has the key. Example: 3';
comment on column reporting.rejections.first_received_at is
  'When the first of them was received. Example: 2026-11-23 12:00:00.123456+00';
comment on column reporting.rejections.last_received_at is
  'When the last of them was received. Example: 2026-11-24 08:30:00.654321+00';
comment on column reporting.rejections.deliveries is
  'How many deliveries that were, repeats included. Example: 42';

commit;
