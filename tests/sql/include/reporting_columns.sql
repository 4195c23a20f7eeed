-- What programs rely on that read the schema reporting: the columns of each view, in their order, and each function's arguments
-- and result.
select line
from (
  select
    relname::text as name,
    attnum as place,
    concat_ws(
      ' ',
      relname || '.' || attname,
      format_type(atttypid, atttypmod),
      case when attcollation not in (0, 'pg_catalog."default"'::regcollation) then 'collate ' || attcollation::regcollation end
    ) as line
  from pg_class
  join pg_attribute on attrelid = pg_class.oid
  where relnamespace = to_regnamespace('reporting')
    and relkind in ('r', 'p', 'v', 'm', 'f')
    and attnum > 0
    and not attisdropped
  union all
  select
    proname,
    0,
    format('%s(%s) %s', proname, pg_get_function_arguments(oid), pg_get_function_result(oid))
  from pg_proc
  where pronamespace = to_regnamespace('reporting')
) as relied_on
order by name collate "C", place, line collate "C";
