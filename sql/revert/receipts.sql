-- Revert receiptd:receipts from pg
--
-- Every receipt is gone after this.

begin;

set local role receiptd_owner;

drop table inventory.receipts;

commit;
