"""Other intervals than Wald's: profile likelihood and parametric bootstrap."""
