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

commit;
