"""Generalised linear mixed models over cells: families, PIRLS, Laplace, adaptive quadrature."""
