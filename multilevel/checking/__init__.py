"""Which model, and whether it fits: comparisons, cross-validation, predictive checks."""
