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

create function inventory.apply_once()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if inventory.has_revised(
    new.revised_request_id, new.program_identifier, new.asn_number, new.unit_identifier
  ) then
    perform inventory.decline_revision(new.revised_request_id);
    return null;
  end if;
  return new;
end
$$;

revoke all on function inventory.has_revised(uuid, text, text, text) from public;
revoke all on function inventory.apply_once() from public;
grant execute on function inventory.has_revised(uuid, text, text, text) to receiptd_writer;

-- Of the first two versions the row itself carries the request ids, and the service's statement compares them: so this
-- costs new receipts and first revisions nothing.
create trigger receipts_apply_once
before update on inventory.receipts
for each row
when (
  old.revision > 1
  and new.revision = old.revision + 1
  and new.revised_request_id is not null
)
execute function inventory.apply_once();

comment on function inventory.has_revised(uuid, text, text, text) is
  'Whether the delivery with that request id brought a version of the receipt that was replaced since.';
comment on function inventory.apply_once() is
  'Before the service''s own update of receipts: leaves the row alone when the same delivery has revised it before, and others after that.';
comment on trigger receipts_apply_once on inventory.receipts is
  'Keeps a delivery that is tried again from replacing what came after it.';

commit;
