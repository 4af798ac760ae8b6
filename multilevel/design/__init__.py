"""Formula and cells to a design: columns, grouping factors, what they mean, what is refused, and the rows that engines use."""
