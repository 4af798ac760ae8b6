-- Grain: one row per customer: the region and the customer's own effect on log_price, in log dollars a unit.
create or replace temp table customer_effect as
select
    customers.customer_id,
    customers.region_id,
    truth.value as price
from customers
inner join truth
    on
        customers.customer_id::varchar = truth.level
        and truth.outcome = 'log_price'
        and truth.grouping_factor = 'region:customer_id'
        and truth.parameter = 'deviation'
