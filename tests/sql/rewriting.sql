-- Nobody but the owner rewrites what was received: each role, logged in as itself, tries to change every column of every table, in
-- every form, to call every function that it may call, and some tricks. What was there has to be there afterwards.

begin;
set local search_path = inventory, tap;
set local client_min_messages = warning;
set local test.program = 'rewriting';
\ir include/deliver.psql

create role receiptd_test_service login in role receiptd_writer;
create role receiptd_test_corrector login;
grant usage on schema inventory to receiptd_test_corrector;
grant select, insert, update on inventory.receipts to receiptd_test_corrector;

create function pg_temp.become(role text) returns void language sql as $$
  select set_config('session_authorization', role, true)
$$;

select from pg_temp.deliver('{"request": 1, "unit_identifier": "U1"}');
select from pg_temp.deliver('{"request": 2, "unit_identifier": "U1", "sku": "S1"}');
select from pg_temp.deliver('{"request": 3, "unit_identifier": "U1", "sku": "S2"}');
select from pg_temp.deliver('{"request": 4, "unit_identifier": "U2"}');
update receipts set received_at = now() - interval '2 hours', revised_at = revised_at - interval '1 hour', created_in = 7
where program_identifier = 'rewriting';
insert into rejected_receipts (request_id, api_key_name, status, message, body, received_at)
values (pg_temp.request(5), 'test', 400, 'test', 'x', now() - interval '1 hour');
insert into warehouses values (1, 'W', 'UTC');
insert into condition_codes values ('A', 'as new');
insert into feed_events (change) values ('written');
insert into manual_changes (table_name, operation) values ('receipts', 'truncate');
insert into moved_fields values ('sku', '{sku2}');
select write_fold_trigger() \g /dev/null

-- Everything that there is, by table.
create function pg_temp.everything(with_schema boolean) returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  relation name;
  rows jsonb;
  everything jsonb := '{}';
begin
  for relation in
    select relname from pg_class where relnamespace = 'inventory'::regnamespace and relkind in ('r', 'p') order by 1
  loop
    execute format('select coalesce(jsonb_agg(to_jsonb(r)), ''[]'') from inventory.%I as r', relation) into rows;
    everything := everything || jsonb_build_object(relation, rows);
  end loop;
  return everything || case when with_schema then jsonb_build_object(
    'schema', (select jsonb_agg(to_jsonb(s) order by kind, name) from inventory.schema_state as s),
    'grants', (
      select jsonb_agg(jsonb_build_array(c.oid, grantee, privilege_type) order by c.oid, grantee, privilege_type)
      from pg_class as c
      cross join aclexplode(coalesce(relacl, acldefault('r', relowner)))
      where relnamespace = 'inventory'::regnamespace and relkind in ('r', 'p')
    )
  ) else '{}' end;
end
$$;

create function pg_temp.key(r jsonb) returns jsonb language sql immutable as $$
  select jsonb_build_array(r -> 'program_identifier', r -> 'asn_number', r -> 'unit_identifier')
$$;
create function pg_temp.content(r jsonb) returns jsonb language sql as $$
  select jsonb_object_agg(name, r -> name) from unnest(inventory.field_columns() || array['api_key_name', 'sender_headers', 'changed_by']) as name
$$;

-- What must not be different between two states.
create function pg_temp.breaches(before jsonb, after jsonb) returns setof text language sql as $$
  select 'a version is gone, or not what it was: ' || (r ->> 'revision')
  from jsonb_array_elements(before -> 'receipts') as r
  where not exists (
    select
    from jsonb_array_elements(after -> 'receipts') as s
    where pg_temp.key(s) = pg_temp.key(r)
      and s ->> 'revision' = r ->> 'revision'
      and pg_temp.content(s) = pg_temp.content(r)
      and s -> 'revised_request_id' = r -> 'revised_request_id'
      and s -> 'revised_at' = r -> 'revised_at'
    union all
    select
    from jsonb_array_elements(after -> 'receipt_revisions') as v
    where pg_temp.key(v) = pg_temp.key(r)
      and v ->> 'revision' = r ->> 'revision'
      and pg_temp.content(v) = pg_temp.content(r)
      and v ->> 'request_id' = coalesce(r ->> 'revised_request_id', r ->> 'request_id')
      and v ->> 'received_at' = coalesce(r ->> 'revised_at', r ->> 'received_at')
  )
  union all
  select format('a receipt has another %s', name)
  from jsonb_array_elements(before -> 'receipts') as r
  join jsonb_array_elements(after -> 'receipts') as s on pg_temp.key(s) = pg_temp.key(r)
  cross join unnest(array['request_id', 'received_at', 'created_in']) as name
  where s -> name <> r -> name
  union all
  select 'a version has another time, or none, or one too many'
  from jsonb_array_elements(before -> 'receipts') as r
  join jsonb_array_elements(after -> 'receipts') as s on pg_temp.key(s) = pg_temp.key(r)
  where s -> 'revision' <> r -> 'revision'
    and (
      (s ->> 'revised_at')::timestamptz is distinct from now()
      or (s ->> 'revision')::integer <> (
        select count(*) from jsonb_array_elements(after -> 'receipt_revisions') as v where pg_temp.key(v) = pg_temp.key(r)
      )
    )
  union all
  select 'a new receipt has a past'
  from jsonb_array_elements(after -> 'receipts') as s
  where pg_temp.key(s) not in (select pg_temp.key(r) from jsonb_array_elements(before -> 'receipts') as r)
    and not (
      s ->> 'revision' = '0'
      and (s ->> 'received_at')::timestamptz = now()
      and s ->> 'created_in' = pg_current_xact_id()::text
      and s ->> 'revised_at' is null
      and s ->> 'revised_request_id' is null
    )
  union all
  select 'a version was changed in the history'
  from jsonb_array_elements(before -> 'receipt_revisions') as v
  where not after -> 'receipt_revisions' @> jsonb_build_array(v)
  union all
  select 'a version was invented'
  from jsonb_array_elements(after -> 'receipt_revisions') as v
  where (v ->> 'revision')::integer
    >= (select (s ->> 'revision')::integer from jsonb_array_elements(after -> 'receipts') as s where pg_temp.key(s) = pg_temp.key(v))
  union all
  -- The service may resolve a rejection, and count a repeat.
  select 'a rejection is gone, or not what it was'
  from jsonb_array_elements(before -> 'rejected_receipts') as r
  where not after -> 'rejected_receipts' @> jsonb_build_array(
      r - array['resolved_at', 'resolution', 'status', 'message', 'errors', 'deliveries', 'last_received_at', 'repeat_request_ids']
    )
  union all
  select 'a new rejection has a past'
  from jsonb_array_elements(after -> 'rejected_receipts') as s
  where s -> 'rejection_id' not in (select r -> 'rejection_id' from jsonb_array_elements(before -> 'rejected_receipts') as r)
    and ((s ->> 'received_at')::timestamptz <> now() or s ->> 'resolved_at' is not null)
  union all
  select format('a row of %s is gone, or not what it was', relation)
  from unnest(array['feed_events', 'manual_changes']) as relation
  cross join jsonb_array_elements(before -> relation) as r
  where not after -> relation @> jsonb_build_array(r)
  union all
  select format('%s has changed', relation)
  from jsonb_object_keys(before) as relation
  where relation not in ('receipts', 'receipt_revisions', 'rejected_receipts', 'feed_events', 'manual_changes')
    -- Whoever may refresh them: they are right or not used, whatever that is called with.
    and relation not like 'totals\_%'
    and after ? relation
    and before -> relation <> after -> relation
$$;

create temp table state as select pg_temp.everything(true) as before;
create temp table outcome (role text, statement text, refused text, breach text);

-- Tries a statement as a role that has logged in; nothing of it remains.
create function pg_temp.attempt(role text, statement text) returns setof outcome language plpgsql as $$
declare
  refused text;
  breaches text[];
begin
  begin
    perform pg_temp.become(role);
    begin
      execute statement;
    exception
      when others then
        refused := sqlstate;
    end;
    perform pg_temp.become('postgres');
    set local search_path = pg_catalog, pg_temp;
    -- What was refused was undone.
    breaches := case when refused is null then array(select pg_temp.breaches(before, pg_temp.everything(statement !~ '^(select set_config.*)?update |^insert ')) from state) end;
    raise exception using errcode = 'TS000';
  exception
    when sqlstate 'TS000' then
      perform pg_temp.become('postgres');
  end;
  return query select role, statement, refused, breach from unnest(coalesce(nullif(breaches, '{}'), array[null])) as breach;
end
$$;

-- Another value of each type.
create function pg_temp.other(type regtype) returns text language sql as $$
  select case type::text
    when 'text' then quote_literal('other')
    when 'jsonb' then quote_literal('{"other": 1}')
    when 'uuid' then quote_literal('00000000-0000-4000-8000-000000000099')
    when 'timestamp with time zone' then quote_literal('2020-01-01 00:00:00+00')
    when 'interval' then quote_literal('-1000 years 360001 days')
    when 'bytea' then quote_literal('other')
    when 'boolean' then 'false'
    when 'date' then quote_literal('2020-01-01')
    when 'uuid[]' then quote_literal('{00000000-0000-4000-8000-000000000099}')
    when 'text[]' then quote_literal('{other}')
    when 'name' then quote_literal('other')
    else '9'
  end || '::' || type
$$;

create temp table hostile as
with relation as (
  select oid, relname from pg_class where relnamespace = 'inventory'::regnamespace and relkind in ('r', 'p')
), field as (
  select relation.oid, relname, attname, pg_temp.other(atttypid) as other
  from relation
  join pg_attribute on attrelid = relation.oid and attnum > 0 and not attisdropped
), mode as (
  -- Every setting that the schema looks at.
  select string_agg(distinct format('select set_config(%L, ''on'', true); ', setting[1]), '') as preparation
  from (
    select prosrc from pg_proc where pronamespace in ('inventory'::regnamespace, 'reporting'::regnamespace)
    union all
    select pg_get_constraintdef(oid) from pg_constraint where connamespace = 'inventory'::regnamespace
    union all
    select pg_get_triggerdef(oid) from pg_trigger
  ) as source (text)
  cross join lateral regexp_matches(text, '''(receiptd\.[a-z_]+)''', 'g') as setting
  union all
  select ''
)
select format('%supdate inventory.%I set %I = %s', preparation, relname, attname, other) as statement
from field
cross join mode
where preparation = '' or relname = 'receipts'
union all
select preparation || format(
  'update inventory.receipts set %s revision = revision + 1, revised_request_id = %L, revised_at = %s',
  case when attname not in ('revision', 'revised_request_id', 'revised_at') then format('%I = %s, ', attname, other) end,
  gen_random_uuid(),
  time
)
from field
cross join mode
cross join unnest(array['now()', '''2020-01-01''']) as time
where relname = 'receipts'
union all
select preparation || format('update inventory.receipts set sku = %L, revision = %s, revised_request_id = %s', 'other', revision, request)
from mode
cross join unnest(array['revision', 'revision + 1', 'revision - 1', '0', '-1', 'null', '99']) as revision
cross join unnest(array['revised_request_id', 'null', 'request_id', quote_literal('00000000-0000-4000-8000-000000000099')]) as request
union all
select format(
  'insert into inventory.receipts (%s) select %s from inventory.receipts limit 1 %s',
  string_agg(quote_ident(attname), ', '),
  string_agg(
    case
      when attname = 'unit_identifier' then quote_literal('U9')
      when attname in ('program_identifier', 'asn_number') or (chosen <> 'all' and attname <> chosen) then attname
      else other
    end,
    ', '
  ),
  conflict
)
from (
  select field.*, chosen
  from field
  cross join (select attname as chosen from field where relname = 'receipts' union all select 'all') as one
  where relname = 'receipts'
    and (chosen = 'all' or attname = chosen or attname in (select unnest(field_columns())) or attname in ('request_id', 'api_key_name'))
) as given
cross join unnest(array['', 'on conflict do nothing']) as conflict
group by chosen, conflict
union all
select format(
  'insert into inventory.rejected_receipts (%s) select %s from inventory.rejected_receipts limit 1',
  string_agg(quote_ident(attname), ', '),
  string_agg(case when attname in ('status', 'digest') then attname else other end, ', ')
)
from field
where relname = 'rejected_receipts'
union all
select format(command, relname)
from relation
cross join unnest(
  array[
    'insert into inventory.%1$I select * from inventory.%1$I', 'insert into inventory.%1$I default values', 'delete from inventory.%1$I',
    'truncate inventory.%1$I cascade', 'alter table inventory.%1$I disable trigger all', 'drop table inventory.%1$I cascade',
    'alter table inventory.%1$I add column more text', 'lock table inventory.%1$I; delete from inventory.%1$I',
    'create trigger more before update on inventory.%1$I for each row execute function suppress_redundant_updates_trigger()',
    'create rule more as on update to inventory.%1$I do instead nothing', 'alter table inventory.%1$I enable row level security'
  ]
) as command
union all
select format(command, oid::regclass)
from pg_class
cross join unnest(array['select nextval(%L)', 'select setval(%L, 1)', 'alter sequence %s restart']) as command
where relnamespace = 'inventory'::regnamespace and relkind = 'S'
union all
select format(
  '%s %I.%I(%s)',
  case prokind when 'p' then 'call' else 'select' end, pronamespace::regnamespace, proname,
  (select string_agg(coalesce(given, pg_temp.other(type)), ', ' order by n) from unnest(proargtypes::regtype[]) with ordinality as t (type, n))
)
from pg_proc
cross join unnest(array[null, 'null']) as given
where pronamespace in ('inventory'::regnamespace, 'reporting'::regnamespace)
union all
select statement
from unnest(
  array[
    'set local session_replication_role = replica; update inventory.receipts set sku = ''other''',
    'set local role receiptd_owner',
    'set session authorization receiptd_owner',
    'alter function inventory.apply_once() owner to current_user',
    'create or replace function inventory.field_columns() returns text[] language sql as $x$ select ''{}''::text[] $x$',
    'create function inventory.more() returns integer language sql as ''select 1''',
    'create function pg_temp.now() returns timestamptz language sql as $x$ select ''2020-01-01''::timestamptz $x$;'
      ' set local search_path = pg_temp, inventory; update receipts set sku = ''other''',
    'create temp table receipts as select * from inventory.receipts; create temp table receipt_revisions (like inventory.receipts);'
      ' create temp table manual_changes (); set local search_path = pg_temp, pg_catalog; update inventory.receipts set sku = ''other''',
    'create domain pg_temp.text as pg_catalog.text check (false); create domain pg_temp.int8 as pg_catalog.int8 check (false);'
      ' set local search_path = pg_temp, pg_catalog; update inventory.receipts set sku = ''other'', revision = revision + 1,'
      ' revised_request_id = gen_random_uuid(), received_at = ''2020-01-01''',
    'create temp table t (like inventory.receipts); create trigger t before insert on t for each row execute function inventory.keep_revision()',
    'create temp table t (like inventory.receipts); create trigger t after delete on t for each row execute function inventory.log_manual_change(''x'')',
    'copy (select 1) to program ''true''',
    'insert into inventory.receipts as r select (jsonb_populate_record(x, ''{"sku": "other"}'')).* from inventory.receipts as x'
      ' on conflict (program_identifier, asn_number, unit_identifier) do update set sku = excluded.sku',
    'insert into inventory.receipts as r select (jsonb_populate_record(x, ''{"sku": "other", "request_id": "00000000-0000-4000-8000-000000000099"}'')).*'
      ' from inventory.receipts as x on conflict (program_identifier, asn_number, unit_identifier) do update set'
      ' (sku, revision, received_at, revised_at, revised_request_id, created_in, request_id) ='
      ' (''other'', r.revision + 1, ''2020-01-01'', ''2020-01-01'', excluded.request_id, 1, excluded.request_id)',
    'merge into inventory.receipts as r using (values (1)) as v on true when matched then update set sku = ''other'', received_at = ''2020-01-01''',
    'alter role current_user set receiptd.erasing = ''on''; update inventory.receipts set sku = ''other''',
    'comment on table inventory.receipts is ''other''',
    'grant all on inventory.receipts to public'
  ]
) as statement;

select plan(16);

insert into outcome
select attempted.*
from hostile
cross join unnest(
  array[
    'receiptd_writer', 'receiptd_test_service', 'receiptd_test_corrector', 'receiptd_reader', 'receiptd_analyst', 'receiptd_purger',
    'receiptd_totals'
  ]
) as login
cross join lateral pg_temp.attempt(login, hostile.statement) as attempted
-- These two are the writer once more, under another login, and with other grants.
where login not in ('receiptd_test_service', 'receiptd_test_corrector') or hostile.statement !~ '^select';

select is_empty(
  format('select distinct on (statement) breach, refused, statement from outcome where role = %L and breach is not null', role),
  role || ' cannot rewrite what was received'
)
from unnest(
  array[
    'receiptd_writer', 'receiptd_test_service', 'receiptd_test_corrector', 'receiptd_reader', 'receiptd_analyst', 'receiptd_purger',
    'receiptd_totals'
  ]
) as role;

select set_eq(
  $$ select rolname::text from pg_roles where rolname ~ '^receiptd_' and rolname !~ '^receiptd_(owner|migrator)$' $$,
  'select distinct role from outcome',
  'no role was left out'
);

-- That the attempts can tell.
select cmp_ok(count(*), '>', 500::bigint, 'many were tried') from outcome where role = 'receiptd_writer';
select cmp_ok(count(*), '>', 50::bigint, 'the service could do many of them, and nothing was lost')
from outcome
where role = 'receiptd_writer' and refused is null;
select isnt_empty(
  format('select breach from pg_temp.attempt(%L, %L) where breach is not null', 'receiptd_migrator', statement), 'the owner can: ' || statement
)
from unnest(
  array[
    'set local receiptd.erasing = on; update inventory.receipts set sku = ''other''',
    'update inventory.receipts set received_at = now() - interval ''1 day''',
    'delete from inventory.receipts',
    'update inventory.receipt_revisions set sku = ''other''',
    'insert into inventory.warehouses values (2, ''W'', ''UTC'')'
  ]
) as statement;

-- Settings decide nothing alone.
select set_eq(
  $$
    select distinct setting[1]
    from pg_proc
    cross join lateral regexp_matches(prosrc, 'current_setting\(''(receiptd\.[a-z_]+)''', 'g') as setting
    where pronamespace = 'inventory'::regnamespace
  $$,
  $$ values ('receiptd.erasing'), ('receiptd.begun') $$,
  'these settings are looked at, and no other'
);

select * from finish();
rollback;
