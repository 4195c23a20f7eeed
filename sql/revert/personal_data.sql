-- Revert receiptd:personal_data from pg

begin;

set local role receiptd_owner;

drop procedure inventory.purge(interval, interval, integer);
drop function inventory.purge_portion(interval, interval, integer);
revoke usage on schema inventory from receiptd_purger;
drop function inventory.erase_person(text);
drop function inventory.pattern_of(text, boolean);
drop trigger receipts_keep_erased on inventory.receipts;
drop function inventory.keep_erased();
drop function inventory.is_erased(text);
drop table inventory.erased_people;

create or replace function inventory.number_revision()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  -- Everything else in the row is content, also what a later change adds.
  bookkeeping constant text[] := array[
    'revision',
    'request_id',
    'revised_request_id',
    'api_key_name',
    'received_at',
    'revised_at'
  ];
begin
  if (new.program_identifier, new.asn_number, new.unit_identifier)
    is distinct from (old.program_identifier, old.asn_number, old.unit_identifier)
  then
    raise exception 'the key of a receipt cannot be changed'
      using errcode = 'integrity_constraint_violation',
        hint = 'Insert a receipt with the other key, and delete this one.';
  end if;

  new.revision := old.revision;
  if to_jsonb(new) - bookkeeping is distinct from to_jsonb(old) - bookkeeping then
    new.revision := old.revision + 1;
    new.revised_request_id := null;
    new.revised_at := now();
  end if;
  return new;
end
$$;

commit;
