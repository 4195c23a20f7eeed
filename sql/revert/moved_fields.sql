-- Revert receiptd:moved_fields from pg

begin;

set local role receiptd_owner;

set local client_min_messages = warning;
drop trigger if exists receipts_fold_extra on inventory.receipts;
drop function inventory.end_move(text);
drop function inventory.remove_field(text);
drop function inventory.return_field(text, text[]);
drop function inventory.add_field(text, text[]);
drop function inventory.columns_changed(text[]);
drop procedure inventory.move_field(text, integer);
drop function inventory.move_portion(text, boolean, text[], text[], integer);
drop function inventory.write_fold_trigger();
drop function inventory.fold_extra();
drop function inventory.content_of(jsonb);
drop function inventory.fold(jsonb, text);
drop function inventory.content_columns();
drop function inventory.write_field_columns(text[]);
drop function inventory.bookkeeping_columns();
drop function inventory.field_columns();
drop function inventory.decline_revision(uuid);
drop table inventory.moved_fields;

commit;
