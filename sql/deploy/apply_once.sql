-- Deploy receiptd:apply_once to pg
-- requires: receipt_revisions

begin;

set local role receiptd_owner;

-- A delivery whose acknowledgement was lost is tried again under the same request id. When others have revised the
-- receipt in between, its content must not come back over theirs. The service's statement sees the present row only;
-- what was replaced is here.
--
-- Volatile, so that it sees what was committed until now, also while its caller waited for the row. As its owner, since
-- the service has no privilege on receipt_revisions.
create function inventory.has_revised(
  request_id uuid,
  program_identifier text,
  asn_number text,
  unit_identifier text
)
returns boolean
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select
    from inventory.receipt_revisions as past
    where past.program_identifier = $2
      and past.asn_number = $3
      and past.unit_identifier = $4
      and past.request_id = $1
  )
$$;

-- Every update of a receipt passes here, with the rights of the role that updates: that is what decides who may do what. For the
-- service's own it is the hot path. It has no condition, since PostgreSQL parses one again for every statement, and no
-- search_path of its own, which would cost more than the rest of it: each name is qualified instead.
--
-- A delivery (revision counts one up, and a request id is given) is numbered by the service. Any other update is by hand:
-- receipts_number_revision has to see it, whatever it says of revision. Only the owner may change what is about a version
-- and not its content, or, erasing a person, content without a version.
create function inventory.apply_once()
returns trigger
language plpgsql
as $$
begin
  if new.revision operator(pg_catalog.=) (old.revision operator(pg_catalog.+) 1)
    and new.revised_request_id is not null
  then
    -- Of the first two versions the row itself carries the request ids: so this costs first revisions no look-up.
    if new.revised_request_id operator(pg_catalog.=) old.request_id
      or new.revised_request_id operator(pg_catalog.=) old.revised_request_id
      or old.revision operator(pg_catalog.>) 1
        and inventory.has_revised(
          new.revised_request_id, new.program_identifier, new.asn_number, new.unit_identifier
        )
    then
      perform inventory.decline_revision(new.revised_request_id);
      return null;
    end if;
    if old.changed_by is not null
      or new.changed_by is not null
      or new.changed_at is not null
      or session_user operator(pg_catalog.<>) 'receiptd_writer'::pg_catalog.name
    then
      new.changed_by := case
        when pg_catalog.pg_has_role(session_user, 'receiptd_owner', 'member')
          or not pg_catalog.pg_has_role(session_user, 'receiptd_writer', 'member')
        then session_user
      end;
      new.changed_at := case when new.changed_by is not null then pg_catalog.now() end;
    end if;
    if new.revised_at operator(pg_catalog.=) pg_catalog.now()
      and new.request_id operator(pg_catalog.=) old.request_id
      and new.received_at operator(pg_catalog.=) old.received_at
      and coalesce(new.created_in, 0) operator(pg_catalog.=) coalesce(old.created_in, 0)
      and new.unit_identifier operator(pg_catalog.=) old.unit_identifier
      and new.asn_number operator(pg_catalog.=) old.asn_number
      and new.program_identifier operator(pg_catalog.=) old.program_identifier
    then
      return new;
    end if;
    if new.program_identifier operator(pg_catalog.<>) old.program_identifier
      or new.asn_number operator(pg_catalog.<>) old.asn_number
      or new.unit_identifier operator(pg_catalog.<>) old.unit_identifier
    then
      raise exception 'the key of a receipt cannot be changed'
        using errcode = 'integrity_constraint_violation',
          hint = 'Insert a receipt with the other key, and delete this one.';
    end if;
    if pg_catalog.pg_has_role('receiptd_owner', 'usage') then
      return new;
    end if;
    new.revised_at := pg_catalog.now();
  elsif pg_catalog.pg_has_role('receiptd_owner', 'usage') then
    new.revision := case
      when pg_catalog.current_setting('receiptd.erasing', true) operator(pg_catalog.=) 'on' then -1
      else old.revision
    end;
    return new;
  else
    new.revision := old.revision;
    new.revised_request_id := old.revised_request_id;
    new.revised_at := old.revised_at;
    new.api_key_name := old.api_key_name;
    new.sender_headers := old.sender_headers;
  end if;
  new.request_id := old.request_id;
  new.received_at := old.received_at;
  new.created_in := old.created_in;
  return new;
end
$$;

-- Before a row is inserted. Only the owner may say when a receipt arrived or which version it is (from a backup, say). The
-- transaction is the one that inserts it, or the feed would not tell of it.
create function inventory.stamp_receipt()
returns trigger
language plpgsql
as $$
begin
  if session_user operator(pg_catalog.=) 'receiptd_writer'::pg_catalog.name
    and new.changed_by is null
    and new.changed_at is null
    and new.revision operator(pg_catalog.=) 0
    and new.received_at operator(pg_catalog.=) pg_catalog.now()
    and new.revised_at is null
    and new.revised_request_id is null
    and new.created_in operator(pg_catalog.=) pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8
  then
    return new;
  end if;
  new.created_in := pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8;
  new.changed_by := case
    when pg_catalog.pg_has_role(session_user, 'receiptd_owner', 'member')
      or not pg_catalog.pg_has_role(session_user, 'receiptd_writer', 'member')
    then session_user
  end;
  new.changed_at := case when new.changed_by is not null then pg_catalog.now() end;
  if not pg_catalog.pg_has_role('receiptd_owner', 'usage') then
    new.revision := 0;
    new.received_at := pg_catalog.now();
    new.revised_at := null;
    new.revised_request_id := null;
  end if;
  return new;
end
$$;

-- Writes inventory.has_replaced() for the columns that there are, as inventory.write_keep_revision() writes its own: through
-- jsonb, each second revision of a receipt cost several times as much. While a field is moved, or after somebody has changed the
-- columns without calling this, the content is composed.
create function inventory.write_has_replaced()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  fields constant text[] := array(
    select quote_ident(name)
    from unnest(inventory.content_columns()) as name
    where name not in ('program_identifier', 'asn_number', 'unit_identifier', 'extra')
  );
begin
  execute format(
    $create$
      create or replace function inventory.has_replaced(delivery record, ignored text[])
      returns boolean
      language plpgsql
      volatile
      security definer
      set search_path = pg_catalog, pg_temp
      as $function$
      declare
        never oid; -- The comparison with the two tables has this planned again when one of them has changed.
        content jsonb;
      begin
        if %L::boolean
          and inventory.content_columns_as_planned() = %L::text[]
          and (never = 'inventory.receipts'::regclass and never = 'inventory.receipt_revisions'::regclass) is not true
        then
          return exists (
            select
            from inventory.receipt_revisions as past
            where past.program_identifier = delivery.program_identifier
              and past.asn_number = delivery.asn_number
              and past.unit_identifier = delivery.unit_identifier
              and (%s) is not distinct from (%s)
              and nullif(past.extra - ignored, '{}') is not distinct from nullif(delivery.extra - ignored, '{}')
          );
        end if;
        content := inventory.content_of(to_jsonb(delivery));
        return exists (
          select
          from inventory.receipt_revisions as past
          cross join lateral inventory.content_of(to_jsonb(past)) as replaced
          where past.program_identifier = delivery.program_identifier
            and past.asn_number = delivery.asn_number
            and past.unit_identifier = delivery.unit_identifier
            and replaced - 'extra' = content - 'extra'
            and coalesce(nullif(replaced -> 'extra', 'null'), '{}') - ignored
              = coalesce(nullif(content -> 'extra', 'null'), '{}') - ignored
        );
      end
      $function$
    $create$,
    not exists (select from inventory.moved_fields),
    inventory.content_columns(),
    'past.' || array_to_string(fields, ', past.'),
    'delivery.' || array_to_string(fields, ', delivery.')
  );
  if to_regprocedure('inventory.record_schema(text, text[])') is not null then
    execute $record$ select inventory.record_schema('function', 'inventory.has_replaced(record,text[])') $record$;
  end if;
end
$$;

-- A sender that retries can deliver an older version after a newer one. Volatile for the same reason as has_revised.
do $$
begin
  perform inventory.write_has_replaced();
end
$$;

-- Every version with the content of one before it that was replaced: the sender has changed its mind, or an old delivery was late.
create view inventory.returned_versions as
with version as (
  select
    program_identifier, asn_number, unit_identifier, revision, request_id, received_at,
    inventory.content_of(to_jsonb(h)) as content
  from inventory.receipt_revisions as h
  union all
  select
    program_identifier, asn_number, unit_identifier, revision, revised_request_id, revised_at,
    inventory.content_of(to_jsonb(r))
  from inventory.receipts as r
  where revision > 1
)
select
  later.program_identifier,
  later.asn_number,
  later.unit_identifier,
  later.revision,
  later.request_id,
  later.received_at,
  max(earlier.revision) as same_as_revision
from version as later
join version as earlier
  using (program_identifier, asn_number, unit_identifier, content)
where earlier.revision < later.revision
group by 1, 2, 3, 4, 5, 6;
revoke all on inventory.returned_versions from public;
grant select on inventory.returned_versions to receiptd_reader;

revoke all on function inventory.write_has_replaced(), inventory.has_replaced(record, text[]) from public;
grant execute on function inventory.has_replaced(record, text[]) to receiptd_writer;
revoke all on function inventory.has_revised(uuid, text, text, text) from public;
revoke all on function inventory.apply_once(), inventory.stamp_receipt() from public;
grant execute on function inventory.has_revised(uuid, text, text, text) to receiptd_writer;

create trigger receipts_apply_once
before update on inventory.receipts
for each row
execute function inventory.apply_once();

create trigger receipts_stamp
before insert on inventory.receipts
for each row
execute function inventory.stamp_receipt();

comment on function inventory.has_revised(uuid, text, text, text) is
  'Whether the delivery with that request id brought a version of the receipt that was replaced since.';
comment on function inventory.has_replaced(record, text[]) is
  'Whether the content of a delivery, as it would be stored, is that of a version of its receipt that was replaced since. The names are those in extra that are no content.';
comment on function inventory.write_has_replaced() is
  'Writes inventory.has_replaced() for the columns that there are: makes it faster after a column was added or dropped.';
comment on view inventory.returned_versions is
  'One row for each version of a receipt whose content an earlier version had that was replaced in between: a change back, or an old delivery that arrived late. RECEIPTD_OLD_VERSIONS=keep_newer keeps the newer version instead. Ask for one receipt, or a span of revisions: it compares the whole history.';
comment on column inventory.returned_versions.program_identifier is 'As in receipts. Example: returns';
comment on column inventory.returned_versions.asn_number is 'As in receipts. Example: SO00001234';
comment on column inventory.returned_versions.unit_identifier is 'As in receipts. Example: 123456891011';
comment on column inventory.returned_versions.revision is 'The version that has returned. Example: 2';
comment on column inventory.returned_versions.request_id is
  'The delivery that brought it; null for a correction by hand. Example: 0b8e6a4c-93d1-4f27-8e5a-6c7d8e9f0a1b';
comment on column inventory.returned_versions.received_at is 'When it arrived. Example: 2026-11-24 08:30:00.654321+00';
comment on column inventory.returned_versions.same_as_revision is 'The latest earlier version with the same content. Example: 0';
comment on function inventory.apply_once() is
  'Before an update of receipts: leaves the row alone if the same delivery has revised it before; lets only the owner write what is not content; and records who makes a version by hand.';
comment on function inventory.stamp_receipt() is
  'Before a receipt is inserted: sets the transaction, and who inserts it by hand; lets only the owner give another time of arrival or a revision.';
comment on trigger receipts_apply_once on inventory.receipts is
  'Keeps a delivery that is retried from replacing what arrived after it, and everybody but the owner from rewriting history.';
comment on trigger receipts_stamp on inventory.receipts is
  'Keeps everybody but the owner from writing history.';

commit;
