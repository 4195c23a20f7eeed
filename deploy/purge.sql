-- psql -v receipts=AGE -v rejections=AGE -v feed=AGE -f purge.sql: see inventory.purge and inventory.trim_feed; an empty age
-- keeps all.
call inventory.purge(nullif(:'receipts', '')::interval, nullif(:'rejections', '')::interval);
call inventory.trim_feed(nullif(:'feed', '')::interval);
