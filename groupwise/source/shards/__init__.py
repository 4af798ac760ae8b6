"""Parquet files as one table: types widened by name where nothing is lost, or refused with the files and types named."""
