"""Sources that are text: CSV, whose columns have no types of their own, and JSON."""
