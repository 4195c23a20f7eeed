-- Revert receiptd:manual_changes from pg
--
-- Who changed something by hand is forgotten after this.

begin;

set local role receiptd_owner;

drop function inventory.log_manual_change();
drop function inventory.log_change(text, text, jsonb, jsonb);
drop function inventory.is_manual();
drop table inventory.manual_changes;

commit;
