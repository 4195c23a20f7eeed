-- Revert receiptd:publication from pg

begin;

set local role receiptd_owner;

drop publication if exists receiptd_receipts;

commit;
