-- Grain: one row per line item of a simulated shop.
-- Inputs: line_items, customers, regions, products, categories (made by `groupwise simulate`).
-- Units: amount in dollars, log_amount in log dollars; unit_price in dollars a unit, log_price in its logarithm;
-- discount as a share of the price, 0 to 0.5; quantity in units; region_income in standard deviations from the mean.
select
    line.line_item_id,
    line.ts,
    line.customer_id,
    line.product_id,
    regions.region,
    regions.region_income,
    categories.department,
    categories.category,
    line.channel,
    line.on_sale,
    line.discount,
    line.log_amount,
    exp(line.log_amount) as amount,
    line.log_price,
    exp(line.log_price) as unit_price,
    line.is_kept,
    line.quantity
from line_items as line
inner join customers on line.customer_id = customers.customer_id
inner join regions on customers.region_id = regions.region_id
inner join products on line.product_id = products.product_id
inner join categories on products.category_id = categories.category_id
