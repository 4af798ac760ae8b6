"""The bayesian engine: the collapsed form for gaussian outcomes, whitened NUTS for the others."""
