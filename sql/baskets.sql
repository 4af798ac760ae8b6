-- Grain: one row per basket (one visit of one customer to one store) that holds at least one product other than fuel.
-- Inputs: transactions, customers, products (made by `groupwise load-shop`).
-- Units: items in units sold, fuel left out; products in different products; money in US dollars.
with basket as (
    select
        line.basket_id,
        any_value(line.customer_id) as customer_id,
        any_value(line.store_id) as store_id,
        min(line.transaction_ts) as ts,
        count(*) as products,
        sum(line.quantity)::bigint as items,
        sum(line.amount)::decimal(18, 2) as amount
    from transactions as line
    left join products as product on line.product_id = product.product_id
    where not coalesce(product.is_fuel, false)
    group by line.basket_id
)

select
    basket.ts,
    basket.basket_id,
    basket.customer_id,
    basket.store_id,
    basket.products,
    basket.items,
    basket.amount,
    isodow(basket.ts) || ' ' || strftime(basket.ts, '%a') as weekday,
    isodow(basket.ts) >= 6 as is_weekend,
    hour(basket.ts) as hour_of_day,
    customer.income_group,
    customer.age_group,
    customer.household_size,
    customer.household_composition,
    customer.home_ownership,
    customer.marital_status,
    customer.kids
from basket
inner join customers as customer on basket.customer_id = customer.customer_id
