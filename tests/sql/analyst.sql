-- What a member of receiptd_analyst can find out with functions of their own: in each view and each function that the catalog
-- has, so also in those that are added later.

begin;
set local search_path = inventory, tap;
set local test.program = 'analyst';
\ir include/deliver.psql

grant usage on schema tap to receiptd_analyst;

-- A person in each place that is not for analysts, and a history, so that every view has rows.
select from pg_temp.deliver(
  '{"request": 1, "unit_identifier": "U1", "carton_identifier": "C1", "ot_user_login": "spy@old.example", "extra": {"by": "spy@extra.example"}}'
);
update receipts
set sender_headers = '{"x-optiturn-id": "spy@header.example"}', api_key_name = 'spy@key.example'
where program_identifier = 'analyst';
select from pg_temp.deliver(
  '{"request": 2, "unit_identifier": "U1", "carton_identifier": "C2", "sku": "S2", "ot_user_login": "spy@new.example", "extra": {"by": "spy@again.example"}}'
);
insert into rejected_receipts (request_id, api_key_name, status, message, errors, body, sender_headers)
values (
  pg_temp.request(3), 'spy@key.example', 422, 'Validation Failed', '[{"field": "sku", "code": "missing_field"}]',
  convert_to('{"ot_user_login": "spy@body.example"}', 'UTF8'), '{"x-optiturn-id": "spy@header.example"}'
);
insert into warehouses values (1352, 'Louisville', 'America/Kentucky/Louisville');
analyze receipts, receipt_revisions, rejected_receipts;

-- Cheaper than anything of PostgreSQL's, so that the planner calls it first; shows, and fails with, what it is given.
create schema own authorization receiptd_analyst;
set local role receiptd_analyst;
create table own.seen (value text);
create function own.look(value anyelement) returns boolean language plpgsql cost 0.0000000001 as $$
begin
  insert into own.seen values (value::text);
  return true;
end
$$;
create function own.fail(value anyelement) returns boolean language plpgsql immutable cost 0.0000000001 as $$
begin
  if value::text like '%spy@%' then
    raise exception '%', value;
  end if;
  return true;
end
$$;
create function own.show(value anyelement) returns setof text language plpgsql rows 1 cost 0.0000000001 as $$
begin
  insert into own.seen values (value::text);
  return next value::text;
end
$$;

-- One view in every way that comes to mind; what went wrong says more than it should if it names the person.
create function own.attack(relation regclass) returns setof text language plpgsql as $$
declare
  field text;
  statement text;
  said text;
begin
  for field in
    select quote_ident(attname) from pg_attribute where attrelid = relation and attnum > 0
    union all
    select 'v'
  loop
    foreach statement in array array[
      'select count(*) from %1$s as v where own.look(v.%2$s)',
      'select count(*) from %1$s as v where own.fail(v.%2$s)',
      'select count(*) from %1$s as v where v.%2$s::text ~ ''@'' and v.%2$s::text::integer = 1',
      'select count(*) from %1$s as v where 1 / (strpos(v.%2$s::text, ''spy@'') - 1) > -2',
      'select count(*) from (select from %1$s as v order by own.look(v.%2$s)) as o',
      'select count(*) from %1$s as v, lateral own.show(v.%2$s) as s',
      'select count(*) from (values (1)) as one join %1$s as v on own.look(v.%2$s)',
      'select count(own.look(v.%2$s)) filter (where own.look(v.%2$s)) from %1$s as v',
      'select count(*) from (select own.look(v.%2$s) from %1$s as v group by 1) as g'
    ] loop
      begin
        execute format(statement, relation, case field when 'v' then '*' else field end);
      exception
        when others then
          get stacked diagnostics said = message_text;
          if said like '%spy@%' then
            return next format('%s: %s', statement, said);
          end if;
      end;
    end loop;
  end loop;
end
$$;
reset role;
grant execute on all functions in schema own to public;
grant usage on schema own to public;

-- With the arguments that views give them.
create temp table called as
select oid, format('%s(%s)', oid::regproc, quote_literal(argument)) as call
from pg_proc
left join unnest(array['day', 'month']) as argument on pronargs = 1 and proargtypes[0] = 'text'::regtype
where pronamespace in ('reporting'::regnamespace, 'inventory'::regnamespace)
  and has_function_privilege('receiptd_analyst', oid, 'execute')
  and (pronargs = 0 or argument is not null);

select plan(
  6
  + 2 * (
    select count(*)::integer
    from pg_class
    where relkind in ('r', 'p', 'v', 'm', 'f')
      and relnamespace in ('reporting'::regnamespace, 'inventory'::regnamespace)
      and has_table_privilege('receiptd_analyst', oid, 'select')
  )
  + (select count(*)::integer from called)
);
create temp table readable as
select oid::regclass as relation
from pg_class
where relkind in ('r', 'p', 'v', 'm', 'f')
  and relnamespace in ('reporting'::regnamespace, 'inventory'::regnamespace)
  and has_table_privilege('receiptd_analyst', oid, 'select');
grant select on readable to receiptd_analyst;
-- The test would see it: a view without the barrier.
create view reporting.leak as
select u.value
from inventory.receipts as r
cross join lateral (values ('login', r.ot_user_login), ('sku', r.sku)) as u (name, value)
where u.name <> 'login';
grant select on reporting.leak to receiptd_analyst;
set local role receiptd_analyst;
set local search_path = tap, own;

select isnt_empty($$ select * from own.attack('reporting.leak') $$, 'the attack works where a view lets it');
delete from own.seen;
select is_empty(format('select * from own.attack(%L)', relation), 'no error of a condition shows a person: ' || relation)
from readable;
select is_empty(
  $$ select value from own.seen where value like '%spy@%' $$,
  'no function of an analyst sees a person: ' || relation
)
from readable;
reset role;
set local search_path = inventory, tap;
select isnt_empty('select from own.seen where value ~ ''S2|U1''', 'the functions have seen the rest');
drop view reporting.leak;

select is_empty(format('select from %s as f where f::text like ''%%spy@%%''', call), 'a function shows no person: ' || call)
from called;
select is_empty(
  $$
    select oid::regprocedure
    from pg_proc
    where pronamespace in ('reporting'::regnamespace, 'inventory'::regnamespace)
      and has_function_privilege('receiptd_analyst', oid, 'execute')
      and oid not in (select oid from called)
      -- With the caller's rights, a function reads nothing that the caller may not; a boolean has no room for a person.
      and prosecdef
      and prorettype <> 'boolean'::regtype
      -- The keys of receipts.
      and oid <> 'reporting.changes_since(text,integer)'::regprocedure
  $$,
  'no other function for analysts reads with its owner''s rights'
);

-- What the planner knows of a column shows in its estimates.
set local role receiptd_analyst;
select is_empty($$ select * from pg_stats where schemaname = 'inventory' $$, 'statistics show nothing');
select is_empty($$ select * from pg_stats_ext where schemaname = 'inventory' $$, 'nor do extended ones');
create function own.estimate(condition text) returns text language plpgsql as $$
declare
  plan json;
begin
  execute 'explain (format json) select from reporting.receipt_changes where ' || condition into plan;
  return plan -> 0 -> 'Plan' ->> 'Plan Rows';
end
$$;
select is(
  own.estimate('old_value = ''spy@old.example'''), own.estimate('old_value = ''nobody@old.example'''),
  'nor do the estimates of a plan'
);

reset role;
select * from finish();
rollback;
