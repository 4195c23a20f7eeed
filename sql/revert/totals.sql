-- Revert receiptd:totals from pg

begin;

set local role receiptd_owner;

drop view reporting.silences;
drop view reporting.reference_numbers;
drop view reporting.cartons;
drop view reporting.receipts_by_month;
drop view reporting.receipts_by_day;
drop view reporting.asns;
drop trigger warehouses_follow_zones on inventory.warehouses;
drop function inventory.follow_zones();
drop function inventory.totals_counted_at();
drop function inventory.silences();
drop procedure inventory.refresh_totals();
drop function inventory.refresh_totals_portion(integer);
drop function inventory.end_totals();
drop function inventory.work_on_totals(integer);
drop function inventory.begin_totals();
drop function inventory.recount_asns(text[], text[]);
drop function inventory.recount_month(date);
drop function inventory.recount_day(date);
drop function inventory.find_silences();
drop function inventory.count_hours(date[]);
drop function inventory.fresh_by_number();
drop function inventory.fresh_by_asn();
drop function inventory.count_asns(text[], text[]);
drop function inventory.fresh_by_date(text);
drop function inventory.count_days(date[]);
drop function inventory.fresh_dates(text);
drop function inventory.set_zones();
drop function inventory.zones_of_days();
drop function inventory.written_since(bigint);
drop function inventory.totals_need_events_from();
drop function inventory.totals_counted_in();
drop function inventory.totals_until();
drop function inventory.totals_cluster();
drop table inventory.totals_silences;
drop table inventory.totals_by_hour;
drop table inventory.totals_by_number;
drop table inventory.totals_by_asn;
drop table inventory.totals_by_date;
drop table inventory.totals_work;
drop table inventory.totals_state;
revoke usage on schema inventory from receiptd_totals;

commit;
