-- Revert receiptd:rejected_receipts from pg
--
-- Every refused delivery that was kept is gone after this.

begin;

set local role receiptd_owner;

drop view inventory.open_rejections;
drop function inventory.mark_superseded();
drop table inventory.rejected_receipts;
drop function inventory.stamp_rejection();
drop function inventory.is_superseded(timestamptz, text, text, text);
drop function inventory.forget_digest();

commit;
