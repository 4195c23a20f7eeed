-- inventory.schema_problems() has a row for whatever keeps the database from storing what the service acknowledges, and
-- none for what a DBA may do.

begin;
set local search_path = inventory, tap;
set local client_min_messages = warning;
create role receiptd_test_other;

-- What the service is told after statements, which are undone; with warnings: what the doctor is warned of.
create function pg_temp.told(statements text, warnings boolean default false) returns text language plpgsql as $$
declare
  told text;
begin
  begin
    execute statements;
    set local role receiptd_writer;
    select coalesce(string_agg(problem, E'\n' order by problem), 'nothing')
    into told
    from (
      select problem
      from inventory.schema_problems()
      where not warnings
      union all
      select warning
      from inventory.schema_warnings()
      where warnings
    ) as rows;
    raise exception using errcode = 'TS000', message = told;
  exception
    when sqlstate 'TS000' then
      return sqlerrm;
    when others then
      return 'error: ' || sqlerrm;
  end;
end
$$;

create temp table cases (number serial, statements text, expected text);
insert into cases (statements, expected) values
  -- Tables
  ('drop table inventory.rejected_receipts cascade', 'there is no table inventory.rejected_receipts'),
  ('drop table inventory.receipts cascade', 'there is no table inventory.receipts'),
  (
    'alter table inventory.receipts rename to kept; create view inventory.receipts as select * from inventory.kept',
    'inventory.receipts is a view, not a table'
  ),
  (
    'alter table inventory.receipt_revisions drop constraint receipt_revisions_receipts_fkey;'
      ' alter table inventory.receipts set unlogged',
    'inventory.receipts is unlogged'
  ),
  ('alter table inventory.receipt_revisions set unlogged', 'inventory.receipt_revisions is unlogged'),
  ('alter table inventory.rejected_receipts set unlogged', 'inventory.rejected_receipts is unlogged'),
  ('create table public.child () inherits (inventory.receipts)', 'public.child inherits from a table of receiptd'),
  -- Privileges
  ('revoke update on inventory.receipts from receiptd_writer', 'receiptd_writer may not update inventory.receipts'),
  ('revoke select on inventory.receipts from receiptd_writer', 'may not select from inventory.receipts'),
  ('revoke insert on inventory.rejected_receipts from receiptd_writer', 'may not insert into inventory.rejected_receipts'),
  ('revoke update (resolution) on inventory.rejected_receipts from receiptd_writer', 'may not count repeats in inventory.rejected_receipts and resolve them'),
  ('revoke execute on function inventory.has_revised(uuid, text, text, text) from receiptd_writer', 'may not execute inventory.has_revised'),
  ('revoke execute on function inventory.has_replaced(record, text[]) from receiptd_writer', 'may not execute inventory.has_replaced'),
  ('revoke execute on function inventory.decline_revision(uuid) from receiptd_writer', 'may not execute inventory.decline_revision'),
  ('revoke insert on inventory.receipt_revisions from receiptd_owner', 'may not select from and insert into inventory.receipt_revisions'),
  ('revoke select on inventory.receipt_revisions from receiptd_owner', 'may not select from and insert into inventory.receipt_revisions'),
  (
    'alter table inventory.receipts add column more text not null; alter table inventory.receipt_revisions add column more text not null',
    'the column more of inventory.receipts must not be null'
  ),
  (
    'alter table inventory.receipts add column more text; alter table inventory.receipt_revisions add column more text;'
      ' do $x$ begin perform inventory.write_keep_revision(); end $x$',
    '^nothing$'
  ),
  -- Row level security
  ('alter table inventory.receipts enable row level security', 'row level security on inventory.receipts applies to receiptd_writer .*no policy'),
  (
    'alter table inventory.receipts enable row level security; create policy p on inventory.receipts using (true)',
    '^nothing$'
  ),
  (
    'alter table inventory.receipts enable row level security; create policy p on inventory.receipts using (true);'
      ' set local row_security = off',
    'row level security on inventory.receipts'
  ),
  (
    'alter table inventory.receipts enable row level security; create policy p on inventory.receipts to receiptd_test_other using (true)',
    'row level security on inventory.receipts .*policies: p'
  ),
  (
    'alter table inventory.receipts enable row level security; create policy p on inventory.receipts using (true);'
      ' create policy q on inventory.receipts as restrictive using (to_identifier = 1)',
    'row level security on inventory.receipts'
  ),
  (
    'alter table inventory.receipts enable row level security; create policy p on inventory.receipts for select using (true);'
      ' create policy q on inventory.receipts for insert with check (true)',
    'row level security on inventory.receipts'
  ),
  (
    'alter table inventory.receipts enable row level security; create policy p on inventory.receipts using (to_identifier = 1)',
    'row level security on inventory.receipts'
  ),
  ('alter table inventory.rejected_receipts enable row level security', 'row level security on inventory.rejected_receipts'),
  ('alter table inventory.receipt_revisions enable row level security', '^nothing$'),
  (
    'alter table inventory.receipt_revisions enable row level security, force row level security',
    'row level security on inventory.receipt_revisions applies to receiptd_owner'
  ),
  -- Rules
  ('create rule nothing as on insert to inventory.receipts do instead nothing', 'the rule nothing on inventory.receipts rewrites inserts'),
  ('create rule also as on update to inventory.receipts do also notify changed', 'the rule also on inventory.receipts rewrites updates'),
  ('create rule nothing as on insert to inventory.receipt_revisions do instead nothing', 'the rule nothing on inventory.receipt_revisions rewrites inserts'),
  (
    'create rule nothing as on insert to inventory.receipts do instead nothing; alter table inventory.receipts disable rule nothing',
    '^nothing$'
  ),
  -- Unique keys
  ('alter table inventory.receipts drop constraint receipts_pkey cascade', 'inventory.receipts has no unique index on exactly'),
  (
    'alter table inventory.receipts drop constraint receipts_pkey cascade; create unique index on inventory.receipts'
      ' (program_identifier, asn_number, unit_identifier) where to_identifier > 0',
    'inventory.receipts has no unique index on exactly'
  ),
  (
    'alter table inventory.receipts drop constraint receipts_pkey cascade; create unique index on inventory.receipts'
      ' (program_identifier, asn_number, unit_identifier, to_identifier)',
    'inventory.receipts has no unique index on exactly'
  ),
  (
    'alter table inventory.receipts add constraint more unique (program_identifier, asn_number, unit_identifier) deferrable',
    'the unique constraint inventory.more is deferrable'
  ),
  (
    'alter table inventory.rejected_receipts drop constraint rejected_receipts_request_id_key',
    'inventory.rejected_receipts has no unique index on exactly \(request_id\)'
  ),
  ('drop index inventory.rejected_receipts_digest_idx', 'inventory.rejected_receipts has no unique index rejected_receipts_digest_idx'),
  (
    'update pg_index set indisvalid = false where indexrelid = ''inventory.rejected_receipts_digest_idx''::regclass',
    'inventory.rejected_receipts has no unique index rejected_receipts_digest_idx'
  ),
  ('update pg_index set indisvalid = false where indexrelid = ''inventory.receipts_pkey''::regclass', 'inventory.receipts has no unique index'),
  -- Triggers and their functions
  ('drop trigger receipts_keep_revision on inventory.receipts', 'the trigger receipts_keep_revision is missing'),
  ('drop function inventory.keep_revision() cascade', 'the function inventory.keep_revision\(\) is missing'),
  ('alter table inventory.receipts disable trigger receipts_keep_revision', 'the trigger receipts_keep_revision is disabled'),
  ('alter table inventory.receipts disable trigger user', 'the trigger receipts_apply_once is disabled'),
  ('alter table inventory.receipts enable replica trigger receipts_number_revision', 'receipts_number_revision fires for replication only'),
  ('alter table inventory.receipts enable always trigger receipts_number_revision', '^nothing$'),
  (
    'drop trigger receipts_keep_revision on inventory.receipts; create trigger receipts_keep_revision after update on'
      ' inventory.receipts for each row when (new.revision > old.revision + 1) execute function inventory.keep_revision()',
    'the trigger receipts_keep_revision is not as it was deployed: .*new.revision > '
  ),
  (
    'drop trigger receipts_keep_revision on inventory.receipts; create trigger receipts_keep_revision after update of sku on'
      ' inventory.receipts for each row when (new.revision is distinct from old.revision) execute function inventory.keep_revision()',
    'receipts_keep_revision is not as it was deployed: after update of sku'
  ),
  (
    'create function public.nothing() returns trigger language plpgsql as ''begin return null; end'';'
      ' drop trigger receipts_keep_revision on inventory.receipts; create trigger receipts_keep_revision after update on'
      ' inventory.receipts for each row when (new.revision is distinct from old.revision) execute function public.nothing()',
    'receipts_keep_revision is not as it was deployed: .*execute public.nothing'
  ),
  (
    'create or replace function inventory.keep_revision() returns trigger language plpgsql security definer'
      ' set search_path = pg_catalog, pg_temp as ''begin return null; end''',
    'the function inventory.keep_revision\(\) is not as it was deployed'
  ),
  ('alter function inventory.keep_revision() security invoker', 'the function inventory.keep_revision\(\) is not as it was deployed: plpgsql security invoker'),
  ('alter function inventory.keep_revision() reset search_path', 'the function inventory.keep_revision\(\) is not as it was deployed'),
  ('alter function inventory.keep_revision() set search_path = public', 'the function inventory.keep_revision\(\) is not as it was deployed'),
  ('alter function inventory.keep_revision() owner to receiptd_test_other', 'inventory.keep_revision\(\) belongs to receiptd_test_other'),
  (
    'create trigger a_dba after insert on inventory.receipts for each row execute function inventory.tell_written()',
    '^nothing$'
  ),
  ('truncate inventory.schema_objects', '^nothing$'),
  -- Another release words definitions in another way.
  ('update inventory.schema_objects set postgresql = 12, definition = ''another wording'' where kind = ''trigger''', '^nothing$'),
  ('update inventory.schema_objects set definition = ''another wording'' where name = ''receipts_keep_revision''', 'receipts_keep_revision is not as it was'),
  ('set local quote_all_identifiers = on', '^nothing$'),
  -- History
  (
    'alter table inventory.receipt_revisions drop constraint receipt_revisions_receipts_fkey',
    '^nothing$'
  ),
  ('alter table inventory.receipts disable trigger all', 'the trigger receipts_keep_revision is disabled'),
  -- Columns
  ('alter table inventory.receipts drop column extra cascade', 'the column receipts.extra is missing'),
  ('alter table inventory.receipts drop column revised_at cascade', 'the column receipts.revised_at is missing'),
  ('alter table inventory.receipt_revisions drop column upc cascade', 'the column receipt_revisions.upc is missing'),
  ('alter table inventory.receipts drop column reject_reason cascade; alter table inventory.receipt_revisions drop column reject_reason cascade', '^nothing$'),
  (
    'alter table inventory.receipts drop column sku cascade',
    'the column sku of inventory.receipt_revisions must not be null, and neither'
  ),
  ('alter table inventory.rejected_receipts drop column errors cascade', 'the column rejected_receipts.errors is missing'),
  ('alter table inventory.receipt_revisions alter column merchant type varchar(20)', 'the column receipt_revisions.merchant is not as it was deployed: character varying\(20\)'),
  (
    'create domain public.short as text check (length(value) < 5); drop schema reporting cascade;'
      ' alter table inventory.receipts alter column asin type public.short',
    'the column receipts.asin is not as it was deployed: public.short'
  ),
  ('drop schema reporting cascade; drop view inventory.returned_versions; alter table inventory.receipt_revisions alter column unit_identifier type text collate "POSIX"', 'receipt_revisions.unit_identifier is not as it was deployed'),
  ('alter table inventory.receipts alter column upc set not null', 'the column receipts.upc is not as it was deployed: text not null'),
  ('alter table inventory.receipts alter column from_type drop not null', '^nothing$'),
  ('alter table inventory.receipts alter column created_in drop default', 'the column receipts.created_in is not as it was deployed: no default'),
  ('alter table inventory.receipts alter column received_at set default ''2026-01-01''', 'the column receipts.received_at is not as it was deployed'),
  ('alter table inventory.receipts add column own text not null', 'the column own of inventory.receipts must not be null'),
  ('alter table inventory.receipts add column own text not null default ''x''', '^nothing$'),
  ('alter table inventory.receipts add column own text', '^nothing$'),
  ('alter table inventory.receipts add column own integer generated always as identity', '^nothing$'),
  ('alter table inventory.receipts add column own integer not null generated always as (1) stored', '^nothing$'),
  ('alter table inventory.receipt_revisions add column own text not null', 'the column own of inventory.receipt_revisions must not be null'),
  ('alter table inventory.rejected_receipts add column own text not null', 'the column own of inventory.rejected_receipts must not be null'),
  (
    'alter table inventory.receipts add column color text; alter table inventory.receipt_revisions add column color text',
    '^nothing$'
  ),
  -- Publications
  ('create publication p for all tables', '^nothing$'),
  ('create publication p for table inventory.receipts', '^nothing$'),
  (
    'alter table inventory.receipts replica identity nothing; create publication p for all tables',
    'the publication p \(owner .*\) makes PostgreSQL refuse updates of inventory.receipts: the table has no replica identity'
  ),
  (
    'alter table inventory.rejected_receipts replica identity nothing; create publication p for table inventory.rejected_receipts',
    'refuse updates of inventory.rejected_receipts'
  ),
  (
    'alter table inventory.receipts replica identity nothing; create publication p for all tables with (publish = ''insert'')',
    '^nothing$'
  ),
  ('alter table inventory.receipts replica identity full; create publication p for all tables', '^nothing$'),
  (
    'alter table inventory.receipts replica identity full; create publication p for table inventory.receipts (program_identifier, asn_number, unit_identifier)',
    'refuse updates of inventory.receipts: its column list does not cover the replica identity'
  ),
  (
    'create publication p for table inventory.receipts (program_identifier, asn_number, unit_identifier)', '^nothing$'
  ),
  (
    'create publication p for table inventory.receipts (program_identifier, asn_number)',
    'refuse updates of inventory.receipts: its column list does not cover'
  ),
  (
    'create publication p for table inventory.receipts where (sku = ''1'')',
    'refuse updates of inventory.receipts: its row filter uses columns'
  ),
  ('create publication p for table inventory.receipts where (asn_number = ''1'')', '^nothing$'),
  (
    'alter table inventory.receipts replica identity nothing; create publication p for tables in schema inventory',
    'refuse updates of inventory.receipts: the table has no replica identity'
  );

-- A table made of partitions: what is attached has the triggers, until somebody turns one off.
create function pg_temp.partitioned(then_do text) returns text language sql as $$
  select $make$
    create table public.part as select * from inventory.receipts with no data;
    drop schema reporting cascade;
    drop function inventory.changes_since(text, integer);
    create temp table definitions as
      select replace(pg_get_triggerdef(oid), ' REFERENCING OLD TABLE AS gone', '') as definition from pg_trigger
      where tgrelid = 'inventory.receipts'::regclass and not tgisinternal;
    alter table inventory.receipt_revisions drop constraint receipt_revisions_receipts_fkey;
    alter table inventory.receipts rename to whole;
    alter table inventory.whole rename constraint receipts_pkey to whole_pkey;
    create table inventory.receipts (like inventory.whole including defaults including constraints)
      partition by hash (unit_identifier);
    alter table inventory.receipts add constraint receipts_pkey primary key (program_identifier, asn_number, unit_identifier);
    create table inventory.receipts_0 partition of inventory.receipts for values with (modulus 1, remainder 0);
    alter table inventory.receipts owner to receiptd_owner;
    grant select, insert, update on inventory.receipts to receiptd_writer;
    alter table inventory.receipt_revisions add constraint receipt_revisions_receipts_fkey
      foreign key (program_identifier, asn_number, unit_identifier) references inventory.receipts on delete cascade;
    do $do$
    declare
      definition text;
    begin
      for definition in select d.definition from definitions as d loop
        execute definition;
      end loop;
    end
    $do$;
    drop trigger receipts_tell_deleted on inventory.receipts;
    create trigger receipts_tell_deleted after delete on inventory.receipts referencing old table as gone
      for each statement execute function inventory.tell_deleted();
  $make$ || then_do
$$;
insert into cases (statements, expected) values
  (pg_temp.partitioned(''), '^nothing$'),
  (
    pg_temp.partitioned(
      'alter table inventory.receipt_revisions drop constraint receipt_revisions_receipts_fkey;'
        ' alter table inventory.receipts_0 set unlogged'
    ),
    'inventory.receipts_0 is unlogged'
  ),
  (
    pg_temp.partitioned('alter table inventory.receipts_0 disable trigger receipts_keep_revision'),
    'the trigger receipts_keep_revision is disabled on inventory.receipts_0'
  ),
  (
    pg_temp.partitioned('alter table inventory.receipts_0 replica identity nothing; create publication p for table inventory.receipts'),
    'refuse updates of inventory.receipts_0: the table has no replica identity'
  );

select plan(10 + (select count(*) from cases)::integer);

select is(pg_temp.told('select'), 'nothing', 'as deployed there is no problem');
select matches(pg_temp.told(statements), expected, left(regexp_replace(statements, '\s+', ' ', 'g'), 120))
from cases
order by number;
select is(pg_temp.told('select', true), 'nothing', 'as deployed there is no warning');
select matches(pg_temp.told(statements, true), expected, 'a warning: ' || statements)
from (
  values
    ('truncate inventory.schema_objects', 'inventory.schema_objects is empty'),
    ('alter table inventory.receipts disable trigger receipts_tell_deleted', 'the trigger receipts_tell_deleted is disabled'),
    ('drop trigger receipts_tell_written on inventory.receipts', 'the trigger receipts_tell_written is missing'),
    (
      'alter table inventory.receipt_revisions drop constraint receipt_revisions_receipts_fkey',
      'the foreign key receipt_revisions_receipts_fkey is missing'
    ),
    ('alter table inventory.receipts disable trigger all', 'the foreign key receipt_revisions_receipts_fkey is missing or disabled')
) as cases (statements, expected);
select is_empty(
  $$ select from inventory.schema_problems() where advice = '' or advice is null $$, 'each problem has its advice'
);
set local role receiptd_writer;
select lives_ok('select from inventory.schema_problems()', 'the service may ask');
reset role;
-- Forgotten where it was dropped on purpose.
drop trigger receipts_tell_truncated on inventory.receipts;
select inventory.record_schema('trigger', 'receipts_tell_truncated');
select is(pg_temp.told('select'), 'nothing', 'what was recorded as dropped is not missed');

select * from finish();
rollback;
