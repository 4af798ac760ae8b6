"""The measured part of docs/calibration.md."""

import json
from pathlib import Path

from benchmarks._calibration_page import entry_of, few_groups_table, outside


def test_coverage_of_few_groups_has_the_lowest_and_highest_of_five_sets_of_shops(tmp_path: Path) -> None:
    row = {"kind": "contrast", "is_few": False, "covered": 0.9, "error": 0.01, "width": 2.0}
    entry = {
        "design": "d",
        "engine": "likelihood",
        "shops": 10,
        "refused": 0,
        "rows": [row],
        "date": "2026-01-01",
        "commit": "c",
        "machine": "m",
    }
    file = tmp_path / "few-groups-d-likelihood.json"
    file.write_text(json.dumps(entry), encoding="utf-8")
    table = few_groups_table([entry_of(file)])
    assert "| d | contrast | 90.0 ± 1.0 |  | 2 |  |  |" in table
    assert "| all of these | contrast | 90.0 ± 1.0 |  |  |  |  |" in table
    # the first shop holds one of two, the last none; a run that was refused has no intervals; the last line of a seed counts,
    # and none of another commit
    held = {0: [True, False], 9: [False]}
    lines: list[tuple[int, object]] = [(0, [["contrast", False, False, 2.0]])]
    lines += [(seed, [["contrast", False, own, 2.0] for own in held.get(seed, [True])]) for seed in range(10)]
    lines.append((4, None))
    text = "".join(json.dumps({"seed": seed, "commit": "c", "found": found}) + "\n" for seed, found in lines)
    text += json.dumps({"seed": 9, "commit": "other", "found": [["contrast", False, True, 2.0]]}) + "\n"
    file.with_suffix(".lines").write_text(text, encoding="utf-8")
    assert "| d | contrast | 90.0 ± 1.0 (50.0 to 100.0) |" in few_groups_table([entry_of(file)])


def test_coverage_is_outside_where_two_errors_do_not_reach_what_is_asked() -> None:
    row = {"kind": "contrast", "is_few": False, "covered": 0.90, "error": 0.01, "width": 1.0}
    assert not outside(row, 200)
    assert outside(row | {"covered": 0.899}, 200)
    assert outside(row | {"covered": 0.98, "error": 0.004}, 200)
    assert not outside(row | {"covered": 0.98, "error": 0.004, "is_few": True}, 200)
    # of 200 shops with 99.5 % a third have no miss, of 5,000 none
    assert not outside(row | {"covered": 1.0, "error": 0.0, "is_few": True}, 200)
    assert outside(row | {"covered": 1.0, "error": 0.0, "is_few": True}, 5_000)
