-- Grain: one row per distinct value of the outcome.
-- Inputs: study_rows, the study's rows; response, the expression that is explained.
-- Units: outcome in its own units, n in rows.
with study as (
    select * from $study_rows
)

select
    $response as outcome,
    count(*) as n
from study
group by all
order by outcome
