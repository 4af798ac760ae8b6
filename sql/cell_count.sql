-- Grain: one row: how many cells there would be.
-- Inputs: study_rows, the study's rows; keys, what they would be grouped by.
-- Units: n_cells in cells, exact.
with study as (
    select * from $study_rows
),

cell as (
    select distinct $keys
    from study
)

select count(*) as n_cells
from cell
