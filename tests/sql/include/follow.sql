-- Takes pages of :most rows, until there are no more; the rows and the cursor in one transaction.
select set_config('feed.most', :'most', false) \g /dev/null
do $$
declare
  change record;
  got boolean = true;
begin
  while got loop
    got := false;
    for change in
      select f.*
      from reader.cursor as c
      cross join lateral inventory.changes_since(c.cursor, current_setting('feed.most')::integer) as f
    loop
      got := true;
      delete from reader.copy
      where (program_identifier, asn_number, unit_identifier)
          = (change.program_identifier, change.asn_number, change.unit_identifier);
      if change.receipt is distinct from null then
        insert into reader.copy select (change.receipt).*;
      end if;
      update reader.cursor set cursor = change.cursor;
    end loop;
  end loop;
end
$$;
