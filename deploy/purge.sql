-- psql -v receipts=AGE -v rejections=AGE -f purge.sql: see inventory.purge; an empty age keeps all.
call inventory.purge(nullif(:'receipts', '')::interval, nullif(:'rejections', '')::interval);
