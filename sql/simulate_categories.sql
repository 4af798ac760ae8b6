-- Grain: one row per category, nested in a department. Every department has one category at least, the first ones many.
create or replace table categories as
with category as (
    select unnest(range(1, $categories + 1)) as id
)

select
    id::integer as category_id,
    'C' || lpad(id::varchar, 4, '0') as category,
    'D' || lpad(
        (
            case
                when id <= $departments then id
                else 1 + floor($departments * uniform($seed, 'department', id) ** 1.5)::bigint
            end
        )::varchar,
        3,
        '0'
    ) as department,
    -- how often its items are on sale, 0.2 to 0.6
    0.2 + 0.4 * uniform($seed, 'sale_rate', id) as sale_rate
from category
