-- Deploy receiptd:schema to pg
--
-- Needs the roles of roles.sql.

begin;

set local role receiptd_owner;

create schema inventory;

comment on schema inventory is
  'What a warehouse has received: units of returns and transfers, as the warehouse system OptiTurn (vendor: Optoro) reports them to the service receiptd. Read receipts; receipt_revisions has what a receipt said before it was corrected.';

-- Nobody else may, whatever default privileges say.
revoke all on schema inventory from public;
grant usage on schema inventory to receiptd_writer, receiptd_reader;

commit;
