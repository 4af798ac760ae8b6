"""What the checks of users' SQL raise; whoever asked for the check adds the study, the field and the text."""

from __future__ import annotations


class RefusedSqlError(ValueError):
    """A text may not be run; the message is the reason, without a full stop, and says what to write instead."""


def sentence(error: RefusedSqlError) -> str:
    """The reason as the end of a message, on one line whatever the names in it."""
    text = " ".join("".join(character if character.isprintable() else " " for character in str(error)).split())
    return text if text.endswith("?") else f"{text}."
