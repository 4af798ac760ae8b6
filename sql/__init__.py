"""The queries, one statement a file; read as package data so that an installed wheel has them too."""

from importlib.resources import files


def read_query(name: str) -> str:
    """Text of ``sql/<name>.sql``."""
    return (files(__name__) / f"{name}.sql").read_text(encoding="utf-8")
