"""What disks, folders, memory and libraries refuse is told in the family's words; a fault of the program is called one."""

from __future__ import annotations

import errno
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from groupwise.commands import command_line
from groupwise.faults import as_ours, told
from groupwise.run_folder import make_run_folder
from multilevel.errors import DataError, FitError, GroupwiseError, ResourceError, StudyError


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), ResourceError, "a/b: No space left on device; free some room"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), ResourceError, "let this user read and write there"),
        (OSError(errno.EROFS, "Read-only file system", "a"), ResourceError, "mount it so that it can be written to"),
        (OSError("cannot say"), ResourceError, "cannot say; look at this file or folder"),
        (MemoryError(), ResourceError, "not enough memory"),
        (duckdb.OutOfMemoryException("Out of Memory Error: x"), ResourceError, "not enough memory"),
        (duckdb.IOException("IO Error: x"), ResourceError, "the disk has room"),
        (duckdb.ConversionException("Conversion Error: x"), DataError, "leave such rows out"),
        (pa.ArrowInvalid("not a parquet file"), DataError, "a table cannot be read or written"),
        (np.linalg.LinAlgError("Singular matrix"), FitError, "far out of scale"),
        (ValueError("array must not contain infs or NaNs"), FitError, "far out of scale"),
        (OverflowError("too large"), FitError, "far out of scale"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), DataError, "not valid Unicode"),
    ],
)
def test_each_is_of_the_family_and_says_what_to_do(error: Exception, kind: type[GroupwiseError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught, told("the step failed"):
        raise error
    assert str(caught.value).startswith("the step failed: ")
    assert caught.value.__cause__ is error


def test_errors_of_ours_and_faults_of_the_program_pass_as_they_are() -> None:
    for error in (StudyError("ours"), KeyError("a fault"), TypeError("a fault"), TimeoutError("of a step")):
        with pytest.raises(type(error)) as caught, told("the step failed"):
            raise error
        assert caught.value is error
    assert as_ours(KeyError("a fault")) is None


def test_a_file_in_place_of_the_runs_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".groupwise").write_text("a file")
    with pytest.raises(ResourceError, match=r"the run's folder .groupwise/runs/r1 cannot be made: .*move it away"):
        make_run_folder("r1")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StudyError("ours"), "groupwise: ours"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), "groupwise: a: No space left on device; free some room on that disk."),
        (KeyError("x"), "groupwise: a fault in groupwise: KeyError: 'x'\nPlease report it, with the command, the study and the log."),
    ],
)
def test_no_message_of_the_command_is_a_bare_exception(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "app", fail)
    assert command_line._run() == 1
    assert capsys.readouterr().err.strip() == message


def test_a_plain_runtime_error_is_prefects_where_prefect_raises_it_and_a_fault_elsewhere() -> None:
    with pytest.raises(RuntimeError) as raised:
        exec(compile("raise RuntimeError('Failed to reach API')", "server.py", "exec"), {"__name__": "prefect.client"})
    assert "Prefect, which runs the steps, failed: RuntimeError: Failed to reach API" in str(as_ours(raised.value))
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError("ours")
    assert as_ours(raised.value) is None
