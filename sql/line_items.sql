-- Grain: one row per line item (one product in one basket).
-- Inputs: transactions, customers, products (made by `groupwise load-shop`).
-- Units: money in US dollars; quantity in units, for fuel in thousandths of a gallon.
-- Edit this file to map another warehouse to the pipeline: every column below is a name that a study may use.
-- Lines of products that the catalogue does not list, or lists without a category, have null in category_key.
with line as (
    select * from transactions
),

customer as (
    select * from customers
),

product as (
    select * from products
),

category_brand as (
    -- a shopper can choose between store brand and national brand only where a category has both
    select
        category_key,
        bool_or(is_private_label) and bool_or(not is_private_label) as has_brand_choice
    from product
    where category_key is not null
    group by category_key
)

select
    line.transaction_ts as ts,
    line.customer_id,
    line.basket_id,
    line.product_id,
    line.store_id,
    line.week,
    line.quantity,
    line.amount,
    line.retail_discount,
    line.coupon_discount,
    line.coupon_match_discount,
    line.retail_discount > 0 as on_sale,
    line.coupon_discount > 0 as coupon,
    -- depth of the discount as a share of the shelf price, 0 to 1; 0 where nothing was taken off
    case
        when line.retail_discount > 0
            then
                line.retail_discount::double
                / (line.amount + line.retail_discount + line.coupon_match_discount)::double
        else 0
    end as discount_depth,
    product.is_private_label,
    coalesce(product.is_fuel, false) as is_fuel,
    coalesce(category_brand.has_brand_choice, false) as has_brand_choice,
    customer.income_group,
    customer.age_group,
    customer.household_size,
    customer.household_composition,
    customer.home_ownership,
    customer.marital_status,
    customer.kids,
    product.department,
    product.category,
    product.category_key,
    product.product_type,
    product.manufacturer_id
from line
inner join customer on line.customer_id = customer.customer_id
left join product on line.product_id = product.product_id
left join category_brand on product.category_key = category_brand.category_key
