-- Revert receiptd:receipt_revisions from pg
--
-- The history of every receipt is gone after this; the receipts stay.

begin;

set local role receiptd_owner;

drop trigger receipts_log_delete on inventory.receipts;
drop trigger receipts_log_truncate on inventory.receipts;
drop trigger receipts_keep_revision on inventory.receipts;
drop trigger receipts_number_revision on inventory.receipts;
drop function inventory.keep_revision();
drop function inventory.write_keep_revision();
drop function inventory.keep_statement(text);
drop function inventory.content_columns_as_planned();
drop function inventory.number_revision();
drop table inventory.receipt_revisions;

commit;
