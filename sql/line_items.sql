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
    product.is_private_label::int as store_brand,
    coalesce(product.is_fuel, false) as is_fuel,
    coalesce(category_brand.has_brand_choice, false) as has_brand_choice,
    customer.income_group,
    -- thousands of dollars a year: the middle of the band, 10 and 300 for the open ones
    case customer.income_group
        when 'Under 15K' then 10.0
        when '15-24K' then 20.0
        when '25-34K' then 30.0
        when '35-49K' then 42.5
        when '50-74K' then 62.5
        when '75-99K' then 87.5
        when '100-124K' then 112.5
        when '125-149K' then 137.5
        when '150-174K' then 162.5
        when '175-199K' then 187.5
        when '200-249K' then 225.0
        when '250K+' then 300.0
    end::double as income,
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
