# Years of receiving and purging: what it costs to read one day stays what it was; sourced by run.
# shellcheck shell=bash

begin_steady_state() {
    sql <<'END'
create schema steady;
create table steady.sample as select * from inventory.receipts limit 1;
-- A day of 300 receipts in batches of 25. A hundredth of all receipts is revised some time later, at random (which is seeded).
create procedure steady.live(first integer, last integer, kept integer)
language plpgsql
as $$
begin
  perform setseed(0.25);
  for day in first .. last loop
    delete from inventory.receipts
    where program_identifier = 'steady'
      and received_at < '2001-01-01 00:00+00'::timestamptz + (day - kept) * interval '1 day';
    commit;
    for batch in 0 .. 11 loop
      insert into inventory.receipts
      select (jsonb_populate_record(s, jsonb_build_object(
        'program_identifier', 'steady',
        'asn_number', 'A' || day,
        'unit_identifier', 'U' || day || '-' || batch * 25 + unit,
        -- Some eight rows a page, so that there are many pages.
        'location_identifier', repeat(md5(random()::text), 24),
        'received_at', '2001-01-01 00:00+00'::timestamptz + day * interval '1 day' + batch * interval '1 hour',
        'created_in', pg_current_xact_id()::text::bigint
      ))).*
      from steady.sample as s
      cross join generate_series(1, 25) as unit;
      commit;
      continue when batch % 4 <> 0;
      update inventory.receipts
      set sku = random()
      where (program_identifier, asn_number, unit_identifier) in (
        select 'steady', 'A' || revised_day, 'U' || revised_day || '-' || ceil(random() * 300)
        from (select day - floor(random() * kept)::integer as revised_day) as r
      );
      commit;
    end loop;
  end loop;
end
$$;
END
    sql -c "update steady.sample set extra = null, sender_headers = null"
}

# pages CONDITION: how many pages it takes to read what it holds for.
pages() {
    sql -c 'set enable_seqscan = off' -c "explain (analyze, buffers, timing off, summary off, format json)
        select max(sku) from inventory.receipts where $1" |
        awk -F': ' '/"Shared (Hit|Read) Blocks"/ { sum += $2; if (++count == 2) { print sum; exit } }'
}

received_on() {
    echo "received_at >= '2001-01-01 00:00+00'::timestamptz + $1 * interval '1 day'
        and received_at < '2001-01-01 00:00+00'::timestamptz + ($1 + 1) * interval '1 day'"
}

# created_on DAY: by the numbers of its transactions.
created_on() {
    sql -c "select format('created_in between %s and %s', min(created_in), max(created_in)) from inventory.receipts
        where $(received_on "$1") and program_identifier = 'steady'"
}

vacuum_receipts() {
    sql -c 'vacuum (analyze) inventory.receipts' -c 'vacuum (analyze) inventory.receipt_revisions'
}

# is_at_most PAGES LIMIT WHAT
is_at_most() {
    (($1 <= $2)) || { echo "$3: $1 pages, the limit is $2" && return 1; }
}

test_steady_state() {
    local kept=24 day fresh fresh_created
    begin_steady_state
    sql -c "call steady.live(0, $((kept / 4)), $kept)"
    vacuum_receipts
    fresh=$(pages "$(received_on 5)") fresh_created=$(pages "$(created_on 5)")
    for ((day = kept / 4 + 1; day < 3 * kept; day += 2)); do
        sql -c "call steady.live($day, $((day + 1)), $kept)"
        vacuum_receipts
    done
    for day in $((2 * kept + 5)) $((3 * kept - 5)); do
        check "after years of purging, day $day is read as fast as ever" \
            is_at_most "$(pages "$(received_on "$day")")" $((2 * fresh)) "fresh: $fresh"
        check "and by the transactions that created it" \
            is_at_most "$(pages "$(created_on "$day")")" $((2 * fresh_created)) "fresh: $fresh_created"
    done
    sql -c "delete from inventory.receipts where program_identifier = 'steady'" -c 'set client_min_messages = warning' -c 'drop schema steady cascade'
    vacuum_receipts
}
