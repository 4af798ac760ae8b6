-- Grain: one row per outcome and true parameter: coefficient, sd, or the deviation (effect b) of one level.
-- Units: the link scale of the outcome.
-- Names as in the published tables: the level of department:category is the category.
create or replace table truth as
with run (seed) as (
    select $seed
),

level as (
    select
        'region' as grouping_factor,
        null as parent_level,
        region as level
    from regions
    union all
    select distinct
        'department' as grouping_factor,
        null as parent_level,
        department as level
    from categories
    union all
    select
        'department:category' as grouping_factor,
        department as parent_level,
        category as level
    from categories
    union all
    select
        'region:customer_id' as grouping_factor,
        regions.region as parent_level,
        customers.customer_id::varchar as level
    from customers
    inner join regions on customers.region_id = regions.region_id
)

select
    outcome,
    parameter,
    grouping_factor,
    null as parent_level,
    null as level,
    term,
    value::double as value
from parameter
union all
select
    parameter.outcome,
    'deviation' as parameter,
    level.grouping_factor,
    level.parent_level,
    level.level,
    parameter.term,
    parameter.value * standard_normal(
        run.seed,
        concat_ws(' ', parameter.outcome, level.grouping_factor, parameter.term),
        level.level
    ) as value
from parameter
inner join level on parameter.grouping_factor = level.grouping_factor
cross join run
where parameter.parameter = 'sd'
