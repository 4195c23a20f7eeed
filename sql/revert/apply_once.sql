-- Revert receiptd:apply_once from pg

begin;

set local role receiptd_owner;

drop trigger receipts_apply_once on inventory.receipts;
drop trigger receipts_stamp on inventory.receipts;
drop function inventory.stamp_receipt();
drop function inventory.apply_once();
drop view inventory.returned_versions;
drop function inventory.has_replaced(record, text[]);
drop function inventory.write_has_replaced();
drop function inventory.has_revised(uuid, text, text, text);

commit;
