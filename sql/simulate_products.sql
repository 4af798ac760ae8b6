-- Grain: one row per product, nested in a category. Every category has one product at least, the first ones many.
create or replace table products as
with product as (
    select unnest(range(1, $products + 1)) as id
)

select
    id as product_id,
    (
        case
            when id <= $categories then id
            else 1 + floor($categories * uniform($seed, 'category', id) ** 2)::bigint
        end
    )::integer as category_id
from product
