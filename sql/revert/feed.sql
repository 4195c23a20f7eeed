-- Revert receiptd:feed from pg

begin;

set local role receiptd_owner;

drop function inventory.changes_since(text, integer);
drop function inventory.changes_begin();
drop function inventory.feed_cluster();
drop trigger receipts_tell_deleted on inventory.receipts;
drop trigger receipts_tell_written on inventory.receipts;
drop trigger receipts_tell_truncated on inventory.receipts;
drop function inventory.tell_deleted();
drop function inventory.tell_written();
drop function inventory.tell_truncated();
drop table inventory.feed_events;

commit;
