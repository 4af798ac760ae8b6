-- The standard error of the difference of two levels' coefficients, from the tables of one version's joint distribution
-- (joint/<as_of>/<run_id>/, described in tables.md), for a model of one part without draws. $a and $b name levels of $factor, and
-- $term the coefficient.
with recursive
level_of as (
    select
        grouping_factor,
        place,
        if(level = $a, 1.0, -1.0) as sign
    from 'levels.parquet'
    where grouping_factor = $factor and level in ($a, $b)
),

-- the difference as a sum of coefficients as written
written as (
    select
        unnest(r.places) as place,
        sign * unnest(r."values") as value -- noqa: RF01
    from 'level_rows.parquet' as r
    inner join level_of using (grouping_factor, place)
    where r.term = $term
),

-- blocks of terms that one matrix leads to from their unit-free coefficients; the population's is the first
map_of as (
    select
        0 as first_place,
        len(population) as k,
        population_map as entries
    from 'models.parquet'
    union all
    select
        start,
        len(terms),
        "map"
    from 'blocks.parquet'
),

-- the same as a sum of unit-free coefficients
unit_free as (
    select
        w.place - (w.place - m.first_place) % m.k + t.term as place,
        w.value * m.entries[(w.place - m.first_place) % m.k * m.k + t.term + 1] as value
    from written as w
    asof join map_of as m on w.place >= m.first_place
    cross join (select unnest(range((select max(k) from map_of))) as term) as t
    where t.term < m.k
),

-- every coefficient outside the core is replaced by its regression, until only noise and the core are left
path as (
    select
        place,
        value
    from unit_free
    union all
    select
        unnest(c.given),
        p.value * unnest(c.weights)
    from path as p
    inner join 'coefficients.parquet' as c on p.place = c.place
),

total as (
    select
        place,
        sum(value) as value
    from path
    group by place
),

core as (
    select
        t.value,
        c.covariance,
        c.at
    from (select *, row_number() over (order by place) as at from 'core.parquet') as c
    inner join total as t on c.place = t.place
),

moved as (
    select sum(u.value * c.moved) as by_direction
    from unit_free as u
    inner join (
        select
            place,
            unnest(directions) as moved,
            generate_subscripts(directions, 1) as direction
        from 'coefficients.parquet'
    ) as c on u.place = c.place
    group by c.direction
)

select
    sqrt(
        (
            select sum(t.value * t.value * coalesce(c.variance, 0.0))
            from total as t
            inner join 'coefficients.parquet' as c on t.place = c.place
        )
        + (select sum(x.value * y.value * x.covariance[y.at]) from core as x, core as y)
        + (select coalesce(sum(by_direction * by_direction), 0.0) from moved)
    ) as std_error
