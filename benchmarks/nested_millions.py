"""Nested factors of very many levels, whole commands: what ``plan`` says of time and memory beside what ``estimate`` takes.

Run: ``python -m benchmarks nested_millions [rows [case]]``, on a quiet machine (ten million rows by default). Five cases: lme4's
issue 635 (subjects in areas, a slope), and a tenth of it beside lme4; customers in regions crossed with categories, with an effect for each
pair of customer and category; a binomial outcome of customers in regions crossed with categories; customers in regions crossed with
categories and their slopes, by the Bayesian engine, whose intervals are held against the effects in the rows. GPBoost fits the binomial one
from rows in memory, without standard errors, and is stopped after ten minutes of CPU. Writes its table into docs/benchmarks.md; lines
are kept in ``.groupwise/benchmarks``, so that a case can be measured again by itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import duckdb

from benchmarks._calibration_page import markdown
from benchmarks._lme4 import NOT_INSTALLED, run_lme4
from benchmarks._reliability_page import provenance, provenance_line, replace_block

PAGE = Path("docs") / "benchmarks.md"
KEPT = Path(".groupwise") / "benchmarks"

PEER_SECONDS = 600.0
"""Of CPU until a peer is stopped."""

GPBOOST = """
import time
import duckdb, gpboost, numpy as np
rows = duckdb.sql("select region, customer, category, x from 'rows.parquet'").df()
start = time.perf_counter()
model = gpboost.GPModel(group_data=rows[["region", "customer", "category"]].to_numpy(), likelihood="bernoulli_logit")
model.fit(y=rows["x"].to_numpy(dtype=float), X=np.ones((len(rows), 1)))
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Case:
    """A formula, its family, and the query that makes ``rows`` line items; ``truth`` : of the effect of each level of a factor, in SQL."""

    formula: str
    family: str
    query: str
    share: float
    engine: str = "likelihood"
    truth: tuple[str, str] | None = None


def normal(salt: str, key: str) -> str:
    """A standard normal number of each ``key``, in SQL (Box and Muller 1958)."""
    uniform = [f"((hash({key}, '{salt}{place}') % 1000000007) + 0.5) / 1000000007" for place in range(2)]
    return f"(sqrt(-2 * ln({uniform[0]})) * cos(2 * pi() * {uniform[1]}))"


ISSUE_635 = Case(
    "x ~ 1 + time + (1 | area/subject)",
    "gaussian",
    "select random() + 0.01 * (i % 10 + 1) + 0.00001 * (i // 10 + 1) + 0.0001 * (i // 10000 + 1) as x, i % 10 + 1 as time,"
    " i // 10 as subject, i // 10000 as area from range({rows}) as t(i) where random() < 0.99",
    1.0,
)
BESIDE_LME4 = "issue 635, a tenth"

CASES = {
    "issue 635": ISSUE_635,
    BESIDE_LME4: replace(ISSUE_635, share=0.1),
    "pairs in customers": Case(
        "x ~ 1 + (1 | region/customer) + (1 | customer:category) + (1 | category)",
        "gaussian",
        "select customer, customer % 50 as region, category, (hash(customer) % 1000) / 1000 + (hash(customer, category) % 1000) / 1500"
        " + (hash(category) % 1000) / 800 + random() as x from (select floor({customers} * pow(random(), 1.5))::bigint as customer,"
        " floor(200 * pow(random(), 1.5))::bigint as category from range({rows}) as t(i))",
        0.1,
    ),
    "binomial": Case(
        "x ~ 1 + (1 | region/customer) + (1 | category)",
        "binomial",
        "select customer, customer % 50 as region, category, (random() < 1 / (1 + exp(1 - (hash(customer) % 1000) / 700"
        " - (hash(category) % 1000) / 700)))::int as x from (select floor({customers} * pow(random(), 1.5))::bigint as customer,"
        " floor(200 * pow(random(), 1.5))::bigint as category from range({rows}) as t(i))",
        0.1,
    ),
    "customers, Bayesian": Case(
        "x ~ 1 + sale + (1 | region/customer) + (1 + sale | category)",
        "gaussian",
        f"select customer, region, category, sale, 2 + 0.3 * {normal('r', 'region')} + 0.5 * {normal('c', 'customer')}"
        f" + 0.4 * {normal('k', 'category')} + (0.2 + 0.2 * {normal('s', 'category')}) * sale"
        " + sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) as x from (select customer, customer % 50 as region, category, sale from"
        " (select floor({customers} * pow(random(), 1.5))::bigint as customer, floor(200 * pow(random(), 1.5))::bigint as category,"
        " (random() < 0.3)::int as sale from range({rows}) as t(i)))",
        1.0,
        "bayesian",
        ("region:customer", f"0.5 * {normal('c', 'level::bigint')}"),
    ),
}


def main(rows: int = 10_000_000, case: int = 0) -> None:
    """Run every case, or one by its number, and write the table."""
    KEPT.mkdir(parents=True, exist_ok=True)
    told = provenance() | {"load": f"{os.getloadavg()[0]:.1f}"}
    for at, name in enumerate(CASES, 1):
        if case in (0, at):
            line = _line(name, rows)
            (KEPT / f"nested-millions-{at}.json").write_text(json.dumps({"line": line, **told}, indent=1), encoding="utf-8")
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob("nested-millions-*.json"))]
    heads = ["whole command", "rows", "seconds", "processor seconds", "peak memory (GB)", "plan says", "peer, or truth"]
    loads = ", ".join(each["load"] for each in found)
    table = markdown(heads, [each["line"] for each in found])
    block = f"{table}\n{provenance_line(found)}Load of the {os.cpu_count()} cores before: {loads}.\n"
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "nested-millions", block), encoding="utf-8")


def _line(name: str, rows: int) -> list[str]:
    case = CASES[name]
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        n = int(rows * case.share)
        duckdb.sql("select setseed(0.5)")
        made = case.query.format(rows=n, customers=max(n // 10, 100))
        duckdb.sql(f"copy ({made}) to '{folder}/rows.parquet' (format parquet)")
        study = f"name: s\nformula: {case.formula}\nfamily: {case.family}\nsource: {{parquet: rows.parquet}}\nengine: {case.engine}\n"
        Path(folder, "s.yaml").write_text(study, encoding="utf-8")
        said = next((line for line in _run(folder, "plan").output.splitlines() if "GB" in line), "no cost").strip()
        took = _run(folder, "estimate")
        peer = "not run"
        if name == BESIDE_LME4:
            peer = _beside_lme4(folder, case.formula)
        if case.family == "binomial":
            peer = _beside_gpboost(folder)
        if case.truth is not None:
            peer = _against_truth(Path(folder), *case.truth)
    print(f"{name}, {n:,} rows: {took.sentence}. plan: {said}. {peer}", flush=True)
    formula = case.formula.replace("|", "\\|")
    return [f"{name}: `{formula}`", f"{n:,}", f"{took.wall:.1f}", f"{took.cpu:.1f}", f"{took.memory:.2f}", said, peer]


@dataclass(frozen=True)
class _Took:
    wall: float
    cpu: float
    memory: float
    output: str

    @property
    def sentence(self) -> str:
        return f"{self.wall:.1f} s, {self.cpu:.1f} s of CPU, {self.memory:.2f} GB at the peak"


def _run(folder: str, command: str) -> _Took:
    return _measured(folder, command, ["-m", "groupwise", command, "s.yaml"])


def _measured(folder: str, name: str, arguments: list[str], limit: float | None = None) -> _Took:
    """A Python process in ``folder``, stopped after ``limit`` seconds of CPU."""
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    environment.pop("PREFECT_API_URL", None)
    output = Path(folder, f"{name}.txt")
    start = time.perf_counter()
    with output.open("w", encoding="utf-8") as file:
        limited = [] if limit is None else ["prlimit", f"--cpu={limit:.0f}"]
        process = subprocess.Popen(
            [*limited, sys.executable, *arguments], cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    text = output.read_text(encoding="utf-8")
    if process.returncode:
        print(f"{name} ended with {process.returncode}: {text[-500:]}")
    # of the largest process among the command and all that it waited for
    return _Took(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9, text)


def _last(output: str) -> str:
    """The seconds, after whatever the library says of itself."""
    lines = output.strip().splitlines()
    return f"{float(lines[-1]):.1f}" if lines else "not ended"


def _against_truth(folder: Path, factor: str, truth: str) -> str:
    """How many effects of a factor's levels are inside their intervals, from the published table."""
    [table] = folder.glob("published/s/versions/*/*/group_coefficients.parquet")
    of_levels = f"select *, {truth} as truth from '{table}' where grouping_factor = '{factor}' and not is_new"
    found = duckdb.connect().execute(f"select avg((truth between deviation_lower and deviation_upper)::int), count(*) from ({of_levels})")
    inside, levels = found.fetchall()[0]
    return f"{inside:.1%} of {levels:,} true effects of {factor} are inside their 95 % intervals"


def _beside_lme4(folder: str, formula: str) -> str:
    csv = Path(folder, "rows.csv")
    duckdb.sql(f"copy (from '{folder}/rows.parquet') to '{csv}' (header)")
    theirs = run_lme4(csv, formula, "area,subject")
    return NOT_INSTALLED if theirs is None else f"lme4: {theirs.seconds:.1f} s of lmer, {theirs.process:.1f} s of the process"


def _beside_gpboost(folder: str) -> str:
    if find_spec("gpboost") is None:
        return "gpboost is not installed (requirements-peers.lock) and is left out"
    theirs = _measured(folder, "gpboost", ["-c", GPBOOST], PEER_SECONDS)
    return f"gpboost, the fit alone: {_last(theirs.output)} s; its process: {theirs.sentence}"
