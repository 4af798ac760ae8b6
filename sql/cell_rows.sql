-- Grain: one row per sampled line item.
-- Inputs: study_sample, a repeatable reservoir sample of the study's rows; columns, those that the formula names.
-- Units: as in the study's rows. The sample is for plots of residuals; nothing is estimated from it.
select $columns
from $study_sample
