-- Grain: one row: what is the same for every line item. Units: the link scale of each outcome.
create or replace temp table global_effect as
select
    max(value) filter (outcome = 'log_amount' and term = 'sigma') as amount_sigma,
    max(value) filter (outcome = 'log_price' and term = 'sigma') as price_sigma,
    max(value) filter (outcome = 'log_price' and term = 'discount') as price_discount,
    max(value) filter (outcome = 'is_kept' and term = 'on_sale') as kept_sale
from truth
where level is null
