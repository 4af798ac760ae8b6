-- Grain: one row per region. region_income is a group-level predictor: one standardised number per region.
create or replace table regions as
with region as (
    select unnest(range(1, $regions + 1)) as id
)

select
    id::integer as region_id,
    'R' || lpad(id::varchar, 3, '0') as region,
    round(standard_normal($seed, 'region_income', id), 2) as region_income
from region
