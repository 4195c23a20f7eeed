-- Revert receiptd:feed from pg

begin;

set local role receiptd_owner;

drop function reporting.changes_since(text, integer);
drop function reporting.changes_begin();
drop procedure inventory.trim_feed(interval, integer);
drop function inventory.trim_portion(interval, integer);
drop function inventory.changes_since(text, integer);
drop function inventory.changed_keys(text, integer);
drop function inventory.changes_begin();
drop function inventory.feed_id();
alter table inventory.receipts enable trigger receipts_stamp;
drop trigger receipt_revisions_tell_deleted on inventory.receipt_revisions;
drop trigger receipt_revisions_tell_truncated on inventory.receipt_revisions;
drop trigger receipts_tell_deleted on inventory.receipts;
drop trigger receipts_tell_written on inventory.receipts;
drop trigger receipts_tell_truncated on inventory.receipts;
drop function inventory.tell_deleted();
drop function inventory.tell_written();
drop function inventory.tell_truncated();
drop table inventory.feed_state;
drop table inventory.feed_events;
drop function inventory.tell_trimmed();

commit;
