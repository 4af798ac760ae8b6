"""The ``groupwise`` command in the process of the test."""

from __future__ import annotations

import logging
import sys

import pytest

from groupwise.commands import command_line


def run_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``groupwise`` with ``arguments``, in the working directory."""
    monkeypatch.setattr(sys, "argv", ["groupwise", *arguments])
    capfd.readouterr()
    own = logging.getLogger("groupwise")
    before = own.handlers[:]
    code = command_line._run()
    # a process that ends takes its handlers along; here the next run would write to this one's closed console
    for handler in [added for added in own.handlers if added not in before]:
        own.removeHandler(handler)
        handler.close()
    out, err = capfd.readouterr()
    return code, out, err
