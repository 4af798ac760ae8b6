"""A formula as one query: line items in, cell statistics out."""
