-- A macro: the distribution function of Poisson(mu) at 0, 1, 2, ..., as a list that ends where nothing is left.
-- A uniform number is turned into a Poisson count by counting how many of these lie below it.
create or replace temp macro poisson_distribution(mu) as
list_transform(
    range((10 + mu + 10 * sqrt(mu))::bigint),
    lambda top: list_sum(list_transform(range(top + 1), lambda k: exp(k * ln(mu) - mu - lgamma(k + 1))))
)
