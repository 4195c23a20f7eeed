-- Revert receiptd:totals from pg

begin;

set local role receiptd_owner;

drop view reporting.reference_numbers;
drop view reporting.cartons;
drop view reporting.receipts_by_month;
drop view reporting.receipts_by_day;
drop view reporting.asns;
drop function inventory.totals_counted_at();
drop function inventory.silences();
drop function inventory.refresh_totals();
drop function inventory.fresh_by_number();
drop function inventory.fresh_by_asn();
drop function inventory.fresh_by_month();
drop function inventory.fresh_months();
drop function inventory.fresh_by_day();
drop function inventory.fresh_days();
drop function inventory.written_since(bigint);
drop function inventory.totals_counted_in();
drop function inventory.time_zones();
drop table inventory.totals_silences;
drop table inventory.totals_by_number;
drop table inventory.totals_by_asn;
drop table inventory.totals_by_month;
drop table inventory.totals_by_day;
drop table inventory.totals_state;

commit;
