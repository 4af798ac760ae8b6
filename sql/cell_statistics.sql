-- Grain: one row per cell: one combination of grouping levels and of the predictors that the key fixes.
-- Inputs: study_rows, the study's rows after window, where, missing values and quarantine; relation and cells, those
-- rows and the cells with level means joined on where within() or between() need them
-- (groupwise/compression/cell_query.py writes both).
-- Units: n in rows; total in units of the outcome; size in trials (binomial), exposure (poisson), else rows;
-- mean.i in units of feature i or, last, of the outcome on its formula's scale less its offset; cross.i.j in products
-- of those units, summed over rows about the cell's own means, so that large numbers cost no digits; once.* in nats.
-- Levels become text last: grouping by the columns as they are stored is faster. The linter cannot see that relation
-- begins with study, values with input, and cells with cell. What is read twice is not kept: it may be a billion rows.
with study as not materialized (  -- noqa: ST03
    select * from $study_rows
),

input as not materialized (  -- noqa: ST03
    select $inputs
    from $relation
),

cell as (  -- noqa: ST03
    select $statistics
    from $values
    group by all
)

select $columns
from $cells
