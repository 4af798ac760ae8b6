-- Grain: one row per line item.
-- Units: log_amount in log dollars; log_price in log dollars a unit; discount as a share of the price, 0 to 0.5;
-- quantity in units.
-- Customers and products are drawn with heavy tails: a few are seen all the time, most are seen rarely.
create or replace table line_items as
with drawn as (
    select
        line_item_id,
        timestamp '2025-01-01' + to_microseconds((line_item_id * (31536000000000 / $line_items))::bigint) as ts,
        1 + floor($customers * uniform($seed, 'customer', line_item_id) ** 2)::bigint as customer_id,
        1 + floor($products * uniform($seed, 'product', line_item_id) ** 2)::bigint as product_id,
        uniform($seed, 'channel', line_item_id) as channel_draw,
        uniform($seed, 'sale', line_item_id) as sale_draw,
        uniform($seed, 'depth', line_item_id) as depth_draw,
        uniform($seed, 'kept', line_item_id) as kept_draw,
        uniform($seed, 'quantity', line_item_id) as quantity_draw,
        sqrt(-2 * ln(uniform($seed, 'noise radius', line_item_id))) as noise_radius,
        2 * pi() * uniform($seed, 'noise angle', line_item_id) as noise_angle
    from line_id
),

placed as (
    select
        drawn.*,
        mix.amount,
        mix.amount_discount,
        mix.price + customer_effect.price as price,
        mix.kept,
        case
            when drawn.sale_draw < mix.sale_rate then mix.quantity_on_sale else mix.quantity
        end as quantity_distribution,
        drawn.sale_draw < mix.sale_rate as on_sale,
        case
            when drawn.sale_draw < mix.sale_rate then round(0.05 + 0.45 * drawn.depth_draw, 3) else 0
        end as discount,
        case
            when drawn.channel_draw < 0.2 then 'online'
            when drawn.channel_draw < 0.35 then 'pickup'
            else 'store'
        end as channel
    from drawn
    inner join products on drawn.product_id = products.product_id
    inner join customer_effect on drawn.customer_id = customer_effect.customer_id
    inner join mix on customer_effect.region_id = mix.region_id and products.category_id = mix.category_id
)
,

counted as (
    select
        *,
        len(list_filter(quantity_distribution, lambda below: below < quantity_draw))::integer as quantity
    from placed
)

select
    counted.line_item_id,
    counted.ts,
    counted.customer_id,
    counted.product_id,
    counted.channel,
    counted.on_sale,
    counted.discount,
    counted.amount + counted.amount_discount * counted.discount + channel_effect.amount
    + global_effect.amount_sigma * counted.noise_radius * cos(counted.noise_angle) as log_amount,
    counted.price + global_effect.price_discount * counted.discount
    + global_effect.price_sigma * counted.noise_radius * sin(counted.noise_angle) as log_price,
    counted.kept_draw
    < 1
    / (1 + exp(-counted.kept - channel_effect.kept - global_effect.kept_sale * counted.on_sale::integer)) as is_kept,
    counted.quantity
from counted
inner join channel_effect on counted.channel = channel_effect.channel
cross join global_effect
