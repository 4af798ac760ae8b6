"""Families of outcomes: one file each, with all that is particular to it, and a registry by which the rest of the project asks for them."""
