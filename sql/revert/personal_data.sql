-- Revert receiptd:personal_data from pg

begin;

set local role receiptd_owner;

-- Without these rows, the next delivery under the login of a person who was erased would bring that person back.
do $$
begin
  if exists (select from inventory.erased_people) then
    raise exception 'people were erased in this database, and would be named again after this revert'
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'Save the rows of inventory.erased_people and inventory.erasure_state (pg_dump --data-only), delete those of inventory.erased_people, and put both back after the next deploy; then call inventory.erase_people().';
  end if;
end
$$;

drop procedure inventory.purge(interval, interval, integer);
drop function inventory.purge_portion(interval, interval, integer);
revoke usage on schema inventory from receiptd_purger;
drop procedure inventory.erase_people(bigint, bigint, bigint, bigint, bigint);
drop function inventory.erase_totals();
drop function inventory.erase_portion(regclass, bigint, bigint, integer);
drop function inventory.enforce_erasure();
drop function inventory.take_people();
drop trigger rejected_receipts_keep_erased on inventory.rejected_receipts;
drop trigger receipt_revisions_keep_erased on inventory.receipt_revisions;
drop trigger receipts_keep_erased on inventory.receipts;
drop function inventory.keep_erased_rejection();
drop function inventory.keep_erased();
drop function inventory.write_keep_erased();
drop function inventory.texts_of(text);
drop function inventory.erased_in(regclass, jsonb);
drop function inventory.body_without_erased(bytea);
drop function inventory.without_erased(text, text, text);
drop function inventory.erased_label(text, text, text);
drop function inventory.login_of(text, text);
drop function inventory.login_patterns(boolean, text);
drop function inventory.may_be_erased(text, text, text);
drop function inventory.only_addresses_as_planned();
drop function inventory.filter_mask_as_planned();
drop function inventory.filter_seed_as_planned();
drop function inventory.filter_as_planned();
drop function inventory.normal_login(text);
drop table inventory.people_to_erase;
drop table inventory.erasure_state;
drop table inventory.erased_people;

commit;
