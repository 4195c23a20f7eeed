-- The deployed schema, spread over the nodes of a Citus cluster (13, PostgreSQL 15 or later): see README.md, "More than one
-- machine". By hand, as a superuser on the coordinator, once: after roles.sql, the database and "create extension citus"
-- on every node, sqitch deploy on the coordinator, citus_set_coordinator_host and citus_add_node for each other node; before
-- the service starts.
--
--   psql -h COORDINATOR -d inventory -f citus.sql
--   psql -h COORDINATOR -d inventory -v shards=8 -f citus.sql

\set ON_ERROR_STOP on
-- A batch is split by shard: one or two for each core of the cluster.
\if :{?shards} \else \set shards 4 \endif

begin;

-- The triggers read and write their own receipt's shard and the one colocated with it, and nothing else, but for those
-- below.
set local citus.enable_unsafe_triggers = on;

-- A statement for many receipts is split by shard, so it is planned with its values: with a generic plan the look-up fails
-- with "could not create distributed plan". In the database, so that roles.sql does not undo it.
select format('alter role receiptd_writer in database %I set plan_cache_mode = force_custom_plan', current_database())
\gexec
-- Functions that work as their owner ask the other nodes as that owner: let it in there (pg_hba.conf), and nowhere else.
alter role receiptd_owner login;
-- Erasing goes through a table by its blocks, and has sessions read what they keep in memory again: both are of one PostgreSQL.
drop procedure inventory.erase_people(bigint, bigint, bigint, bigint, bigint);
-- The feed and the totals go by the numbers of transactions of one PostgreSQL. Here each node has its own: without totals,
-- the views for reports count the receipts themselves.
drop trigger receipts_tell_deleted on inventory.receipts;
drop trigger receipts_tell_written on inventory.receipts;
drop trigger receipts_tell_truncated on inventory.receipts;
drop trigger receipt_revisions_tell_deleted on inventory.receipt_revisions;
drop trigger receipt_revisions_tell_truncated on inventory.receipt_revisions;
-- inventory.manual_changes is a table of the coordinator. Versions still name who made them.
drop trigger receipts_log_delete on inventory.receipts;
drop trigger receipts_log_truncate on inventory.receipts;
drop trigger receipt_revisions_log_change on inventory.receipt_revisions;
drop trigger receipt_revisions_log_truncate on inventory.receipt_revisions;
revoke execute on function inventory.changes_begin(), inventory.changes_since(text, integer) from receiptd_reader;
revoke execute on function reporting.changes_begin(), reporting.changes_since(text, integer) from receiptd_analyst, receiptd_reader;
revoke execute on procedure inventory.refresh_totals() from receiptd_totals;
-- A time zone is put into effect by hand: select inventory.set_zones().
drop trigger warehouses_follow_zones on inventory.warehouses;

-- As deployed, but in PL/pgSQL: a function in SQL cannot hand its parameters to another node. The trigger calls it on a
-- shard: what it asks is of one receipt, whose history is on the same node.
create or replace function inventory.has_revised(
  request_id uuid,
  program_identifier text,
  asn_number text,
  unit_identifier text
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set citus.allow_nested_distributed_execution = on
as $$
begin
  return exists (
    select
    from inventory.receipt_revisions as past
    where past.program_identifier = $2
      and past.asn_number = $3
      and past.unit_identifier = $4
      and past.request_id = $1
  );
end
$$;

-- What inventory.schema_problems() finds different from here on is meant: these triggers are gone, and one function is another.
do $$
begin
  perform inventory.record_schema(
    'trigger',
    'receipts_tell_deleted',
    'receipts_tell_written',
    'receipts_tell_truncated',
    'receipts_log_delete',
    'receipts_log_truncate',
    'receipt_revisions_log_change',
    'receipt_revisions_log_truncate'
  );
  perform inventory.record_schema('function', 'inventory.has_revised(uuid,text,text,text)');
end
$$;

-- What views join is on every node; what else they name is on the coordinator.
select citus_add_local_table_to_metadata(format('inventory.%I', name)::regclass)
from unnest(
  array[
    'totals_state',
    'totals_work',
    'totals_by_date',
    'totals_by_asn',
    'totals_by_number',
    'totals_by_hour',
    'totals_silences',
    'feed_events',
    'feed_state'
  ]
) as name;
select create_reference_table('inventory.warehouses');
select create_reference_table('inventory.day_zones');
select create_reference_table('inventory.condition_codes');
-- The trigger on each shard reads it.
select create_reference_table('inventory.moved_fields');

-- By unit: every key has one, no unit is large, and "what became of this unit?" asks one shard. The history of a receipt is
-- on the same node: its foreign key and its trigger need that.
select create_distributed_table('inventory.receipts', 'unit_identifier', colocate_with => 'none', shard_count => :shards);
select create_distributed_table('inventory.receipt_revisions', 'unit_identifier', colocate_with => 'inventory.receipts');

-- rejected_receipts stays on the coordinator: it has two unique columns, and a distributed table can have unique only what
-- includes the column by which it is distributed.

commit;
