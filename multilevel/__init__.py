"""The statistics: formulas, sufficient statistics, families, engines, pooling and interpretation.

Knows nothing of Prefect, DuckDB or Great Expectations: it reads cell statistics and returns estimates.
"""
