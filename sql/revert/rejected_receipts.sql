-- Revert receiptd:rejected_receipts from pg
--
-- Every refused delivery that was kept is gone after this.

begin;

set local role receiptd_owner;

drop table inventory.rejected_receipts;
drop function inventory.stamp_rejection();

commit;
