"""SQL that users write: what may stand in it, read by DuckDB's own parser before anything is run."""
