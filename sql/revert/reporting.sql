-- Revert receiptd:reporting from pg

begin;

set local role receiptd_owner;

drop schema reporting cascade;
drop table inventory.warehouses;
drop table inventory.condition_codes;

commit;
