"""Tables without the groups of too few people, and without what would give those away."""
