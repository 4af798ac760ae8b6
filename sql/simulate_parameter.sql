-- Grain: one row per outcome and true parameter that is not a level's own effect.
-- Units: the link scale of the outcome: log dollars, log-odds of keeping, log units.
create or replace temp table parameter as
with given (outcome, parameter, grouping_factor, term, value) as (
    values
    ('log_amount', 'coefficient', null, 'Intercept', 2.0),
    ('log_amount', 'coefficient', null, 'discount', -0.5),
    ('log_amount', 'coefficient', null, 'channel[pickup]', 0.1),
    ('log_amount', 'coefficient', null, 'channel[store]', 0.2),
    ('log_amount', 'coefficient', null, 'region_income', 0.15),
    ('log_amount', 'sd', 'region', 'Intercept', 0.25),
    ('log_amount', 'sd', 'department', 'Intercept', 0.3),
    ('log_amount', 'sd', 'department', 'discount', 0.2),
    ('log_amount', 'sd', 'department:category', 'Intercept', 0.4),
    ('log_amount', 'sd', 'department:category', 'discount', 0.3),
    ('log_amount', 'sd', 'residual', 'sigma', 0.6),
    ('log_price', 'coefficient', null, 'Intercept', 1.0),
    ('log_price', 'coefficient', null, 'discount', -0.8),
    ('log_price', 'sd', 'region', 'Intercept', 0.2),
    ('log_price', 'sd', 'region:customer_id', 'Intercept', 0.3),
    ('log_price', 'sd', 'department', 'Intercept', 0.25),
    ('log_price', 'sd', 'department:category', 'Intercept', 0.35),
    ('log_price', 'sd', 'residual', 'sigma', 0.5),
    ('is_kept', 'coefficient', null, 'Intercept', 1.2),
    ('is_kept', 'coefficient', null, 'on_sale', -0.4),
    ('is_kept', 'coefficient', null, 'channel[pickup]', 0.2),
    ('is_kept', 'coefficient', null, 'channel[store]', 0.5),
    ('is_kept', 'sd', 'region', 'Intercept', 0.3),
    ('is_kept', 'sd', 'department', 'Intercept', 0.4),
    ('is_kept', 'sd', 'department:category', 'Intercept', 0.5),
    ('quantity', 'coefficient', null, 'Intercept', 0.4),
    ('quantity', 'coefficient', null, 'on_sale', 0.25),
    ('quantity', 'sd', 'region', 'Intercept', 0.15),
    ('quantity', 'sd', 'department', 'Intercept', 0.2),
    ('quantity', 'sd', 'department:category', 'Intercept', 0.25)
)

select * from given
