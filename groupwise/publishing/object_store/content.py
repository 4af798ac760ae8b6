"""An object as a store gives it: its bytes, by what it is known there, and what a listing says of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

type Mode = str | dict[str, str]


@dataclass(frozen=True)
class Tag:
    """By what a store knows an object's content: an entity tag, a version (Google's generation), or both."""

    e_tag: str | None
    version: str | None = None

    @property
    def mode(self) -> Mode:
        """How a write says that it replaces this content, and no other."""
        return {name: value for name, value in (("e_tag", self.e_tag), ("version", self.version)) if value is not None}


# The content of no object: an entity tag and a generation that no store has given yet.
NO_CONTENT = Tag(f'"{"0" * 32}"', "1")


@dataclass(frozen=True)
class Content:
    """An object's bytes, and the tag by which the store knows this content."""

    data: bytes
    tag: Tag


@dataclass(frozen=True)
class Stored:
    """An object in a listing: its size in bytes, and when it was written by the store's clock."""

    size: int
    modified: datetime
