-- Revert receiptd:reporting from pg

begin;

set local role receiptd_owner;

drop schema reporting cascade;
drop function inventory.unknown_time_zones();
drop table inventory.warehouses;
drop function inventory.known_time_zone(text);
drop table inventory.condition_codes;

commit;
