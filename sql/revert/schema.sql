-- Revert receiptd:schema from pg

begin;

set local role receiptd_owner;

-- Without "cascade": what somebody else has put into the schema is not ours to drop.
drop schema inventory;

commit;
