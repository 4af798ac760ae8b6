-- Grain: one row per cell, or per cell and sampled unit, of several partitions together.
-- Inputs: files, the cells of the partitions; cell, what tells cells apart; anchors, one partition's means for each
-- cell; joined, cells joined to their anchors; away, differences from the anchors; columns, keys and sums
-- (groupwise/statistics/sums.py writes all of them).
-- Units: those of the partitions' cells (cell_statistics.sql). Moments are merged about a mean of the cell, so that
-- large numbers cost no digits (Chan, Golub and LeVeque 1983). The files are read twice and not kept: they may hold
-- ten million cells.
with part as not materialized (  -- noqa: ST03
    select * from $files
),

anchor as (  -- noqa: ST03
    select $anchors
    from part
    group by $cell
),

apart as not materialized (  -- noqa: ST03
    select $away
    from $joined
)

select $columns
from apart
group by all
