"""A stopped lane goes on where it was, with its own code's shops only."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import shop_by_shop as module
from tests.shop_by_shop import shop_by_shop


def test_shops_of_the_same_code_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, measured = tmp_path / "shops.lines", []

    def measure(seed: int) -> tuple[int, float]:
        measured.append(seed)
        if seed == 3:
            raise KeyboardInterrupt
        return seed, 0.5

    monkeypatch.setattr(module, "code_of", lambda sources: "0a1b2c3")
    with pytest.raises(KeyboardInterrupt):
        shop_by_shop(kept, 5, measure)
    assert shop_by_shop(kept, 3, measure) == [[0, 0.5], [1, 0.5], [2, 0.5]]
    assert measured == [0, 1, 2, 3]
    monkeypatch.setattr(module, "code_of", lambda sources: "4d5e6f7")
    shop_by_shop(kept, 2, measure)
    assert measured == [0, 1, 2, 3, 0, 1]


def test_a_line_that_a_kill_cut_off_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "shops.lines"
    monkeypatch.setattr(module, "code_of", lambda sources: "0a1b2c3")
    shop_by_shop(kept, 2, lambda seed: seed)
    kept.write_text(kept.read_text()[:-10])
    assert shop_by_shop(kept, 2, lambda seed: seed + 10) == [0, 11]
    assert shop_by_shop(kept, 2, lambda seed: seed + 20) == [0, 11]


def test_changed_files_have_no_shops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "code_of", lambda sources: None)
    assert shop_by_shop(tmp_path / "shops.lines", 1, lambda seed: seed) == [0]
    assert shop_by_shop(tmp_path / "shops.lines", 1, lambda seed: seed + 1) == [1]


def test_code_is_that_of_its_sources_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    def committed(name: str, text: str) -> str | None:
        (tmp_path / name).write_text(text)
        git("add", ".")
        git("commit", "-m", name)
        return module.code_of(["model.py", "shops"])

    git("init")
    (tmp_path / "shops").mkdir()
    (tmp_path / "model.py").write_text("1")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    first = committed("shops/simulate.py", "1")
    assert first is not None
    assert committed("page.md", "1") == first
    assert committed("shops/simulate.py", "2") not in (first, None)
    (tmp_path / "model.py").write_text("2")
    assert module.code_of(["model.py", "shops"]) is None
