"""Expectation suites, one JSON file a table; read as package data so that an installed wheel has them too."""

from importlib.resources import files


def read_suite(name: str) -> str:
    """Text of ``expectations/<name>.json``."""
    return (files(__name__) / f"{name}.json").read_text(encoding="utf-8")
