-- Grain: one row per customer, calendar month in which the customer bought anything, and department.
-- Inputs: transactions, customers, products (made by `groupwise load-shop`).
-- Units: spend in US dollars, 0 where nothing was bought there; fuel left out, and the last month if it is not whole.
with line as (
    select
        line.customer_id,
        last_day(line.transaction_ts) as month_end,
        product.department,
        line.amount
    from transactions as line
    inner join products as product on line.product_id = product.product_id
    where
        not product.is_fuel
        and last_day(line.transaction_ts) <= (select max(every.transaction_ts)::date from transactions as every)
),

customer_month as (
    select distinct
        customer_id,
        month_end
    from line
),

department as (
    select distinct department
    from line
),

bought as (
    select
        customer_id,
        month_end,
        department,
        sum(amount)::decimal(18, 2) as spend
    from line
    group by customer_id, month_end, department
)

select
    customer_month.month_end as ts,
    customer_month.customer_id,
    department.department,
    coalesce(bought.spend, 0)::decimal(18, 2) as spend,
    customer.income_group,
    customer.age_group,
    customer.household_size,
    customer.household_composition
from customer_month
cross join department
inner join customers as customer on customer_month.customer_id = customer.customer_id
left join bought
    on
        customer_month.customer_id = bought.customer_id
        and customer_month.month_end = bought.month_end
        and department.department = bought.department
