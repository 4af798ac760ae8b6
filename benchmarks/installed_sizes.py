"""What an install weighs, package by package: the base, and what each extra adds to it. Writes the tables of docs/decisions/0014-sizes.md.

Run: ``python -m benchmarks installed_sizes``, in an environment with all extras (``make install``). Sizes are those of the files that each
package's record lists, in this environment; a package counts for the first of base and extras that needs it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks._sampler_pages import write_block

PAGE = Path("docs") / "decisions" / "0014-sizes.md"
EXTRAS = ("object-storage", "shop", "dask", "excel")
LARGEST = 20
MEGABYTE = 1_000_000


def main() -> None:
    """Print and write both tables."""
    base = closure("")
    sizes = {name: megabytes(name) for name in base}
    total = sum(sizes.values())
    rows = [("base", f"{len(base):,}", f"{total:,.0f}", "")]
    seen = set(base)
    for extra in EXTRAS:
        more = closure(extra) - seen
        added = sorted(((megabytes(name), name) for name in more), reverse=True)
        named = ", ".join(f"{name} {size:,.1f}" for size, name in added[:4])
        rows.append((f"extra `{extra}`", f"{len(more):,} more", f"{sum(size for size, _ in added):,.0f}", named))
        seen |= more
    whole = sum(megabytes(name) for name in seen)
    rows.append(("base and all extras, which one install was before", f"{len(seen):,}", f"{whole:,.0f}", ""))
    write_block(PAGE, "installs", ("install", "packages", "MB", "the largest of them, MB"), rows)
    heaviest = sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST]
    rest = total - sum(size for _, size in heaviest)
    own = [(name, f"{size:,.1f}", f"{100 * size / total:.1f} %") for name, size in heaviest]
    others = (f"{len(sizes) - len(heaviest):,} others", f"{rest:,.1f}", f"{100 * rest / total:.1f} %")
    write_block(PAGE, "packages", ("package of the base", "MB", "of the base"), [*own, others])


def closure(extra: str) -> set[str]:
    """Names of all packages that ``groupwise[extra]`` needs in this environment."""
    found: set[tuple[str, str]] = set()
    pending = [("groupwise", extra), ("groupwise", "")]
    while pending:
        name, own = pending.pop()
        if (name, own) in found:
            continue
        found.add((name, own))
        for requirement in _needed(name, own):
            other = canonicalize_name(requirement.name)
            pending += [(other, ""), *((other, more) for more in requirement.extras)]
    return {name for name, _ in found} - {"groupwise"}


def _needed(name: str, extra: str) -> Iterator[Requirement]:
    for text in importlib.metadata.distribution(name).requires or ():
        requirement = Requirement(text)
        plain = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if plain if not extra else (not plain and requirement.marker is not None and requirement.marker.evaluate({"extra": extra})):
            yield requirement


def megabytes(name: str) -> float:
    """Of the package's files, bytecode left out."""
    files = importlib.metadata.distribution(name).files or ()
    places = (Path(str(file.locate())) for file in files if file.suffix != ".pyc")
    return sum(place.stat().st_size for place in places if place.is_file()) / MEGABYTE
