"""Addresses in object storage, such as ``s3://bucket/prefix``: read and refused here, without a library or a network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://?")
PART = re.compile(r"[A-Za-z0-9_=.+-]{1,200}")


@dataclass(frozen=True)
class Scheme:
    """A kind of object store in its addresses and in messages; ``object_store/clients.py`` connects to it."""

    bucket: re.Pattern[str]
    rule: str
    credentials: str
    login: str
    endpoint: str
    duckdb: str
    noun: str = "bucket"


SCHEMES = {
    "s3": Scheme(
        bucket=re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
        rule="has 3 to 63 lower-case letters, digits, hyphens and dots",
        credentials="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        login="a profile (AWS_PROFILE)",
        endpoint="AWS_ENDPOINT_URL",
        duckdb="install httpfs; load httpfs; create secret (type s3, provider credential_chain);",
    ),
    "gs": Scheme(
        bucket=re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
        rule="has 3 to 222 lower-case letters, digits, hyphens, underscores and dots",
        credentials="GOOGLE_APPLICATION_CREDENTIALS",
        login="gcloud auth application-default login",
        endpoint="GOOGLE_BASE_URL",
        duckdb="install httpfs; load httpfs; create secret (type gcs, key_id '...', secret '...');",
    ),
    "az": Scheme(
        bucket=re.compile(r"(?=.{3,63}$)[a-z0-9](?:-?[a-z0-9])+"),
        rule="has 3 to 63 lower-case letters, digits and single hyphens",
        credentials="AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        login="az login (AZURE_USE_AZURE_CLI=true)",
        endpoint="AZURE_STORAGE_ENDPOINT",
        duckdb="install azure; load azure; create secret (type azure, provider credential_chain, account_name '...');",
        noun="container",
    ),
}


@dataclass(frozen=True)
class Address:
    """An object, or everything below a name: ``bucket`` and ``key`` without slashes at its ends; ``key`` is empty for the bucket itself."""

    bucket: str
    key: str = ""
    scheme: str = "s3"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> Address:
        return Address(self.bucket, f"{self.key}/{name}".strip("/"), self.scheme)

    def as_uri(self) -> str:
        """The same as its text; ``Path`` has a method of this name."""
        return str(self)

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rsplit("/", 1)[-1]

    @property
    def kind(self) -> Scheme:
        """What its scheme stands for."""
        return SCHEMES[self.scheme]


def has_scheme(text: str) -> bool:
    """Whether the text begins like ``s3://``, or like ``s3:/``, its usual misspelling; a folder's path never does."""
    return ANY_SCHEME.match(text) is not None


def read_address(text: str) -> Address:
    """The address that a text such as ``s3://bucket/prefix`` names.

    Raises
    ------
    ValueError
        Another scheme, a bucket that cannot be one, ``..`` or characters that mean something else in an address or a query.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"{name}://{kind.noun}/prefix" for name, kind in SCHEMES.items())
        raise ValueError(f"{text.split(':', 1)[0]}: is not supported; write a folder, or {known}")
    kind = SCHEMES[scheme]
    bucket, _, prefix = rest.partition("/")
    if "@" in text or ":" in bucket:
        raise ValueError(f"write {scheme}://{kind.noun}/prefix without credentials; they come from {kind.credentials}")
    if not kind.bucket.fullmatch(bucket) or ".." in bucket:
        raise ValueError(f"{kind.noun} {bucket!r}: a {kind.noun}'s name {kind.rule}")
    parts = prefix.rstrip("/").split("/") if prefix.rstrip("/") else []
    wrong = [part for part in parts if not PART.fullmatch(part) or part.strip(".") == ""]
    if wrong:
        raise ValueError(f"{wrong[0]!r} in the prefix: write letters, digits, - _ . = + between the slashes, and no '..'")
    return Address(bucket, "/".join(parts), scheme)


def plain_place(text: str) -> str:
    """A folder, or an address in its shortest form, as a study names where it writes. Raises ValueError for a path with ``..``."""
    if has_scheme(text):
        return str(read_address(text))
    if "\0" in text or ".." in Path(text).parts:
        raise ValueError("write a folder below the working directory or an absolute path, without '..'")
    return text
