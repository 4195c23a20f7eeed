-- Revert receiptd:reporting from pg

begin;

set local role receiptd_owner;

-- What people have entered is theirs.
do $$
declare
  kept text;
begin
  select string_agg(name, ' and ' order by name)
  into kept
  from (
    select 'inventory.condition_codes'
    where exists (select from inventory.condition_codes)
    union all
    select 'inventory.warehouses'
    where exists (select from inventory.warehouses)
  ) as filled (name);
  if kept is not null then
    raise exception 'reporting: % would be lost: people have filled in rows', kept
      using hint = format(
        E'Save them and delete them, then revert again, for example:\n%s',
        (
          select string_agg(
            format(E'  \\copy %1$s to %2$s.csv csv header\n  delete from %1$s;', name, split_part(name, '.', 2)), E'\n' order by name
          )
          from unnest(string_to_array(kept, ' and ')) as name
        )
      );
  end if;
end
$$;

drop schema reporting cascade;
revoke execute on function inventory.field_columns() from receiptd_analyst;
drop function inventory.is_transfer(text);
drop function inventory.is_return(text);
drop function inventory.gtin(text);
drop function inventory.is_gtin(bigint);
drop function inventory.unknown_time_zones();
drop table inventory.warehouses;
drop table inventory.day_zones;
drop function inventory.known_time_zone(text);
drop table inventory.condition_codes;

commit;
