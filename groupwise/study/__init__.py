"""A study: its file, its fields, and what is said where one of them is wrong."""
