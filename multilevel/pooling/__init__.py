"""The two extremes beside partial pooling: all groups together, and each group by itself."""
