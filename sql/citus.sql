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
select format('alter role receiptd_writer in database %I set plan_cache_mode = auto', current_database())
\gexec
-- The feed and the totals go by the numbers of transactions of one PostgreSQL. Here each node has its own: without totals,
-- the views for reports count the receipts themselves.
drop trigger receipts_tell_deleted on inventory.receipts;
drop trigger receipts_tell_written on inventory.receipts;
drop trigger receipts_tell_truncated on inventory.receipts;
revoke execute on function inventory.changes_begin(), inventory.changes_since(text, integer) from receiptd_reader;
revoke execute on function inventory.refresh_totals() from receiptd_writer;

-- What views join is on every node; what else they name is on the coordinator.
select citus_add_local_table_to_metadata(format('inventory.%I', name)::regclass)
from unnest(
  array[
    'totals_state',
    'totals_by_day',
    'totals_by_month',
    'totals_by_asn',
    'totals_by_number',
    'totals_silences',
    'feed_events',
    'rejected_receipts'
  ]
) as name;
select create_reference_table('inventory.warehouses');
select create_reference_table('inventory.condition_codes');

-- By unit: every key has one, no unit is large, and "what became of this unit?" asks one shard. The history of a receipt is
-- on the same node: its foreign key and its trigger need that.
select create_distributed_table('inventory.receipts', 'unit_identifier', colocate_with => 'none', shard_count => :shards);
select create_distributed_table('inventory.receipt_revisions', 'unit_identifier', colocate_with => 'inventory.receipts');

-- rejected_receipts stays on the coordinator: it has two unique columns, and a distributed table can have unique only what
-- includes the column by which it is distributed.

commit;
