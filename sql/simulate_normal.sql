-- A macro: a standard normal number that depends on the seed, the name of a stream and an id (Box and Muller 1958).
create or replace temp macro standard_normal(seed, stream, id) as
sqrt(-2 * ln(uniform(seed, stream || ' radius', id))) * cos(2 * pi() * uniform(seed, stream || ' angle', id))
