-- Revert receiptd:reporting from pg

begin;

set local role receiptd_owner;

drop schema reporting cascade;
revoke execute on function inventory.field_columns() from receiptd_analyst;
drop function inventory.unknown_time_zones();
drop table inventory.warehouses;
drop table inventory.day_zones;
drop function inventory.known_time_zone(text);
drop table inventory.condition_codes;

commit;
