"""Rules on rows, written once as expectations: one scan in DuckDB for the run, Great Expectations for the record."""
