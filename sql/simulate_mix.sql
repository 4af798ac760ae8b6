-- Grain: one row per region and category: everything in an outcome's linear predictor that the pair fixes.
-- Units: the link scale of each outcome; for quantity the Poisson distribution itself, with and without a sale.
create or replace temp table mix as
with coefficient as (
    select
        max(value) filter (outcome = 'log_amount' and term = 'Intercept') as amount_intercept,
        max(value) filter (outcome = 'log_amount' and term = 'discount') as amount_discount,
        max(value) filter (outcome = 'log_amount' and term = 'region_income') as amount_income,
        max(value) filter (outcome = 'log_price' and term = 'Intercept') as price_intercept,
        max(value) filter (outcome = 'is_kept' and term = 'Intercept') as kept_intercept,
        max(value) filter (outcome = 'quantity' and term = 'Intercept') as quantity_intercept,
        max(value) filter (outcome = 'quantity' and term = 'on_sale') as quantity_sale
    from truth
    where parameter = 'coefficient'
),

effect as (
    select
        grouping_factor,
        level,
        coalesce(sum(value) filter (outcome = 'log_amount' and term = 'Intercept'), 0) as amount,
        coalesce(sum(value) filter (outcome = 'log_amount' and term = 'discount'), 0) as amount_discount,
        coalesce(sum(value) filter (outcome = 'log_price' and term = 'Intercept'), 0) as price,
        coalesce(sum(value) filter (outcome = 'is_kept' and term = 'Intercept'), 0) as kept,
        coalesce(sum(value) filter (outcome = 'quantity' and term = 'Intercept'), 0) as quantity
    from truth
    where parameter = 'deviation' and grouping_factor != 'region:customer_id'
    group by grouping_factor, level
)

select
    regions.region_id,
    categories.category_id,
    categories.sale_rate,
    coefficient.amount_intercept + coefficient.amount_income * regions.region_income
    + region.amount + department.amount + category.amount as amount,
    coefficient.amount_discount + department.amount_discount + category.amount_discount as amount_discount,
    coefficient.price_intercept + region.price + department.price + category.price as price,
    coefficient.kept_intercept + region.kept + department.kept + category.kept as kept,
    poisson_distribution(
        exp(coefficient.quantity_intercept + region.quantity + department.quantity + category.quantity)
    ) as quantity,
    poisson_distribution(
        exp(
            coefficient.quantity_intercept + coefficient.quantity_sale
            + region.quantity + department.quantity + category.quantity
        )
    ) as quantity_on_sale
from regions
cross join categories
cross join coefficient
inner join effect as region on regions.region = region.level and region.grouping_factor = 'region'
inner join effect as department
    on categories.department = department.level and department.grouping_factor = 'department'
inner join effect as category
    on categories.category = category.level and category.grouping_factor = 'department:category'
