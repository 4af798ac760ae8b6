-- Grain: one row per customer, nested in a region. Every region has one customer at least, the first ones many.
create or replace table customers as
with customer as (
    select unnest(range(1, $customers + 1)) as id
)

select
    id as customer_id,
    (
        case
            when id <= $regions then id
            else 1 + floor($regions * uniform($seed, 'region', id) ** 2)::bigint
        end
    )::integer as region_id
from customer
