"""The folder of a command's working files, which leaves nothing behind however the command ends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groupwise.supervision.news import tell


@contextmanager
def working_folder(command: str) -> Iterator[Path]:
    """A temporary folder, removed after the block, or by the supervisor where the command is killed."""
    with tempfile.TemporaryDirectory(prefix=f"groupwise-{command}-") as folder:
        tell(temporary=folder)
        yield Path(folder)
