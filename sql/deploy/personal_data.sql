-- Deploy receiptd:personal_data to pg
-- requires: reporting
-- requires: feed
--
-- Needs the role receiptd_purger of roles.sql.

begin;

set local role receiptd_owner;

-- Of whoever was erased, so that a delivery does not bring the address back: a digest, with a salt of its own, from which
-- the address cannot be looked up; who has it can still test it.
create table inventory.erased_people (
  salt uuid not null default gen_random_uuid(),
  digest bytea not null,
  erased_at timestamptz not null default now(),
  constraint erased_people_pkey primary key (digest)
);
revoke all on inventory.erased_people from public;

create function inventory.is_erased(login text)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select
    from inventory.erased_people
    where digest = sha256(convert_to(salt::text || lower(login), 'UTF8'))
  )
$$;

-- The service's statement compares what comes out of this with the row, so that the same content again is no revision.
-- The statement that waits for no row compares before; so what would be none is left alone here.
create function inventory.keep_erased()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if inventory.is_erased(new.ot_user_login) then
    new.ot_user_login := 'erased';
    if tg_op = 'UPDATE' then
      if inventory.content_of(to_jsonb(new)) = inventory.content_of(to_jsonb(old)) then
        perform inventory.decline_revision(new.revised_request_id);
        return null;
      end if;
    end if;
  end if;
  return new;
end
$$;

-- Where nobody was erased there is nothing to look up, and so no cost: erase_person enables it. (Its name comes before
-- receipts_number_revision, which then sees what is really stored.)
create trigger receipts_keep_erased
before insert or update on inventory.receipts
for each row
execute function inventory.keep_erased();
alter table inventory.receipts disable trigger receipts_keep_erased;

-- A regular expression, case-insensitive, for a text in what JSON has it as: each character as it is, in upper or lower
-- case, or as an escape \uXXXX. With `raw`: in JSON as encode(…, 'escape') shows its bytes.
create function inventory.pattern_of(login text, raw boolean)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg('(?:' || alternatives || ')', '' order by position)
  from (
    select
      position,
      string_agg(
        distinct regexp_replace(shown, '([][\\.*+?(){}|^$-])', '\\\1', 'g')
          || case when raw then '|' || repeat('\', 4) || 'u' || escaped else '' end,
        '|'
      ) as alternatives
    from regexp_split_to_table(login, '') with ordinality as letter (c, position)
    cross join lateral unnest(array[lower(c), upper(c)]) as variant
    cross join lateral (
      select
        case
          when raw then encode(convert_to(variant, 'UTF8'), 'escape')
          else btrim(to_json(variant)::text, '"')
        end,
        case
          when ascii(variant) < 65536 then lpad(to_hex(ascii(variant)), 4, '0')
          else to_hex(55296 + (ascii(variant) - 65536) / 1024) || repeat('\', 4) || 'u'
            || to_hex(56320 + (ascii(variant) - 65536) % 1024)
        end
    ) as form (shown, escaped)
    group by position
  ) as letters
$$;

create function inventory.erase_person(
  login text,
  out receipts bigint,
  out revisions bigint,
  out rejections bigint
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  in_json text;
  in_bytes text;
begin
  if coalesce(btrim(login), '') = '' or lower(login) = 'erased' then
    raise exception 'whom?' using errcode = 'invalid_parameter_value';
  end if;
  in_json := inventory.pattern_of(login, false);
  in_bytes := inventory.pattern_of(login, true);

  -- The lock that this takes holds up deliveries until the end: so not where it is not needed.
  if exists (
    select
    from pg_trigger
    where tgrelid = 'inventory.receipts'::regclass and tgname = 'receipts_keep_erased' and tgenabled = 'D'
  ) then
    alter table inventory.receipts enable trigger receipts_keep_erased;
  end if;
  if not inventory.is_erased(login) then
    insert into inventory.erased_people (salt, digest)
    select salt, sha256(convert_to(salt::text || lower(login), 'UTF8'))
    from (select gen_random_uuid() as salt) as new;
  end if;

  perform set_config('receiptd.erasing', 'on', true);
  update inventory.receipts as r
  set
    ot_user_login = case when lower(r.ot_user_login) = lower(login) then 'erased' else r.ot_user_login end,
    extra = regexp_replace(r.extra::text, in_json, 'erased', 'gi')::jsonb
  where lower(r.ot_user_login) = lower(login) or r.extra::text ~* in_json;
  get diagnostics receipts = row_count;
  update inventory.receipt_revisions as r
  set
    ot_user_login = case when lower(r.ot_user_login) = lower(login) then 'erased' else r.ot_user_login end,
    extra = regexp_replace(r.extra::text, in_json, 'erased', 'gi')::jsonb
  where lower(r.ot_user_login) = lower(login) or r.extra::text ~* in_json;
  get diagnostics revisions = row_count;
  perform set_config('receiptd.erasing', '', true);

  update inventory.rejected_receipts as r
  set body = decode(regexp_replace(encode(r.body, 'escape'), in_bytes, 'erased', 'gi'), 'escape')
  where encode(r.body, 'escape') ~* in_bytes;
  get diagnostics rejections = row_count;
end
$$;

-- As its owner: receiptd_purger may delete what is old and nothing else. It leaves what somebody has locked for the next
-- portion.
create function inventory.purge_portion(
  receipts_older_than interval,
  rejections_older_than interval,
  portion integer
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  receipts bigint;
  rejections bigint;
  -- Times are compared, not ages: '-1000 years 360001 days' is longer than a day, and ago it is a time to come.
  receipts_before constant timestamptz := now() - receipts_older_than;
  rejections_before constant timestamptz := now() - rejections_older_than;
begin
  if greatest(receipts_before, rejections_before) > now() - interval '24 hours' or portion is null or portion < 1 then
    raise exception 'nothing younger than a day is purged, and no portion is smaller than 1'
      using errcode = 'invalid_parameter_value';
  end if;
  -- An age that is null keeps everything.
  delete from inventory.receipts
  where ctid = any (
    array(
      select r.ctid
      from inventory.receipts as r
      where r.received_at < receipts_before
        and (r.revised_at is null or r.revised_at < receipts_before)
      limit portion
      for update skip locked
    )
  );
  get diagnostics receipts = row_count;
  delete from inventory.rejected_receipts
  where rejection_id in (
    select r.rejection_id
    from inventory.rejected_receipts as r
    where r.resolved_at < rejections_before
    limit portion
    for update skip locked
  );
  get diagnostics rejections = row_count;
  return receipts + rejections;
end
$$;

-- Each portion committed by itself, so that no delivery waits for long. (A procedure that commits cannot have a
-- search_path of its own, nor be security definer: hence the function.)
create procedure inventory.purge(receipts_older_than interval, rejections_older_than interval, portion integer default 500)
language plpgsql
as $$
begin
  while inventory.purge_portion(receipts_older_than, rejections_older_than, portion) operator(pg_catalog.>) 0 loop
    commit;
  end loop;
end
$$;

revoke all on function
  inventory.is_erased(text),
  inventory.keep_erased(),
  inventory.pattern_of(text, boolean),
  inventory.erase_person(text),
  inventory.purge_portion(interval, interval, integer)
from public;
revoke all on procedure inventory.purge(interval, interval, integer) from public;
grant usage on schema inventory to receiptd_purger;
grant execute on function inventory.purge_portion(interval, interval, integer) to receiptd_purger;
grant execute on procedure inventory.purge(interval, interval, integer) to receiptd_purger;
grant execute on function inventory.is_erased(text) to receiptd_writer;

comment on table inventory.erased_people is
  'Of each person that inventory.erase_person has erased: a salted digest of the login, so that a delivery does not bring it back. Delete a row, and the person may be named again.';
comment on column inventory.erased_people.salt is 'What the digest begins with. Example: 9d3c5b7a-0e1f-4a2b-8c3d-4e5f60718293';
comment on column inventory.erased_people.digest is
  'The SHA-256 digest of the salt and the login in lower case. Example: \x5f0c2b1e...';
comment on column inventory.erased_people.erased_at is 'When that was. Example: 2026-11-24 08:30:00.654321+00';
comment on function inventory.is_erased(text) is 'Whether the person with that login was erased.';
comment on function inventory.keep_erased() is
  'Before a receipt is written: the login of a person who was erased is stored as "erased".';
comment on trigger receipts_keep_erased on inventory.receipts is
  'Keeps a person erased. Disabled until inventory.erase_person is called for the first time.';
comment on function inventory.pattern_of(text, boolean) is
  'A regular expression for a text as it can stand in JSON: in upper or lower case, with escapes.';
comment on function inventory.erase_person(text) is
  'Erases a person, by login (ot_user_login) in whatever case: in receipts, their history, fields that the vendor has not specified, and bodies of rejected deliveries, in which it becomes "erased". Rows and their versions stay. Says how many rows it has changed. It reads all of the tables, and what is delivered meanwhile may escape it: call it again until it says 0. What is delivered later under that login is stored as "erased" too. The first call of all holds up deliveries until it ends, unless the trigger receipts_keep_erased was enabled before.';
comment on function inventory.purge_portion(interval, interval, integer) is
  'One portion of inventory.purge; how many rows it deleted.';
comment on procedure inventory.purge(interval, interval, integer) is
  'Deletes receipts that were last written longer ago than an age, with their history, and resolved rejections that were resolved longer ago than another; null: none. In portions that are committed one by one, beside the service.';

commit;
