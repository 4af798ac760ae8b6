"""Addresses in object storage, ``s3://bucket/prefix``: read and refused here, without a library or a network."""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://?")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PART = re.compile(r"[A-Za-z0-9_=.+-]{1,200}")


@dataclass(frozen=True)
class Address:
    """An object, or everything below a name: ``bucket`` and ``key`` without slashes at its ends; ``key`` is empty for the bucket itself."""

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> Address:
        return Address(self.bucket, f"{self.key}/{name}".strip("/"))

    def as_uri(self) -> str:
        """The same as its text; ``Path`` has a method of this name."""
        return str(self)

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rsplit("/", 1)[-1]


def has_scheme(text: str) -> bool:
    """Whether the text begins like ``s3://``, or like ``s3:/``, its usual misspelling; a folder's path never does."""
    return SCHEME.match(text) is not None


def read_address(text: str) -> Address:
    """The address that a text such as ``s3://bucket/prefix`` names.

    Raises
    ------
    ValueError
        Another scheme, a bucket that cannot be one, ``..`` or characters that mean something else in an address or a query.
    """
    if not text.startswith("s3://"):
        scheme = text.split(":", 1)[0]
        raise ValueError(f"{scheme}: is not supported; write a folder, or s3://bucket/prefix")
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if "@" in text or ":" in bucket:
        raise ValueError("write s3://bucket/prefix without credentials; they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ValueError(f"bucket {bucket!r}: a bucket's name has 3 to 63 lower-case letters, digits, hyphens and dots")
    parts = prefix.rstrip("/").split("/") if prefix.rstrip("/") else []
    wrong = [part for part in parts if not PART.fullmatch(part) or part.strip(".") == ""]
    if wrong:
        raise ValueError(f"{wrong[0]!r} in the prefix: write letters, digits, - _ . = + between the slashes, and no '..'")
    return Address(bucket, "/".join(parts))
