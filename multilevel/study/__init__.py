"""A study from cells to everything that is published of it."""
