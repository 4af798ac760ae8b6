"""Linear mixed models from cross-products: Gram blocks, blocked Cholesky, (RE)ML criteria."""
