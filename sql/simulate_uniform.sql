-- A macro: a number strictly between 0 and 1 that depends on nothing but the seed, the name of a stream and an id.
-- Hashed twice: hash(a, b) only combines the hashes of a and b, so that two streams of one id would be correlated.
create or replace temp macro uniform(seed, stream, id) as
((hash(hash(seed, stream, id)) >> 11)::double + 0.5) / 9007199254740992.0
