"""The published tables as described: columns, contract, evolution, documentation."""
