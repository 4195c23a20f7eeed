-- Deploy receiptd:personal_data to pg
-- requires: reporting
-- requires: feed
--
-- Needs the role receiptd_purger of roles.sql.

begin;

set local role receiptd_owner;

-- A person is a login, as inventory.normal_login() writes it. What is kept of one who was erased is a digest, so that a
-- delivery does not bring the login back. It cannot be looked up without the secret; whoever has both can test a guess.
create table inventory.erased_people (
  digest bytea not null,
  filter_hash bigint not null,
  is_address boolean not null,
  erased_at timestamptz not null default now(),
  constraint erased_people_pkey primary key (digest)
);

create table inventory.erasure_state (
  only_row boolean not null default true,
  secret bytea not null,
  filter bytea not null default '\x00',
  filter_check bigint,
  only_addresses boolean not null default true,
  constraint erasure_state_pkey primary key (only_row),
  constraint erasure_state_only_row_check check (only_row)
);
insert into inventory.erasure_state (secret)
values (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- Logins get here by "\copy": the statement, which logs and views of activity show, does not have them. Unlogged: they are
-- neither in the write-ahead log nor on a standby. Without a check or a trigger, whose errors would print a row.
create unlogged table inventory.people_to_erase (
  login text
);
revoke all on inventory.erased_people, inventory.erasure_state, inventory.people_to_erase from public;

-- Unicode's compatibility form makes a full-width @ and a composed letter the same as the usual ones. ASCII is folded on its
-- own, since lower('I') is another letter in a Turkish database; so is the dotted capital I.
create function inventory.normal_login(login text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when octet_length(login) = length(login) then lower(btrim(login, E' \t\n\x0B\f\r') collate "C") collate "default"
    else replace(
      lower(lower(translate(btrim(normalize(login, nfkc), E' \t\n\x0B\f\r'), U&'\0130', 'i') collate "C") collate "default"),
      U&'i\0307',
      'i'
    )
  end
$$;

-- Immutable, which these are not: so PostgreSQL evaluates them when it plans an expression of inventory.may_be_erased(), once a
-- session, and again when inventory.receipts has changed. See inventory.enforce_erasure().
create function inventory.filter_as_planned()
returns bytea
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- In a cluster that hashes in another way, everybody may be erased: right, and slow, until people are erased there.
  return (
    select case
      when s.filter_check = hashtextextended('receiptd', inventory.filter_seed_as_planned()) then s.filter else '\xff'
    end
    from inventory.erasure_state as s
  );
end
$$;

create function inventory.filter_seed_as_planned()
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select ('x' || encode(substr(s.secret, 1, 8), 'hex'))::bit(64)::bigint
    from inventory.erasure_state as s
  );
end
$$;

create function inventory.filter_mask_as_planned()
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return octet_length(inventory.filter_as_planned()) * 8 - 1;
end
$$;

create function inventory.only_addresses_as_planned()
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select s.only_addresses
    from inventory.erasure_state as s
  );
end
$$;

-- The condition that a row may name somebody who was erased, as SQL: for nearly all rows, it is false. Each delivery is asked
-- this, so there is no look-up in a table (15 to 40 µs a row), only one bit in a filter that the session has. Each name is
-- qualified, for a function without a search_path of its own.
--
-- login: a plain address or word that is not in the filter names nobody. texts: those of the other columns, in one, where
-- logins have an @, perhaps escaped, or one of another width, or a backslash. named: whether there is a column in which
-- a login may also be a plain word.
create function inventory.may_be_erased(login text, texts text, named text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    $condition$
      pg_catalog.get_bit(
        inventory.filter_as_planned(),
        pg_catalog.hashtextextended(pg_catalog.lower(%1$s collate pg_catalog."C"), inventory.filter_seed_as_planned())
          operator(pg_catalog.&) inventory.filter_mask_as_planned()
      ) operator(pg_catalog.=) 1
      or %1$s operator(pg_catalog.~) '[^A-Za-z0-9.@_+-]'
      or pg_catalog.strpos(%2$s, '@') operator(pg_catalog.>) 0
      or pg_catalog.strpos(%2$s, '%%') operator(pg_catalog.>) 0
      or pg_catalog.strpos(%2$s, '\') operator(pg_catalog.>) 0
      or pg_catalog.strpos(%2$s, '&#') operator(pg_catalog.>) 0
      or pg_catalog.octet_length(%2$s) operator(pg_catalog.<>) pg_catalog.length(%2$s)
      or (not inventory.only_addresses_as_planned() and %3$s)
    $condition$,
    login, texts, named
  )
$$;

-- Regular expressions for what may be a login in a text as JSON writes it: an address; a word; a whole string. A character
-- is itself, or escaped once or more often, as \u0040 or %40. An address ends where no host name goes on: a@b.com.au is not
-- a@b.com. JSON's escapes of one letter, as \n, belong to no login. `filler` stands for the zero bytes of UTF-16 and UTF-32.
create function inventory.login_patterns(only_addresses boolean, filler text default '')
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  fill constant text := case when filler = '' then '' else filler || '*' end;
  -- What no login has, but as a whole string: white space, quotes, brackets, separators.
  outside constant text := '\u0001-\u0020"&''()*,/:;<=>?@\[\\\]`{|}\u007F\u2000-\u206F\u3000\uFEFF\uFF20\uFE6B%'
    || case when filler = '' then '\u00A0' else '' end;
  no_host constant text := '\u0001-\u002C\u002F\u003A-\u0040\u005B-\u0060\u007B-\u007F\u2000-\u206F\u3000\uFEFF\uFF20\uFE6B'
    || case when filler = '' then '\u00A0' else '' end;
  far constant text := '\\+u(?!00|20[0-6]|3000|[Ff][Ff]20|[Ff][Ee]6[Bb]|[Ff][Ee][Ff][Ff])[0-9A-Fa-f]{4}';
  -- By their two digits, in \u00.. and %..
  in_word constant text := '(?:2[13BDEbde]|25(?![0-9A-Fa-f]{2})|3[0-9]|4[1-9A-Fa-f]|5[0-9AaEeFf]|6[1-9A-Fa-f]|7[0-9AaEe]|[89A-Fa-f][0-9A-Fa-f])';
  in_host constant text := '(?:2[DEde]|3[0-9]|4[1-9A-Fa-f]|5[0-9Aa]|6[1-9A-Fa-f]|7[0-9Aa]|[89A-Fa-f][0-9A-Fa-f])';
  last_in_host constant text := '(?:3[0-9]|4[1-9A-Fa-f]|5[0-9Aa]|6[1-9A-Fa-f]|7[0-9Aa]|[89A-Fa-f][0-9A-Fa-f])';
  escaped constant text := '%s|\\+u00%s|%%(?:25)*%s';
  letter constant text := '[^' || outside || ']|%(?![0-9A-Fa-f]{2})|' || format(escaped, far, in_word, in_word);
  host constant text := '[^' || no_host || ']|' || format(escaped, far, in_host, in_host);
  host_end constant text := '[^' || no_host || '.-]|' || format(escaped, far, last_in_host, last_in_host);
  at constant text := '[@\uFF20\uFE6B]|\\+u(?:0040|[Ff][Ff]20|[Ff][Ee]6[Bb])|%(?:25)*40|%[Ee][Ff]%[Bb][Cc]%[Aa]0|&#64;|&#[xX]40;';
  slash constant text := '\\\\|\\(?![\\"/bfnrtu])|\\+u005[Cc]|%(?:25)*5[Cc]';
  -- Escapes that are no part of a login: what follows them can be one. (None that can be, or each would be searched to the end.)
  control constant text := '\\' || fill || '[nrtbf"/]|' || format(
    '\\+u(?:00(?!%1$s)[0-9A-Fa-f]{2}|20[0-6][0-9A-Fa-f]|3000|[Ff][Ee][Ff][Ff])|%%(?:25)*(?!%1$s)[0-9A-Fa-f]{2}', in_word
  );
  address constant text := format('(?:(?:%1$s)%2$s)(?:(?:%1$s|'')%2$s)*(?:%3$s)%2$s(?:(?:%4$s)%2$s)*(?:%5$s)', letter, fill, at, host, host_end);
  word constant text := format(
    '(?:(?:%1$s)%2$s)(?:(?:%1$s|%3$s)%2$s)*(?:[^%4$s.]|%5$s)|(?:[^%4$s.]|%5$s)',
    letter, fill, slash, outside, format(escaped, far, in_word, in_word)
  );
begin
  if only_addresses then
    return array[control || '|' || address];
  end if;
  return array[
    '"' || fill || '(?:[^"\\]' || fill || '|\\' || fill || '.' || fill || ')*"',
    control || '|' || address,
    control || '|' || address || '|' || word
  ];
end
$$;

-- The login that a match of such an expression stands for; null: none.
create function inventory.login_of(part text, filler text default '')
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  login text := replace(part, filler, '');
  escaped text;
begin
  if login ~ '^[A-Za-z0-9.@_+-]+$' then
    return lower(login collate "C");
  elsif login ~ '^"' then
    login := login::jsonb #>> '{}';
  else
    if login ~ '\\' then
      login := regexp_replace(login, '\\+(u[0-9A-Fa-f]{4})', E'\x01\\1', 'g');
      login := replace(regexp_replace(login, '\\+', '\\\\', 'g'), E'\x01', '\');
      login := ('"' || login || '"')::jsonb #>> '{}';
    end if;
    login := regexp_replace(login, '&#(?:64|x40);', '@', 'gi');
    login := regexp_replace(login, '%(?:25)+', '%', 'g');
    for escaped in select distinct m[1] from regexp_matches(login, '((?:%[0-9A-Fa-f]{2})+)', 'g') as m loop
      login := replace(login, escaped, convert_from(decode(replace(escaped, '%', ''), 'hex'), 'UTF8'));
    end loop;
  end if;
  if filler <> '' and octet_length(login) <> length(login) then
    begin
      login := convert_from(convert_to(login, 'LATIN1'), 'UTF8');
    exception
      when others then
        null;
    end;
  end if;
  return inventory.normal_login(login);
exception
  -- Half of a pair of surrogates, say: no text, and so no login.
  when others then
    return null;
end
$$;

-- What takes the place of a match: with its quotes, and with zero bytes between its letters.
create function inventory.erased_label(part text, suffix text, filler text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select regexp_replace(
    case when part ~ '^"' then '"erased' || suffix || '"' else 'erased' || suffix end,
    '(.)(?=.)',
    '\1' || case when filler = '' then '' else coalesce(substring(part from filler || '+'), '') end,
    'g'
  )
$$;

-- Replaces, in a text as JSON writes it, logins of people who were erased. kind: login, for a column that is one; text, for
-- another column, where logins have an @ or a backslash; json, where a number is one only as a user's or a login's.
create function inventory.without_erased(raw text, kind text, filler text default '')
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
-- So that plans, which logs may show, have no values in them.
set plan_cache_mode = force_generic_plan
as $$
declare
  only_addresses constant boolean := kind <> 'login' and (select s.only_addresses from inventory.erasure_state as s);
  key constant bytea := (select s.secret from inventory.erasure_state as s);
  result text := raw;
  pattern text;
  erased text[];
  gaps text[];
  parts text[];
begin
  foreach pattern in array inventory.login_patterns(only_addresses, filler) loop
    erased := array(
      select part
      from (
        select part, inventory.login_of(part, filler) as login
        from (select distinct m[1] as part from regexp_matches(result, '(' || pattern || ')', 'g') as m) as all_parts
      ) as candidate
      where (kind = 'login' or login !~ '^[0-9]+$')
        and (kind <> 'text' or login ~ '[@\\]')
        and exists (
          select
          from inventory.erased_people as p
          where p.digest = sha256(key || convert_to(login, 'UTF8'))
        )
    );
    continue when cardinality(erased) = 0;
    gaps := regexp_split_to_array(result, pattern);
    parts := array(select m[1] from regexp_matches(result, '(' || pattern || ')', 'g') with ordinality as f (m, n) order by n);
    result := (
      select string_agg(
        gaps[i] || case
          when parts[i] is null then ''
          when parts[i] <> all (erased) then parts[i]
          else inventory.erased_label(
            parts[i],
            -- A name must stay different from the others of its object.
            case
              when kind = 'json'
                and (
                  select string_agg(gaps[j] || coalesce(parts[j], ''), '' order by j)
                  from generate_series(i + 1, least(i + 100, cardinality(gaps))) as j
                ) ~ case when parts[i] ~ '^"' then '^\s*:' else '^(?:[^"\\]|\\.)*"\s*:' end
              then '-' || encode(substr(sha256(key || convert_to(parts[i], 'UTF8')), 1, 8), 'hex')
              else ''
            end,
            filler
          )
        end,
        ''
        order by i
      )
      from generate_series(1, cardinality(gaps)) as i
    );
  end loop;
  if kind = 'json' and not only_addresses then
    -- 4711 may be a number of anything, but not where a name has "user" or "login" in it.
    for pattern in
      select distinct m[1]
      from regexp_matches(
        result, '("(?:[^"\\]|\\.)*(?:user|login)(?:[^"\\]|\\.)*"\s*:\s*(?:"\s*[0-9]+\s*"|[0-9]+(?:\.0+)?(?=[\s,}\]])))', 'gi'
      ) as m
    loop
      if exists (
        select
        from inventory.erased_people as p
        where p.digest = sha256(key || convert_to((regexp_match(pattern, '([0-9]+)(?:\.0+)?[\s"]*$'))[1], 'UTF8'))
      ) then
        result := replace(result, pattern, regexp_replace(pattern, '(:\s*)"?\s*[0-9.]+\s*"?$', '\1"erased"'));
      end if;
    end loop;
  end if;
  if result = raw then
    return null;
  end if;
  -- Jane Doe <jdoe@email.com>
  return regexp_replace(
    result,
    format('"%1$s(?:<|\\u003[Cc])erased(?:>|\\u003[Ee])%1$s"', '(?:[^"\\<>]|\\(?!u003[CcEe]).)*'),
    '"erased"',
    'g'
  );
end
$$;

create function inventory.body_without_erased(body bytea)
returns bytea
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  zero constant text := U&'\2060';
  masked text;
begin
  begin
    return convert_to(inventory.without_erased(convert_from(body, 'UTF8'), 'json'), 'UTF8');
  exception
    when character_not_in_repertoire or untranslatable_character then
      null;
  end;
  -- Each byte as a letter of LATIN1, and zeros, which no text can have, as one that LATIN1 does not have.
  masked := inventory.without_erased(
    (
      select string_agg(convert_from(decode(piece, 'escape'), 'LATIN1'), zero order by n)
      from unnest(string_to_array(replace(encode(body, 'escape'), '\\', '\134'), '\000')) with ordinality as p (piece, n)
    ),
    'json',
    zero
  );
  return (
    select string_agg(convert_to(piece, 'LATIN1'), '\x00' order by n)
    from unnest(string_to_array(masked, zero)) with ordinality as p (piece, n)
  );
end
$$;

-- The columns of a row that change when people who were erased are replaced in it; null: none. The key stays. Only values in which
-- a login may be are looked at closely: a text without an @, a backslash, a percent sign, &# and other letters than ASCII's has none.
create function inventory.erased_in(relation regclass, stored jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  is_rejection constant boolean := relation = 'inventory.rejected_receipts'::regclass;
  login constant text := stored ->> 'ot_user_login';
  field record;
  value text;
  changes jsonb := '{}';
begin
  if login ~ '^[A-Za-z0-9.@_+-]+$' then
    if exists (
      select
      from inventory.erasure_state as s
      join inventory.erased_people as p on p.digest = sha256(s.secret || convert_to(lower(login collate "C"), 'UTF8'))
    ) then
      changes := '{"ot_user_login": "erased"}';
    end if;
  elsif inventory.without_erased((stored -> 'ot_user_login')::text, 'login') is not null then
    changes := '{"ot_user_login": "erased"}';
  end if;
  for field in
    select f.key as name, f.value
    from jsonb_each(stored) as f (key, value)
    where f.key <> 'ot_user_login'
      and (is_rejection or f.key not in ('program_identifier', 'asn_number', 'unit_identifier'))
      and (
        jsonb_typeof(f.value) in ('object', 'array')
        or (jsonb_typeof(f.value) = 'string' and f.value #>> '{}' ~ '[@%\\]|&#|[^\u0001-\u007F]')
      )
  loop
    if field.name = 'body' and is_rejection then
      value := inventory.body_without_erased((field.value #>> '{}')::bytea)::text;
      if value is not null then
        changes := changes || jsonb_build_object(field.name, value);
      end if;
      continue;
    end if;
    -- A column of somebody else's is theirs.
    continue when not is_rejection and field.name <> all (inventory.content_columns() || array['api_key_name', 'sender_headers']);
    value := inventory.without_erased(field.value::text, case jsonb_typeof(field.value) when 'string' then 'text' else 'json' end);
    if value is not null then
      changes := changes || jsonb_build_object(field.name, value::jsonb);
    end if;
  end loop;
  return nullif(changes, '{}');
end
$$;

-- The texts of a row of receipts or receipt_revisions, but its key and its login, in one, as SQL. Without a column that is about to be
-- dropped, which holds nothing any more.
create function inventory.texts_of(alias text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select string_agg(
      format(
        case
          when a.atttypid = 'jsonb'::regtype then 'coalesce(%s.%I::pg_catalog.text, '''')'
          when a.attnotnull then '%s.%I'
          else 'coalesce(%s.%I, '''')'
        end,
        alias, a.attname
      ),
      ' operator(pg_catalog.||) '
      order by a.attnum
    )
    from pg_attribute as a
    where a.attrelid = 'inventory.receipts'::regclass
      and a.attnum > 0
      and not a.attisdropped
      and a.atttypid in ('text'::regtype, 'jsonb'::regtype)
      and a.attname = any (inventory.content_columns() || array['api_key_name', 'sender_headers'])
      and a.attname not in ('program_identifier', 'asn_number', 'unit_identifier', 'ot_user_login')
      and not exists (
        select
        from inventory.moved_fields as m
        where m.column_name = a.attname and m.direction <> 'column'
      )
  );
end
$$;

-- Writes inventory.keep_erased() for the columns that there are. The service's statement compares what comes out of it with the
-- row, so that the same content again is no revision. The statement that waits for no row compares before; so what
-- would be none is left alone. The trigger has no condition: PostgreSQL would read it again for every statement.
create function inventory.write_keep_erased()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format(
    $create$
      create or replace function inventory.keep_erased()
      returns trigger
      language plpgsql
      security definer
      as $function$
      declare
        texts pg_catalog.text := %1$s;
        changes pg_catalog.jsonb;
      begin
        if %2$s
          -- Never true; makes PostgreSQL plan this again when the table has changed.
          or (texts is null and tg_relid operator(pg_catalog.=) 'inventory.receipts'::pg_catalog.regclass)
        then
          changes := inventory.erased_in(tg_relid, pg_catalog.to_jsonb(new));
          if changes is null then
            return new;
          end if;
          new := pg_catalog.jsonb_populate_record(new, changes);
          if tg_op operator(pg_catalog.=) 'UPDATE' then
            if new.revision operator(pg_catalog.=) (old.revision operator(pg_catalog.+) 1)
              and new.revised_request_id is not null
              and inventory.content_of(pg_catalog.to_jsonb(new)) operator(pg_catalog.=) inventory.content_of(pg_catalog.to_jsonb(old))
            then
              perform inventory.decline_revision(new.revised_request_id);
              return null;
            end if;
          end if;
        end if;
        return new;
      end
      $function$
    $create$,
    inventory.texts_of('new'),
    inventory.may_be_erased('new.ot_user_login', 'texts', '(new.extra is not null or new.sender_headers is not null)')
  );
  if to_regprocedure('inventory.record_schema(text, text[])') is not null then
    execute $record$ select inventory.record_schema('function', 'inventory.keep_erased()') $record$;
  end if;
end
$$;

do $$
begin
  perform inventory.write_keep_erased();
end
$$;

create function inventory.keep_erased_rejection()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changes constant jsonb := inventory.erased_in(tg_relid, to_jsonb(new));
begin
  if changes is not null then
    new := jsonb_populate_record(new, changes);
    -- The digest of what was erased would prove a guess of it. With the secret, it does not, and still finds repeats.
    new.digest := (
      select encode(substr(sha256(s.secret || uuid_send(new.digest)), 1, 16), 'hex')::uuid
      from inventory.erasure_state as s
    );
  end if;
  return new;
end
$$;

-- Off until somebody is erased. (The name comes before receipts_number_revision, which then sees what is really stored.)
create trigger receipts_keep_erased
before insert or update on inventory.receipts
for each row
execute function inventory.keep_erased();
alter table inventory.receipts disable trigger receipts_keep_erased;

-- What is brought back from an archive. What keep_revision() puts there comes from a row that is clean.
create trigger receipt_revisions_keep_erased
before insert on inventory.receipt_revisions
for each row
when (pg_trigger_depth() = 0)
execute function inventory.keep_erased();
alter table inventory.receipt_revisions disable trigger receipt_revisions_keep_erased;

create trigger rejected_receipts_keep_erased
before insert on inventory.rejected_receipts
for each row
execute function inventory.keep_erased_rejection();
alter table inventory.rejected_receipts disable trigger rejected_receipts_keep_erased;

-- Turns logins into digests, and forgets them; says how many people are new. Two bytes of filter for each person: one login in a hundred
-- that nobody has erased is looked up too.
create function inventory.take_people()
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  taken bigint;
  bits bigint;
begin
  lock table inventory.people_to_erase in access exclusive mode;
  insert into inventory.erased_people (digest, filter_hash, is_address)
  select distinct on (login)
    sha256((select s.secret from inventory.erasure_state as s) || convert_to(login, 'UTF8')),
    hashtextextended(login, inventory.filter_seed_as_planned()),
    login ~ '^[a-z0-9._+-]+@[a-z0-9.-]*[a-z0-9]$'
  from (select inventory.normal_login(p.login) as login from inventory.people_to_erase as p) as given
  where login not in ('', 'erased')
  on conflict do nothing;
  get diagnostics taken = row_count;
  truncate inventory.people_to_erase;

  bits := 2 ^ ceil(log(2::numeric, greatest(1024, 64 * (select count(*) from inventory.erased_people))));
  update inventory.erasure_state
  set
    filter = decode(
      (
        select string_agg(lpad(to_hex(coalesce(b.bits, 0)), 2, '0'), '' order by n)
        from generate_series(0::bigint, bits / 8 - 1) as n
        left join (
          select (p.filter_hash & (bits - 1)) / 8 as n, bit_or(1 << ((p.filter_hash & (bits - 1)) % 8)::integer) as bits
          from inventory.erased_people as p
          group by 1
        ) as b using (n)
      ),
      'hex'
    ),
    filter_check = hashtextextended('receiptd', inventory.filter_seed_as_planned()),
    only_addresses = not exists (select from inventory.erased_people as p where not p.is_address);
  return taken;
end
$$;

-- Waits until no transaction writes that began before, and makes sessions read the filter again. Those that write wait
-- for it, so it gives up soon, and inventory.erase_people() calls it again.
create function inventory.enforce_erasure()
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
begin
  lock table inventory.receipts, inventory.receipt_revisions, inventory.rejected_receipts in share row exclusive mode;
  alter table inventory.receipts disable trigger receipts_keep_erased;
  alter table inventory.receipt_revisions disable trigger receipt_revisions_keep_erased;
  alter table inventory.rejected_receipts disable trigger rejected_receipts_keep_erased;
  if exists (select from inventory.erased_people) then
    alter table inventory.receipts enable trigger receipts_keep_erased;
    alter table inventory.receipt_revisions enable trigger receipt_revisions_keep_erased;
    alter table inventory.rejected_receipts enable trigger rejected_receipts_keep_erased;
  end if;
  return true;
exception
  when lock_not_available then
    return false;
end
$$;

-- Some blocks of a table: how many rows it changed, and whether some are left, beyond `most` or locked by somebody else.
create function inventory.erase_portion(
  relation regclass,
  first_block bigint,
  end_block bigint,
  most integer,
  out changed bigint,
  out is_left boolean,
  out named_keys bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  is_rejections constant boolean := relation = 'inventory.rejected_receipts'::regclass;
  columns text;
begin
  select string_agg(quote_ident(attname), ', ')
  into columns
  from pg_attribute
  where attrelid = relation
    and attnum > 0
    and not attisdropped
    and attgenerated = ''
    and atttypid in ('text'::regtype, 'jsonb'::regtype, 'bytea'::regtype)
    and (is_rejections or attname = any (inventory.content_columns() || array['api_key_name', 'sender_headers']));
  perform set_config('receiptd.erasing', 'on', true);
  execute format(
    $query$
      with found as materialized (
        select r.ctid as place
        from %1$s as r
        %8$s
        where r.ctid >= '(%2$s,0)' and r.ctid < '(%3$s,0)'
          -- In this order: the second costs a hundred times the first.
          and case when %5$s then inventory.erased_in(%1$L, to_jsonb(r)) is not null end
        limit %4$s
      ), locked as materialized (
        select r.ctid as place
        from %1$s as r
        where r.ctid = any (array(select place from found))
        for no key update skip locked
      ), changed as (
        update %1$s as r
        set (%6$s) = (
          select %6$s from jsonb_populate_record(r, inventory.erased_in(%1$L, to_jsonb(r)))
        )
        where r.ctid = any (array(select place from locked))
        returning 1
      )
      select
        (select count(*) from changed),
        (select count(*) from found) > (select count(*) from changed) or (select count(*) from found) = %4$s,
        (
          select count(*)
          from %1$s as r
          where %7$s
            and r.ctid >= '(%2$s,0)' and r.ctid < '(%3$s,0)'
            and r.program_identifier || r.asn_number || r.unit_identifier ~ '[@\\%%]|&#|[^\u0001-\u007F]'
            and inventory.without_erased(to_json(concat_ws(' ', r.program_identifier, r.asn_number, r.unit_identifier))::text, 'text') is not null
        )
    $query$,
    relation,
    first_block,
    end_block,
    most,
    case
      when is_rejections then 'true'
      else inventory.may_be_erased('r.ot_user_login', 't.texts', '(r.extra is not null or r.sender_headers is not null)')
    end,
    columns,
    case when relation = 'inventory.receipts'::regclass then 'true' else 'false' end,
    case when not is_rejections then format('cross join lateral (select %s as texts offset 0) as t', inventory.texts_of('r')) end
  )
  into changed, is_left, named_keys;
  perform set_config('receiptd.erasing', '', true);
end
$$;

-- What is counted for reports has texts of receipts too. The days are counted again, since their receipts were written.
create function inventory.erase_totals()
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  place record;
begin
  if to_regclass('inventory.totals_state') is not null then
    perform from inventory.totals_state for update;
  end if;
  for place in
    select c.oid::regclass as relation, string_agg(format('t.%I', a.attname), ', ') as columns
    from pg_class as c
    join pg_attribute as a on a.attrelid = c.oid
    where c.relnamespace = 'inventory'::regnamespace
      and starts_with(c.relname, 'totals_by_')
      and c.relkind = 'r'
      and a.attnum > 0
      and not a.attisdropped
      and a.atttypid = 'text'::regtype
      and a.attname not in ('program_identifier', 'asn_number', 'unit_identifier')
    group by c.oid
  loop
    execute format(
      $query$
        delete from %1$s as t
        where concat_ws(' ', %2$s) ~ '[@\\%%]|&#|[^\u0001-\u007F]'
          and exists (
            select from unnest(array[%2$s]) as value where inventory.without_erased(to_json(value)::text, 'text') is not null
          )
      $query$,
      place.relation, place.columns
    );
  end loop;
end
$$;

-- In portions that are committed one by one, so that no delivery waits for long. (A procedure that commits cannot have a
-- search_path of its own, nor be security definer: hence the functions.) History after receipts: what a delivery
-- puts there meanwhile comes from a row that is clean.
create procedure inventory.erase_people(
  inout people bigint default 0,
  inout receipts bigint default 0,
  inout revisions bigint default 0,
  inout rejections bigint default 0,
  inout named_keys bigint default 0
)
language plpgsql
as $$
declare
  relation pg_catalog.regclass;
  blocks constant integer := 32;
  starts bigint[];
  again bigint[];
  start bigint;
  done record;
  changed bigint;
begin
  commit;
  set transaction isolation level read committed;
  people := inventory.take_people();
  loop
    commit;
    exit when inventory.enforce_erasure();
    commit;
    perform pg_catalog.pg_sleep(0.2);
  end loop;
  commit;
  receipts := 0;
  revisions := 0;
  rejections := 0;
  named_keys := 0;
  foreach relation in array array[
    'inventory.receipts', 'inventory.receipt_revisions', 'inventory.rejected_receipts'
  ]::pg_catalog.regclass[] loop
    changed := 0;
    start := 0;
    again := '{}';
    loop
      commit;
      set transaction isolation level read committed;
      exit when start operator(pg_catalog.*) pg_catalog.current_setting('block_size')::bigint
        operator(pg_catalog.>=) pg_catalog.pg_relation_size(relation);
      loop
        done := inventory.erase_portion(relation, start, start operator(pg_catalog.+) blocks, 50);
        commit;
        set transaction isolation level read committed;
        changed := changed operator(pg_catalog.+) done.changed;
        exit when not done.is_left or done.changed operator(pg_catalog.=) 0;
      end loop;
      named_keys := named_keys operator(pg_catalog.+) done.named_keys;
      if done.is_left then
        again := again operator(pg_catalog.||) start;
      end if;
      start := start operator(pg_catalog.+) blocks;
    end loop;
    -- Rows that somebody else had locked.
    while pg_catalog.cardinality(again) operator(pg_catalog.>) 0 loop
      done := inventory.erase_portion(relation, again[1], again[1] operator(pg_catalog.+) blocks, 50);
      commit;
      set transaction isolation level read committed;
      changed := changed operator(pg_catalog.+) done.changed;
      if not done.is_left then
        again := again[2:];
      elsif done.changed operator(pg_catalog.=) 0 then
        perform pg_catalog.pg_sleep(0.1);
      end if;
    end loop;
    if relation operator(pg_catalog.=) 'inventory.receipts'::pg_catalog.regclass then
      receipts := changed;
    elsif relation operator(pg_catalog.=) 'inventory.receipt_revisions'::pg_catalog.regclass then
      revisions := changed;
    else
      rejections := changed;
    end if;
  end loop;
  perform inventory.erase_totals();
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
  inventory.normal_login(text),
  inventory.filter_as_planned(),
  inventory.filter_seed_as_planned(),
  inventory.only_addresses_as_planned(),
  inventory.filter_mask_as_planned(),
  inventory.may_be_erased(text, text, text),
  inventory.login_patterns(boolean, text),
  inventory.login_of(text, text),
  inventory.erased_label(text, text, text),
  inventory.without_erased(text, text, text),
  inventory.body_without_erased(bytea),
  inventory.erased_in(regclass, jsonb),
  inventory.keep_erased(),
  inventory.keep_erased_rejection(),
  inventory.texts_of(text),
  inventory.write_keep_erased(),
  inventory.take_people(),
  inventory.enforce_erasure(),
  inventory.erase_portion(regclass, bigint, bigint, integer),
  inventory.erase_totals(),
  inventory.purge_portion(interval, interval, integer)
from public;
revoke all on procedure
  inventory.erase_people(bigint, bigint, bigint, bigint, bigint),
  inventory.purge(interval, interval, integer)
from public;
grant usage on schema inventory to receiptd_purger;
grant execute on function inventory.purge_portion(interval, interval, integer) to receiptd_purger;
grant execute on procedure inventory.purge(interval, interval, integer) to receiptd_purger;

comment on table inventory.erased_people is
  'Of each person that inventory.erase_people has erased: a digest of the login, so that a delivery does not bring it back. Delete a row and call inventory.erase_people(), and a delivery may name the person again.';
comment on column inventory.erased_people.digest is
  'The SHA-256 digest of the secret in inventory.erasure_state and the login in its normal form. Example: \x5f0c2b1e...';
comment on column inventory.erased_people.filter_hash is
  'Where the login is in the filter in inventory.erasure_state. Example: 7318945012345678901';
comment on column inventory.erased_people.is_address is
  'Whether the login is an e-mail address; other logins make deliveries with fields that the vendor has not specified slower. Example: t';
comment on column inventory.erased_people.erased_at is 'When that was. Example: 2026-11-24 08:30:00.654321+00';
comment on table inventory.erasure_state is
  'What a delivery is compared with, to find out whether it may name somebody who was erased: one row. Keep the secret with the digests, or they are worthless; nobody but the owner may read either.';
comment on column inventory.erasure_state.only_row is 'Keeps it to one row. Example: t';
comment on constraint erasure_state_only_row_check on inventory.erasure_state is 'Keeps it to one row.';
comment on column inventory.erasure_state.secret is 'Random bytes of this database, with which digests are made. Example: \x9d3c5b7a...';
comment on column inventory.erasure_state.filter is
  'A bit for each value of a hash of a login: 1 if somebody who was erased has it. Example: \x0004...';
comment on column inventory.erasure_state.filter_check is
  'A hash, by which a cluster that hashes in another way is known: there, the filter is not used. Example: 7318945012345678901';
comment on column inventory.erasure_state.only_addresses is
  'Whether the logins of all people who were erased are e-mail addresses. Example: t';
comment on table inventory.people_to_erase is
  'Put logins here, by "\copy", for inventory.erase_people, which empties it. Unlogged, so that they get neither into the write-ahead log nor to a standby.';
comment on column inventory.people_to_erase.login is 'A login (ot_user_login). Example: jdoe@email.com';
comment on function inventory.normal_login(text) is
  'The normal form of a login: two logins of the same one are the same person. Without white space around it, in lower case, in Unicode''s form NFKC.';
comment on function inventory.filter_as_planned() is 'inventory.erasure_state.filter as of when an expression was planned.';
comment on function inventory.filter_seed_as_planned() is 'The seed of the hashes in the filter as of when an expression was planned.';
comment on function inventory.only_addresses_as_planned() is
  'inventory.erasure_state.only_addresses as of when an expression was planned.';
comment on function inventory.filter_mask_as_planned() is
  'The last bit of inventory.erasure_state.filter as of when an expression was planned.';
comment on function inventory.may_be_erased(text, text, text) is
  'The condition that a row may name somebody who was erased, as SQL. If it is true, inventory.erased_in() says whether the row does.';
comment on function inventory.login_patterns(boolean, text) is
  'Regular expressions for what may be a login in a text as JSON writes it.';
comment on function inventory.login_of(text, text) is 'The login that a match of such an expression stands for, in its normal form.';
comment on function inventory.erased_label(text, text, text) is 'What takes the place of a match that is the login of a person who was erased.';
comment on function inventory.without_erased(text, text, text) is
  'A text as JSON writes it, with "erased" in the place of logins of people who were erased; null: it has none.';
comment on function inventory.body_without_erased(bytea) is
  'The body of a rejected delivery, with "erased" in the place of logins of people who were erased, whatever its encoding; null: it has none.';
comment on function inventory.erased_in(regclass, jsonb) is
  'The columns of a row that change when "erased" takes the place of logins of people who were erased; null: none.';
comment on function inventory.keep_erased() is
  'Before a receipt, or a version of one, is written: puts "erased" in the place of logins of people who were erased.';
comment on function inventory.keep_erased_rejection() is
  'Before a rejected delivery is written: puts "erased" in the place of logins of people who were erased.';
comment on trigger receipts_keep_erased on inventory.receipts is
  'Keeps a person erased. Disabled until inventory.erase_people is called for the first time.';
comment on trigger receipt_revisions_keep_erased on inventory.receipt_revisions is
  'Keeps a person erased in history that is brought back. Disabled until inventory.erase_people is called for the first time.';
comment on trigger rejected_receipts_keep_erased on inventory.rejected_receipts is
  'Keeps a person erased. Disabled until inventory.erase_people is called for the first time.';
comment on function inventory.texts_of(text) is
  'The texts of a row of receipts or receipt_revisions, except its key and its login, in one, as SQL.';
comment on function inventory.write_keep_erased() is
  'Writes inventory.keep_erased() again, after a column was added or dropped.';
comment on function inventory.take_people() is
  'Part of inventory.erase_people: turns the logins in inventory.people_to_erase into digests, and empties it.';
comment on function inventory.enforce_erasure() is
  'Part of inventory.erase_people: enables the triggers, and makes each session read the filter again; false: somebody is writing, call it again.';
comment on function inventory.erase_portion(regclass, bigint, bigint, integer) is
  'Part of inventory.erase_people: some blocks of a table.';
comment on function inventory.erase_totals() is
  'Part of inventory.erase_people: deletes from the tables for reports what names people who were erased; inventory.refresh_totals counts it again.';
comment on procedure inventory.erase_people(bigint, bigint, bigint, bigint, bigint) is
  'Erases the people whose logins are in inventory.people_to_erase: in receipts, their history and rejected deliveries, in which each login becomes "erased", and in all that is delivered later. Rows and their versions stay. Says how many people are new, how many rows of each table it changed, and how many receipts have the login in their key, which stays. In portions that are committed one by one, beside the service; run again, it goes on.';
comment on function inventory.purge_portion(interval, interval, integer) is
  'One portion of inventory.purge; how many rows it deleted.';
comment on procedure inventory.purge(interval, interval, integer) is
  'Deletes receipts that were last written longer ago than an age, with their history, and resolved rejections that were resolved longer ago than another; null: none. In portions that are committed one by one, beside the service.';

commit;
