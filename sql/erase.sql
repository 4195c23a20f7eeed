-- Erases people: reads their logins from standard input, one a line, so that no statement has them, and no log. See README.md,
-- "Personal data". As receiptd_migrator:
--
--   psql -d inventory -f erase.sql
--
-- Type the logins, then a line with \. or Ctrl-D.

\set ON_ERROR_STOP on

begin;
set local client_min_messages = warning;
-- What is left from a run that was ended before it took them.
truncate inventory.people_to_erase;
-- A login may have any character but these two.
\copy inventory.people_to_erase (login) from pstdin with (format csv, delimiter E'\x01', quote E'\x02')
commit;
call inventory.erase_people();
