-- Writes TABLES.md, the picture of the tables: psql -XqAt -f tables.sql >TABLES.md

\echo '# The tables'
\echo
\echo 'Made by [tables.sql](tables.sql) from the schema `inventory`; PK is the key, FK refers to another table. What a column means,'
\echo 'its comment says: `\\d+ inventory.receipts`. The views of `reporting` have columns of these.'
\echo
\echo '```mermaid'
\echo 'erDiagram'
select
  format('    %s {', relname),
  (
    select string_agg(
      format(
        '%8s%s %s%s',
        '',
        replace(format_type(a.atttypid, null), 'timestamp with time zone', 'timestamptz'),
        a.attname,
        coalesce(
          ' ' || nullif(
            (
              select string_agg(case contype when 'p' then 'PK' else 'FK' end, ', ' order by contype desc)
              from pg_constraint
              where conrelid = c.oid and contype in ('p', 'f') and a.attnum = any (conkey)
            ),
            ''
          ),
          ''
        )
      ),
      E'\n' order by a.attnum
    )
    from pg_attribute as a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  ),
  '    }'
from pg_class as c
where relnamespace = 'inventory'::regnamespace and relkind = 'r'
order by relname = 'receipts' desc, relname
\g (fieldsep='\n')
select format('    %s ||--o{ %s : %s', f.relname, c.relname, conname)
from pg_constraint
join pg_class as c on c.oid = conrelid
join pg_class as f on f.oid = confrelid
where connamespace = 'inventory'::regnamespace and contype = 'f'
order by conname;
\echo '```'
