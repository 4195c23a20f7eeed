-- Revert receiptd:schema_version from pg

begin;

set local role receiptd_owner;

drop function inventory.schema_version();

commit;
