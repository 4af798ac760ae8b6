"""JSON files that carry the checksum of their own text, so that a changed bit in a pointer or a manifest is noticed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

SEAL = "self_sha256"
ENDING = re.compile(rb'(?P<name>"self_sha256": ")(?P<digest>[0-9a-f]{64})(?P<end>"\n\})')
SEALED_SINCE = (1, 1)
"""First schema of pointers and manifests that carry a seal."""


class DamagedError(ValueError):
    """The text is not what was written."""


def sealed(content: Mapping[str, Any]) -> str:
    """``content`` as JSON text whose last field, ``self_sha256``, is the digest of the text with that field's value left empty."""
    plain = json.dumps({**content, SEAL: ""}, indent=1, default=str)
    digest = hashlib.sha256(plain.encode()).hexdigest()
    return plain.removesuffix('"\n}') + f'{digest}"\n}}'


def unsealed(text: bytes) -> dict[str, Any]:
    """The content of a sealed text, or of one written before texts were sealed, without the seal.

    Raises
    ------
    DamagedError : no JSON mapping, or a seal that is not the text's.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError("it is no JSON") from error
    if not isinstance(content, dict):
        raise DamagedError("it is no JSON mapping")
    if (SEAL in content or _must_be_sealed(content)) and not _is_whole(text):
        raise DamagedError(f"its checksum ({SEAL}) is not that of its text: it was changed by hand, or its disk is damaged")
    return {name: value for name, value in content.items() if name != SEAL}


def _must_be_sealed(content: Mapping[str, Any]) -> bool:
    found = re.match(r"(\d{1,9})[.](\d{1,9})[.]", str(content.get("schema")))
    return found is not None and (int(found[1]), int(found[2])) >= SEALED_SINCE


def _is_whole(text: bytes) -> bool:
    found = ENDING.fullmatch(text[-(len(SEAL) + 5 + 64 + 3) :])
    if found is None:
        return False
    plain = text[: -len(found["digest"] + found["end"])] + found["end"]
    return hashlib.sha256(plain).hexdigest().encode() == found["digest"]
