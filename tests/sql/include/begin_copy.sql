-- A reader of the feed that keeps a copy: a cursor, and then all there is.
set client_min_messages = warning;
drop schema if exists reader cascade;
create schema reader;
create table reader.cursor as select inventory.changes_begin() as cursor;
create table reader.copy as select * from inventory.receipts;
create index on reader.copy (unit_identifier);
