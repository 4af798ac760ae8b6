-- Grain: one row per line item: its number.
-- A table, because DuckDB reads a table with all its threads and range() with one.
create or replace temp table line_id as
select range as line_item_id
from range($line_items)
