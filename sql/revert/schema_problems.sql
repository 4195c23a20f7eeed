-- Revert receiptd:schema_problems from pg

begin;

set local role receiptd_owner;

drop function inventory.schema_problems();
drop function inventory.schema_warnings();
drop function inventory.record_schema(text, text[]);
drop view inventory.schema_state;
drop table inventory.schema_objects;

commit;
