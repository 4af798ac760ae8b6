"""The published tables: their columns, their numbers, their documentation."""
