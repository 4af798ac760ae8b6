"""A model in words and in mathematics."""
