"""Formulas in lme4's language: parsed, never evaluated."""
