-- Grain: one row for the whole study.
-- Inputs: study_rows, the study's rows; facts, what the formula needs to know of them before cells can be planned.
-- Units: counts in rows or distinct values (approximate: they only decide what joins the key); means and sample sds in
-- units of their expression.
with study as (
    select * from $study_rows
)

select
    count(*) as n_rows,
    $facts
from study
