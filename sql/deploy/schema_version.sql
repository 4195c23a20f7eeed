-- Deploy receiptd:schema_version to pg
-- requires: apply_once
-- requires: rejected_receipts

begin;

set local role receiptd_owner;

-- What the service needs is said as a number: every change that it cannot do without raises it, with "create or replace".
-- The service reads the number out of the text, so that a schema without this function is no error to it; so the body
-- has to stay "select" and a number.
create function inventory.schema_version()
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$ select 1 $$;

revoke all on function inventory.schema_version() from public;
grant execute on function inventory.schema_version() to receiptd_writer, receiptd_reader;

comment on function inventory.schema_version() is
  'The version of this schema, as the service counts it; receiptd_info in its metrics says which one it needs at the least.';

commit;
