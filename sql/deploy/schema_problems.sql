-- Deploy receiptd:schema_problems to pg
-- requires: receipt_revisions
-- requires: rejected_receipts
-- requires: apply_once
-- requires: feed
-- requires: personal_data

begin;

set local role receiptd_owner;

-- The triggers, functions and columns that keep CONTRACT.md true, as they were deployed. So the schema knows its own truth:
-- a newer schema brings its own, and an older program does not complain about it.
create table inventory.schema_objects (
  kind text collate "C" not null,
  name text collate "C" not null,
  fingerprint text not null,
  definition text,
  postgresql integer not null,
  constraint schema_objects_pkey primary key (kind, name),
  constraint schema_objects_kind_check check (kind in ('column', 'function', 'trigger'))
);
revoke all on inventory.schema_objects from public;
grant select on inventory.schema_objects to receiptd_writer, receiptd_reader;

-- fingerprint reads the same in every release of PostgreSQL; definition, which PostgreSQL puts into words, need not.
create view inventory.schema_state as
select
  'trigger' as kind,
  t.tgname::text as name,
  concat_ws(
    ' ',
    case when t.tgtype & 2 = 2 then 'before' else 'after' end,
    concat_ws(
      ' or ',
      case when t.tgtype & 4 = 4 then 'insert' end,
      case when t.tgtype & 8 = 8 then 'delete' end,
      case when t.tgtype & 16 = 16 then 'update' end,
      case when t.tgtype & 32 = 32 then 'truncate' end
    ),
    'of ' || (
      select string_agg(a.attname, ', ' order by a.attnum)
      from pg_catalog.pg_attribute as a
      where a.attrelid = t.tgrelid and a.attnum = any (t.tgattr)
    ),
    'on inventory.' || c.relname,
    case when t.tgdeferrable then 'deferrable' end,
    case when t.tgtype & 1 = 1 then 'for each row' else 'for each statement' end,
    case when t.tgqual is not null then 'when (...)' end,
    'execute ' || t.tgfoid::regprocedure::text
  ) as fingerprint,
  pg_catalog.pg_get_triggerdef(t.oid) as definition
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = 'inventory'
  and c.relname in ('receipts', 'receipt_revisions', 'rejected_receipts')
  and starts_with(t.tgname, c.relname || '_')
  and not t.tgisinternal
union all
select
  'function',
  p.oid::regprocedure::text,
  concat_ws(
    ' ',
    l.lanname,
    case when p.prosecdef then 'security definer' else 'security invoker' end,
    'volatility ' || p.provolatile::text,
    'set ' || array_to_string(p.proconfig, ' set '),
    'returns ' || p.prorettype::regtype::text,
    'body ' || md5(p.prosrc)
  ),
  null
from pg_catalog.pg_proc as p
join pg_catalog.pg_language as l on l.oid = p.prolang
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
where n.nspname = 'inventory'
union all
select
  'column',
  c.relname || '.' || a.attname,
  concat_ws(
    ' ',
    format_type(a.atttypid, a.atttypmod),
    case when l.collname <> 'default' then 'collate ' || quote_ident(l.collname) end,
    case when a.attgenerated <> '' then 'generated' when a.attidentity <> '' then 'identity' end,
    case when a.attnotnull then 'not null' end
  ),
  pg_catalog.pg_get_expr(d.adbin, d.adrelid)
from pg_catalog.pg_attribute as a
join pg_catalog.pg_class as c on c.oid = a.attrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_collation as l on l.oid = a.attcollation
left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where n.nspname = 'inventory'
  and c.relname in ('receipts', 'receipt_revisions', 'rejected_receipts')
  and a.attnum > 0
  and not a.attisdropped;
revoke all on inventory.schema_state from public;
grant select on inventory.schema_state to receiptd_writer, receiptd_reader;

-- Only what is named is recorded, so that a later change does not take what somebody else has changed for the truth.
create function inventory.record_schema(kind text, variadic names text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
  delete from inventory.schema_objects as o
  where o.kind = $1 and o.name = any (names);
  insert into inventory.schema_objects (kind, name, fingerprint, definition, postgresql)
  select s.kind, s.name, s.fingerprint, s.definition, current_setting('server_version_num')::integer / 10000
  from inventory.schema_state as s
  where s.kind = $1 and s.name = any (names);
end
$$;

-- Read from the catalog by name, since casts such as 'inventory.receipts'::regclass fail without the table or a privilege.
-- Everything that costs more than a look at the catalog is asked only where it matters.
create function inventory.schema_problems()
returns table (problem text, advice text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
#variable_conflict use_column
declare
  schema_id oid := (select oid from pg_namespace where nspname = 'inventory');
  receipts_id oid := (select oid from pg_class where relnamespace = schema_id and relname = 'receipts');
  revisions_id oid := (select oid from pg_class where relnamespace = schema_id and relname = 'receipt_revisions');
  rejected_id oid := (select oid from pg_class where relnamespace = schema_id and relname = 'rejected_receipts');
  all_ids oid[] := array[receipts_id, revisions_id, rejected_id];
  release integer := current_setting('server_version_num')::integer / 10000;
  keeper oid := (select proowner from pg_proc where pronamespace = schema_id and proname = 'keep_revision');
  part_ids oid[];
begin
  -- The tables

  return query
  select
    format('there is no table inventory.%s', name),
    'Restore it from a backup, or run "sqitch deploy" and "sqitch verify" in sql/.'
  from unnest(array['receipts', 'receipt_revisions', 'rejected_receipts'], all_ids) as wanted (name, id)
  where id is null;

  return query
  select
    format(
      'inventory.%s is a %s, not a table',
      relname,
      case relkind
        when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' else 'relation of another kind'
      end
    ),
    format('Move it away and put the table back under the name inventory.%s.', relname)
  from pg_class
  where oid = any (all_ids) and relkind not in ('r', 'p');

  -- Partitions, and children by inheritance, with the table at their head.
  part_ids := array(
    with recursive part as (
      select inhrelid
      from pg_inherits
      where inhparent = any (all_ids)
      union all
      select i.inhrelid
      from pg_inherits as i
      join part on part.inhrelid = i.inhparent
    )
    select inhrelid
    from part
  );

  return query
  select
    case
      when relpersistence <> 'p' then format('%s is unlogged: PostgreSQL empties it after a crash', oid::regclass)
      when relkind = 'f' then format('the partition %s is a foreign table', oid::regclass)
      else format('%s inherits from a table of receiptd: the unique key and the triggers do not hold there', oid::regclass)
    end,
    case
      when relpersistence <> 'p' then format('alter table %s set logged;', oid::regclass)
      when relkind = 'f' then 'Detach it, and keep its rows in a partition on this server.'
      else format('Move its rows, then: alter table %s no inherit ...;', oid::regclass)
    end
  from pg_class
  where oid = any (all_ids || part_ids)
    and (
      (relpersistence <> 'p' and relkind in ('r', 'p'))
      or (oid = any (part_ids) and (relkind = 'f' or not relispartition))
    );

  -- Privileges

  return query
  select
    format('%s may not %s', current_user, wanted.privilege),
    'Run sql/roles.sql, and restore the grants that sql/deploy has; "sqitch verify" lists what is missing.'
  from (
    values
      ('use the schema inventory', has_schema_privilege(schema_id, 'usage')),
      ('select from inventory.receipts', has_table_privilege(receipts_id, 'select')),
      ('insert into inventory.receipts', has_table_privilege(receipts_id, 'insert')),
      ('update inventory.receipts', has_table_privilege(receipts_id, 'update')),
      ('select from inventory.rejected_receipts', has_table_privilege(rejected_id, 'select')),
      ('insert into inventory.rejected_receipts', has_table_privilege(rejected_id, 'insert')),
      (
        'count repeats in inventory.rejected_receipts and resolve them (update)',
        (
          select bool_and(has_column_privilege(rejected_id, attnum, 'update'))
          from pg_attribute
          where attrelid = rejected_id
            and attname in (
              'status', 'message', 'errors', 'deliveries', 'last_received_at', 'repeat_request_ids', 'resolved_at', 'resolution'
            )
        )
      )
  ) as wanted (privilege, granted)
  where not wanted.granted
  union all
  select
    format('%s may not execute %s', current_user, oid::regprocedure),
    format('grant execute on function %s to %I;', oid::regprocedure, current_user)
  from pg_proc
  where pronamespace = schema_id
    and proname in ('has_revised', 'has_replaced', 'decline_revision')
    and not has_function_privilege(oid, 'execute')
  union all
  select
    format('%s, who owns inventory.keep_revision(), may not select from and insert into inventory.receipt_revisions', keeper::regrole),
    format('grant select, insert on inventory.receipt_revisions to %s;', keeper::regrole)
  where not (
    has_table_privilege(keeper, revisions_id, 'select')
    and has_table_privilege(keeper, revisions_id, 'insert')
    and has_schema_privilege(keeper, schema_id, 'usage')
  );

  -- Row level security: of receipt_revisions, for the owner of the trigger's function, which writes there.

  return query
  select
    format(
      'row level security on inventory.%s applies to %s and may hide or refuse rows (%s)',
      c.relname,
      role::regrole,
      coalesce((select 'policies: ' || string_agg(polname, ', ') from pg_policy where polrelid = c.oid), 'no policy')
    ),
    format(
      'alter table inventory.%1$s disable row level security; or, without a restrictive policy: '
        || 'create policy receiptd on inventory.%1$s to %2$s using (true) with check (true);',
      c.relname, role::regrole
    )
  from pg_class as c
  cross join lateral (
    select case when c.oid = revisions_id then keeper else (select oid from pg_roles where rolname = current_user) end
  ) as writes (role)
  join pg_roles as r on r.oid = writes.role
  where c.oid = any (all_ids)
    and c.relrowsecurity
    and not (r.rolsuper or r.rolbypassrls)
    and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage'))
    and (
      current_setting('row_security') = 'off'
      or exists (
        select
        from unnest(array['r', 'a', 'w']::"char"[]) as command
        where not exists (
          select
          from pg_policy as p
          cross join lateral (
            select pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
          ) as expression (qual, checked)
          where p.polrelid = c.oid
            and p.polpermissive
            and p.polcmd in ('*', command)
            and (p.polroles = '{0}' or exists (select from unnest(p.polroles) as to_role where to_role <> 0 and pg_has_role(r.oid, to_role, 'usage')))
            and (command = 'a' or qual = 'true')
            and (command = 'r' or coalesce(checked, qual) = 'true')
        )
      )
      or exists (
        select
        from pg_policy as p
        where p.polrelid = c.oid
          and not p.polpermissive
          and (p.polroles = '{0}' or exists (select from unnest(p.polroles) as to_role where to_role <> 0 and pg_has_role(r.oid, to_role, 'usage')))
      )
    );

  -- Rules

  return query
  select
    format(
      'the rule %I on inventory.%s rewrites %s',
      w.rulename, c.relname, case w.ev_type when '2' then 'updates' else 'inserts' end
    ),
    format('drop rule %I on inventory.%s;', w.rulename, c.relname)
  from pg_rewrite as w
  join pg_class as c on c.oid = w.ev_class
  where w.ev_class = any (all_ids)
    and c.relkind in ('r', 'p')
    and w.ev_type in ('2', '3')
    and w.ev_enabled in ('O', 'A');

  -- The unique keys: PostgreSQL takes no other index for "on conflict".

  return query
  with found as (
    select
      wanted.id,
      wanted.columns,
      i.indexrelid,
      i.indisvalid and i.indisready and i.indislive as usable,
      i.indimmediate,
      array(select unnest(i.indcollation::oid[])) = array(
        select a.attcollation
        from unnest(i.indkey::smallint[]) with ordinality as k (attnum, position)
        join pg_attribute as a on a.attrelid = wanted.id and a.attnum = k.attnum
        where k.position <= i.indnkeyatts
        order by k.position
      ) as same_collation
    from (
      values
        (receipts_id, array['asn_number', 'program_identifier', 'unit_identifier']),
        (rejected_id, array['request_id'])
    ) as wanted (id, columns)
    join pg_class as c on c.oid = wanted.id and c.relkind in ('r', 'p')
    left join pg_index as i
      on i.indrelid = wanted.id
      and i.indisunique
      and i.indpred is null
      and i.indexprs is null
      and wanted.columns = array(
        select a.attname::text collate "C"
        from unnest(i.indkey::smallint[]) with ordinality as k (attnum, position)
        join pg_attribute as a on a.attrelid = wanted.id and a.attnum = k.attnum
        where k.position <= i.indnkeyatts
        order by 1
      )
  )
  select
    format(
      'inventory.%s has no unique index on exactly (%s) that "on conflict" can use',
      relname, array_to_string(found.columns, ', ')
    ),
    'Look for duplicates, then create the constraint again as sql/deploy has it; an index that is not valid: reindex.'
  from found
  join pg_class on pg_class.oid = found.id
  group by found.id, relname, found.columns
  having not coalesce(bool_or(usable and indimmediate and same_collation), false)
  union all
  select
    format('the unique constraint %s is deferrable, and "on conflict" refuses that', indexrelid::regclass),
    'Drop it, or create it again as not deferrable.'
  from found
  where usable and not indimmediate
  union all
  -- A partial one, so it is not among those above.
  select
    'inventory.rejected_receipts has no unique index rejected_receipts_digest_idx that "on conflict" can use',
    'Create it again as sql/deploy has it; an index that is not valid: reindex.'
  where rejected_id is not null
    and not exists (
      select
      from pg_index
      join pg_class on pg_class.oid = indexrelid
      where indrelid = rejected_id
        and relname = 'rejected_receipts_digest_idx'
        and indisunique
        and indisvalid
        and indisready
        and indislive
        and indpred is not null
    );

  -- What was deployed

  return query
  select
    case
      when s.name is null then format('the %s %s is missing', o.kind, o.name)
      else format(
        'the %s %s is not as it was deployed: %s, not %s',
        o.kind,
        o.name,
        case when s.fingerprint = o.fingerprint then coalesce(s.definition, 'no default') else s.fingerprint end,
        case when s.fingerprint = o.fingerprint then o.definition else o.fingerprint end
      )
    end,
    format(
      'Restore it as sql/deploy has it. If this was meant, as receiptd_migrator: select inventory.record_schema(%L, %L);',
      o.kind, o.name
    )
  from inventory.schema_objects as o
  left join inventory.schema_state as s on s.kind = o.kind and s.name = o.name
  -- Those of the feed: inventory.schema_warnings.
  where o.name not like '%tell\_%'
    and case
      when o.kind = 'column' and not exists (
        select
        from pg_class
        where relnamespace = schema_id and relname = split_part(o.name, '.', 1) and relkind in ('r', 'p')
      ) then false
      when o.kind = 'trigger' and receipts_id is null then false
      -- The service keeps what has no column of its own in extra.
      when s.name is null and o.kind = 'column' and o.name not like 'rejected\_receipts.%' then
        split_part(o.name, '.', 2) = any (
          array['program_identifier', 'asn_number', 'unit_identifier', 'extra'] || inventory.bookkeeping_columns()
        )
        or exists (
          select
          from pg_attribute
          where attrelid = receipts_id and attname = split_part(o.name, '.', 2) and not attisdropped
        )
      when s.name is null then true
      else s.fingerprint not in (o.fingerprint, regexp_replace(o.fingerprint, ' not null$', ''))
        or (s.definition is null and o.definition is not null)
        or (s.definition <> o.definition and o.postgresql = release)
    end;

  return query
  select
    format(
      'the trigger %s %s', t.tgname,
      case t.tgenabled when 'R' then 'fires for replication only' else 'is disabled' end
        || case when t.tgrelid <> receipts_id then ' on ' || t.tgrelid::regclass::text else '' end
    ),
    format('alter table %s enable trigger %I;', t.tgrelid::regclass, t.tgname)
  from pg_trigger as t
  where t.tgrelid = any (receipts_id || part_ids)
    and t.tgenabled not in ('O', 'A')
    -- Off until somebody is erased.
    and t.tgname not like '%receipts\_keep\_erased'
    and t.tgname not like '%tell\_%'
    and exists (select from inventory.schema_objects as o where o.kind = 'trigger' and o.name = t.tgname)
  union all
  select
    format('the trigger %s does not exist on the partition %s', o.name, part::regclass),
    format('alter table inventory.receipts detach partition %s, then attach it again.', part::regclass)
  from inventory.schema_objects as o
  cross join unnest(part_ids) as part
  join pg_class as c on c.oid = part and c.relispartition
  where o.kind = 'trigger'
    and o.fingerprint like '%for each row%'
    and exists (select from pg_inherits where inhparent = receipts_id)
    and exists (select from pg_trigger where tgrelid = receipts_id and tgname = o.name)
    and not exists (select from pg_trigger where tgrelid = part and tgname = o.name);

  return query
  select
    format('%s belongs to %s, who owns neither the schema nor its tables', p.oid::regprocedure, p.proowner::regrole),
    format('alter function %s owner to %s;', p.oid::regprocedure, n.nspowner::regrole)
  from inventory.schema_objects as o
  join pg_proc as p on p.pronamespace = schema_id and p.oid::regprocedure::text = o.name
  join pg_namespace as n on n.oid = schema_id
  where o.kind = 'function'
    and p.prosecdef
    and p.proowner <> n.nspowner
    and p.proowner is distinct from (select relowner from pg_class where oid = revisions_id);

  -- Columns that nobody fills

  return query
  select
    format('the column %s of inventory.%s must not be null, and neither the service nor a default fills it', a.attname, c.relname),
    format('alter table inventory.%s alter column %I drop not null; or give it a default.', c.relname, a.attname)
  from pg_attribute as a
  join pg_class as c on c.oid = a.attrelid
  where a.attrelid = any (all_ids)
    and c.relkind in ('r', 'p')
    and a.attnum > 0
    and not a.attisdropped
    and a.attnotnull
    and not a.atthasdef
    and a.attidentity = ''
    and exists (select from inventory.schema_objects)
    and not exists (
      select
      from inventory.schema_objects as o
      where o.kind = 'column' and o.name = c.relname || '.' || a.attname
        -- A field that is still in the history, and no longer in receipts.
        and not (
          c.oid = revisions_id
          and a.attname <> 'replaced_at'
          and not exists (
            select from pg_attribute as f where f.attrelid = receipts_id and f.attname = a.attname and not f.attisdropped
          )
        )
    )
    -- A field that was added since, filled by the service or by the trigger.
    and not (
      c.oid <> rejected_id
      and a.attname::text = any (inventory.field_columns())
      and 2 = (
        select count(*)
        from pg_attribute as f
        where f.attrelid in (receipts_id, revisions_id) and f.attname = a.attname and not f.attisdropped
      )
    );

  -- Publications that make PostgreSQL refuse updates (execReplication.c: CheckCmdReplicaIdentity)

  if not exists (select from pg_publication where pubupdate) then
    return;
  end if;
  return query
  with updated as (
    select
      c.oid as id,
      c.relreplident,
      (
        select array_agg(k.attnum)
        from pg_index as i
        cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (attnum, position)
        where i.indrelid = c.oid
          and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end
          and i.indisvalid
          and i.indimmediate
          and k.position <= i.indnkeyatts
      ) as identity
    from pg_class as c
    where c.oid = any (array[receipts_id, rejected_id] || part_ids)
      and c.relkind in ('r', 'p')
      and (c.oid in (receipts_id, rejected_id) or c.relispartition)
  ), published as (
    select updated.*, p.pubname, p.pubowner, r.prattrs::smallint[] as columns, r.prqual::text as filter
    from updated
    join pg_publication_rel as r on r.prrelid = updated.id
    join pg_publication as p on p.oid = r.prpubid and p.pubupdate
    union all
    select updated.*, p.pubname, p.pubowner, null, null
    from updated
    join pg_publication as p on p.pubupdate
    where p.puballtables
      or exists (
        select
        from pg_publication_namespace as n
        join pg_class as c on c.relnamespace = n.pnnspid
        where n.pnpubid = p.oid and c.oid in (updated.id, receipts_id, rejected_id) and (c.oid = updated.id or updated.id = any (part_ids))
      )
      or (
        updated.id = any (part_ids)
        and exists (select from pg_publication_rel where prpubid = p.oid and prrelid in (receipts_id, rejected_id))
      )
  )
  select
    format(
      'the publication %I (owner %s) makes PostgreSQL refuse updates of %s: %s',
      p.pubname, p.pubowner::regrole, p.id::regclass, trouble.problem
    ),
    trouble.advice
  from published as p
  cross join lateral (
    select
      'the table has no replica identity' as problem,
      format('alter table %s replica identity default;', p.id::regclass) as advice
    where p.relreplident <> 'f' and p.identity is null
    union all
    select
      'its column list does not cover the replica identity',
      format(
        'alter table %s replica identity default; or publish all columns: alter publication %I set table %s;',
        p.id::regclass, p.pubname, p.id::regclass
      )
    where p.columns is not null
      and (p.relreplident = 'f' or not p.identity <@ p.columns)
    union all
    select
      'its row filter uses columns that are not part of the replica identity',
      format('alter publication %I set table %s;', p.pubname, p.id::regclass)
    where p.filter is not null
      and p.relreplident <> 'f'
      and exists (
        select
        from regexp_matches(p.filter, ':varattno ([0-9]+)', 'g') as used (attnum)
        where (used.attnum[1]::smallint = any (p.identity)) is not true
      )
  ) as trouble;
exception
  -- A lock is nobody's problem but that of who waits for it, and the service takes it for that.
  when lock_not_available then
    raise;
  when others then
    return query
    select format('the schema cannot be checked: %s', sqlerrm), 'Run sqitch verify in sql/, and see the log of PostgreSQL.';
end
$$;

-- What the service goes on storing beside, though somebody misses something.
create function inventory.schema_warnings()
returns table (warning text, advice text)
language sql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
  select
    'inventory.schema_objects is empty: nobody can tell whether triggers and functions are as they were deployed',
    'Restore its rows from a backup; or, if sqitch verify is content, as receiptd_migrator run the calls of inventory.record_schema in sql/deploy.'
  where not exists (select from inventory.schema_objects)
  union all
  select
    format(
      'the trigger %s is %s: readers of inventory.changes_since, and reports, miss changes',
      o.name, case when t.oid is null then 'missing' else 'disabled' end
    ),
    'Enable it, or create it again as sql/deploy/feed.sql has it; then let the readers copy inventory.receipts again.'
  from inventory.schema_objects as o
  left join pg_class as c on c.relname = 'receipts' and c.relnamespace = to_regnamespace('inventory')
  left join pg_trigger as t on t.tgrelid = c.oid and t.tgname = o.name
  where o.kind = 'trigger'
    and o.name like '%tell\_%'
    and t.tgenabled in ('O', 'A') is not true
  union all
  select
    'the foreign key receipt_revisions_receipts_fkey is missing or disabled: a deleted receipt leaves its history behind',
    'Enable it, or create it again as sql/deploy/receipt_revisions.sql has it.'
  where not exists (
    select
    from pg_constraint as k
    where k.conname = 'receipt_revisions_receipts_fkey'
      and k.connamespace = to_regnamespace('inventory')
      and not exists (select from pg_trigger where tgconstraint = k.oid and tgenabled not in ('O', 'A'))
  )
$$;

revoke all on function inventory.record_schema(text, text[]), inventory.schema_problems(), inventory.schema_warnings() from public;
grant execute on function inventory.schema_problems(), inventory.schema_warnings() to receiptd_writer, receiptd_reader;

comment on table inventory.schema_objects is
  'Triggers, functions and columns as they were deployed, for inventory.schema_problems. Written by inventory.record_schema, which each change to the schema calls for the objects that it makes or changes.';
comment on column inventory.schema_objects.kind is 'column, function or trigger. Example: trigger';
comment on constraint schema_objects_kind_check on inventory.schema_objects is 'The kinds that are checked.';
comment on column inventory.schema_objects.name is
  'The name of a trigger, the signature of a function, or table.column. Example: receipts_keep_revision';
comment on column inventory.schema_objects.fingerprint is
  'What must not change, in words that do not depend on the release of PostgreSQL. Example: after update on inventory.receipts for each row when (...) execute inventory.keep_revision()';
comment on column inventory.schema_objects.definition is
  'The definition of a trigger, or the default of a column, as PostgreSQL shows it; compared on the release of PostgreSQL that wrote it. Example: now()';
comment on column inventory.schema_objects.postgresql is 'That release of PostgreSQL. Example: 15';
comment on view inventory.schema_state is 'inventory.schema_objects as it would be recorded now, for all objects.';
comment on column inventory.schema_state.kind is 'As in inventory.schema_objects. Example: trigger';
comment on column inventory.schema_state.name is 'As in inventory.schema_objects. Example: receipts_keep_revision';
comment on column inventory.schema_state.fingerprint is 'As in inventory.schema_objects. Example: uuid not null';
comment on column inventory.schema_state.definition is 'As in inventory.schema_objects. Example: gen_random_uuid()';
comment on function inventory.record_schema(text, text[]) is
  'Records the named triggers, functions or columns as they are now, for inventory.schema_problems; one that no longer exists is forgotten.';
comment on function inventory.schema_problems() is
  'One row for each thing in this database that keeps the service from storing what it acknowledges: with the cause, and what to do. No rows: all is well. Privileges and row level security are judged for the role that asks. The service calls it at each connect and every few seconds, and answers 503 as long as there is a row.';
comment on function inventory.schema_warnings() is
  'One row for each thing in this database that somebody will miss, although it keeps the service from nothing: with the cause, and what to do. receiptd doctor shows them.';

do $$
begin
  perform inventory.record_schema(
    'trigger',
    'receipts_number_revision',
    'receipts_keep_revision',
    'receipts_apply_once',
    'receipts_stamp',
    'receipts_log_delete',
    'receipts_log_truncate',
    'receipt_revisions_log_change',
    'receipt_revisions_log_truncate',
    'rejected_receipts_stamp',
    'rejected_receipts_log_change',
    'rejected_receipts_log_truncate',
    'receipts_keep_erased',
    'receipt_revisions_keep_erased',
    'rejected_receipts_keep_erased',
    'receipts_tell_deleted',
    'receipts_tell_written',
    'receipts_tell_truncated'
  );
  perform inventory.record_schema(
    'function',
    'inventory.decline_revision(uuid)',
    'inventory.fold_extra()',
    'inventory.fold(jsonb,text)',
    'inventory.field_columns()',
    'inventory.bookkeeping_columns()',
    'inventory.content_columns()',
    'inventory.content_columns_as_planned()',
    'inventory.content_of(jsonb)',
    'inventory.keep_statement(text)',
    'inventory.number_revision()',
    'inventory.keep_revision()',
    'inventory.apply_once()',
    'inventory.stamp_receipt()',
    'inventory.stamp_rejection()',
    'inventory.is_manual()',
    'inventory.log_change(text,text,jsonb,jsonb)',
    'inventory.log_manual_change()',
    'inventory.has_revised(uuid,text,text,text)',
    'inventory.has_replaced(record,text[])',
    'inventory.keep_erased()',
    'inventory.keep_erased_rejection()',
    'inventory.erased_in(regclass,jsonb)',
    'inventory.without_erased(text,text,text)',
    'inventory.body_without_erased(bytea)',
    'inventory.login_of(text,text)',
    'inventory.login_patterns(boolean,text)',
    'inventory.erased_label(text,text,text)',
    'inventory.normal_login(text)',
    'inventory.tell_deleted()',
    'inventory.tell_written()',
    'inventory.tell_truncated()'
  );
  perform inventory.record_schema('column', variadic array_agg(name))
  from inventory.schema_state
  where kind = 'column';
end
$$;

commit;
