-- What the copy has and the table has not, or the other way round.
(select r::text from inventory.receipts as r except all select c::text from reader.copy as c)
union all
(select c::text from reader.copy as c except all select r::text from inventory.receipts as r);
