"""Write the measured part of docs/calibration.md from what ``make calibration`` and ``python -m benchmarks seeds`` left behind.

Run: ``python -m benchmarks._calibration_page`` (the end of ``make calibration``). A table without new figures stays as it is on the page.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FIGURES = Path(".groupwise") / "calibration"
PAGE = Path("docs") / "calibration.md"

SETS = 5
"""Sets of seeds, of which the lowest and the highest coverage are printed."""

type Entry = Mapping[str, Any]

ENGINES = ("likelihood", "bayesian")


def main() -> None:
    """Replace every table whose figures are there."""
    text = PAGE.read_text(encoding="utf-8")
    for name, pattern, table in TABLES:
        files = sorted(FIGURES.glob(pattern))
        if files:
            text = replace_table(text, name, table([entry_of(file) for file in files]))
            print(f"{PAGE}: {name} from {len(files)} files")
    PAGE.write_text(text, encoding="utf-8")


def entry_of(file: Path) -> Any:
    """A lane's figures; beside a file of its shops, one a line, with the coverage of five sets of shops."""
    entry, shops = json.loads(file.read_text(encoding="utf-8")), file.with_suffix(".lines")
    if shops.exists() and isinstance(entry, dict) and "rows" in entry:
        lines = map(json.loads, shops.read_text(encoding="utf-8").splitlines())
        found = {line["seed"]: line["found"] for line in lines if line["commit"] == entry["commit"]}
        for row in entry["rows"]:
            row["sets"] = sets_of_shops(found, entry["shops"], row["kind"], row["is_few"])
    return entry


def sets_of_shops(found: Mapping[int, Any], shops: int, kind: str, is_few: bool) -> list[float]:
    """Coverage of one kind of interval in each of ``SETS`` sets of consecutive seeds; ``found`` has every shop's intervals by its seed,
    None where the run was refused."""
    size = max(1, shops // SETS)
    sets: list[list[float]] = [[] for _ in range(SETS)]
    for seed, intervals in found.items():
        covers = [is_inside for name, few, is_inside, _ in intervals or () if name == kind and few == is_few]
        if covers and seed < SETS * size:
            sets[seed // size].append(sum(covers) / len(covers))
    return [sum(one) / len(one) for one in sets if one]


def replace_table(text: str, name: str, table: str) -> str:
    """The page with ``table`` between the markers of ``name``."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{PAGE} has no place for {name}")
    return pattern.sub(lambda found: f"{found[1]}{table}{found[2]}", text)


def rank_table(entries: Sequence[Entry]) -> str:
    """Simulation-based calibration, a row for each family and shape."""
    rows = [
        (
            entry["family"],
            entry["shape"],
            f"{entry['simulations']:,}",
            str(entry["quantities"]),
            f"{entry['smallest_p']:.3f} ({entry['of']})",
            f"{0.005 / entry['quantities']:.5f}",
            f"{entry['log_likelihood_p']:.2f}",
        )
        for entry in entries
    ]
    return markdown(("family", "shape", "simulations", "quantities", "smallest p", "refused below", "p of the log-likelihood"), rows)


def coverage_table(entries: Sequence[Sequence[Entry]]) -> str:
    """Coverage, a row for each table and size of group, a column for each interval."""
    found: dict[tuple[str, str], dict[float, Entry]] = {}
    for row in (row for entry in entries for row in entry):
        found.setdefault((row["table"], row["size"]), {})[row["interval"]] = row
    rows = []
    for (table, size), by_interval in sorted(found.items()):
        first = next(iter(by_interval.values()))
        shares = [
            f"{100 * by_interval[interval]['covered']:.1f} ± {100 * by_interval[interval]['error']:.1f}" for interval in (0.5, 0.8, 0.95)
        ]
        rows.append((table, size, f"{first['shops']:,}", f"{first['intervals']:,}", *shares))
    return markdown(("table", "groups", "shops", "intervals", "50 %", "80 %", "95 %"), rows)


def dependence_table(entries: Sequence[Entry]) -> str:
    """What design effects see and what they take for one, a row for each kind of outcome."""
    rows = [
        (
            entry["kind"],
            f"{entry['design_effect']:.2f}",
            f"{entry['seen']} of {entry['shops']}",
            f"{entry['false_alarms']} of {entry['independent']}",
            entry["date"],
            entry["commit"],
            entry["machine"],
        )
        for entry in entries
    ]
    return markdown(("outcome", "true design effect (median)", "seen", "false alarms", "date", "commit", "machine"), rows)


ASKED, ASKED_OF_FEW = (0.92, 0.97), (0.92, 0.995)
"""Coverage of nominal 95 %, of factors with ten levels or more, and with fewer."""


def outside(row: Entry, shops: int) -> bool:
    """Whether coverage is beyond what is asked for, by more than two Monte Carlo errors; where all shops are alike, by two errors that so
    many shops have at the bound."""
    low, high = ASKED_OF_FEW if row["is_few"] else ASKED
    below, above = (row["error"] or math.sqrt(bound * (1.0 - bound) / shops) for bound in (low, high))
    return bool(row["covered"] + 2 * below < low or row["covered"] - 2 * above > high)


def few_groups_table(entries: Sequence[Entry]) -> str:
    """Coverage of nominal 95 % with few or small groups: a row for each design and kind of interval, a column for each engine; at the end
    each kind's average over the designs."""
    found: dict[tuple[str, str, bool], dict[str, Entry]] = {}
    oracle: dict[tuple[str, bool], str] = {}
    for entry in entries:
        for row in entry["rows"]:
            if row["kind"] == "oracle":
                oracle[entry["design"], row["is_few"]] = f"{row['width']:.3g}"
            else:
                own = {**row, "outside": outside(row, entry["shops"])}
                found.setdefault((entry["design"], row["kind"], row["is_few"]), {})[entry["engine"]] = own
    rows = []
    for (design, kind, is_few), by_engine in found.items():
        covered = [_covered(by_engine.get(engine)) for engine in ENGINES]
        widths = [f"{by_engine[engine]['width']:.3g}" if engine in by_engine else "" for engine in ENGINES]
        known = oracle.get((design, is_few), "") if kind == "group estimate" else ""
        rows.append((design, f"{kind}, fewer than 10 levels" if is_few else kind, *covered, *widths, known))
    for kind, is_few in sorted({(kind, is_few) for _, kind, is_few in found}, key=lambda own: (own[1], own[0])):
        own = [by_engine for (_, name, few), by_engine in found.items() if (name, few) == (kind, is_few)]
        averages = [_average([by_engine[engine] for by_engine in own if engine in by_engine]) for engine in ENGINES]
        rows.append(("all of these", f"{kind}, fewer than 10 levels" if is_few else kind, *averages, "", "", ""))
    columns = ("design", "interval", *ENGINES, "median width, likelihood", "median width, bayesian", "of an oracle")
    return markdown(columns, rows) + "\n" + "".join(f"{line}\n" for line in sorted(_measured(entry) for entry in entries))


def _average(rows: Sequence[Entry]) -> str:
    """Of designs, each counting once."""
    if not rows:
        return ""
    error = math.sqrt(sum(row["error"] ** 2 for row in rows)) / len(rows)
    return f"{100 * sum(row['covered'] for row in rows) / len(rows):.1f} ± {100 * error:.1f}"


def _covered(row: Entry | None) -> str:
    if row is None:
        return ""
    told = f"{100 * row['covered']:.1f} ± {100 * row['error']:.1f}" + (" (outside)" if row["outside"] else "")
    return told if not row.get("sets") else f"{told} ({100 * min(row['sets']):.1f} to {100 * max(row['sets']):.1f})"


def _measured(entry: Entry) -> str:
    refused = f", {entry['refused']} runs refused" if entry["refused"] else ""
    when = f"{entry['date']}, {entry['commit']}, {entry['machine']}"
    return f"- {entry['design']}, {entry['engine']}: {entry['shops']:,} shops{refused}; {when}"


def faults_table(entries: Sequence[Entry]) -> str:
    """How often the check that is meant for a fault sees it, and whether its advice mends it: a row for each fault, outcome and engine."""
    rows = [
        (
            f"{entry['fault']}, {entry['outcome']}",
            f"`{entry['check']}`",
            entry["engine"],
            f"{entry['seen']} of {entry['shops']}",
            f"{entry['mended']} of {entry['advised']}",
            entry["date"],
            entry["commit"],
            entry["machine"],
        )
        for entry in entries
    ]
    return markdown(("fault", "check", "engine", "seen", "passes as advised", "date", "commit", "machine"), rows)


def false_alarms_table(entries: Sequence[Entry]) -> str:
    """Well-specified runs with any failed fit check: a row for each outcome and engine."""
    rows = [
        (
            entry["outcome"],
            entry["engine"],
            f"{entry['failed']} of {entry['shops']:,}",
            ", ".join(f"`{name}` {count}" for name, count in entry["which"].items()),
            entry["date"],
            entry["commit"],
            entry["machine"],
        )
        for entry in entries
    ]
    return markdown(("outcome", "engine", "runs with a failed check", "which", "date", "commit", "machine"), rows)


def gates_table(entries: Sequence[Entry]) -> str:
    """The worst of all seeds, a row for each model."""
    rows = []
    for entry in entries:
        gates = entry["gates"]
        divergences = f"{max(gates['n_divergences']):.0f}" if "n_divergences" in gates else ""
        pareto = f"{max(gates['pareto_k']):.2f}" if "pareto_k" in gates else ""
        seconds = f"{min(entry['seconds']):.0f} to {max(entry['seconds']):.0f}"
        ess = f"{min(*gates['min_ess_bulk'], *gates['min_ess_tail']):,.0f}"
        rows.append(
            (
                entry["name"],
                " ".join(entry["methods"]),
                str(entry["seeds"]),
                f"{max(gates['max_r_hat']):.4f}",
                ess,
                divergences,
                pareto,
                seconds,
            )
        )
    return markdown(("model", "form", "seeds", "largest R-hat", "smallest ESS", "divergences", "Pareto k", "seconds"), rows)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


TABLES: tuple[tuple[str, str, Callable[[Sequence[Any]], str]], ...] = (
    ("ranks", "sbc-*.json", rank_table),
    ("coverage", "coverage-*.json", coverage_table),
    ("few-groups", "few-groups-*.json", few_groups_table),
    ("dependence", "dependence-*.json", dependence_table),
    ("faults", "checks-fault-*.json", faults_table),
    ("false-alarms", "checks-well-specified-*.json", false_alarms_table),
    ("studies", "gates-study-*.json", gates_table),
    ("classics", "gates-data-*.json", gates_table),
)

if __name__ == "__main__":
    main()
