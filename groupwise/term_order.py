"""The order in which people read a model: the intercept, terms as the formula names them, standard deviations, correlations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from groupwise.study.study_labels import NAMED_LEVEL, Labels
from multilevel.formula.tree import Formula

FALLBACK = 10**6
_POOLINGS = ("partial", "complete", "none")

type Place = tuple[Any, ...]


@dataclass(frozen=True)
class TermOrder:
    """Sorts rows of the published tables. formula : None where it is not known: names then decide. labels : with the order of levels."""

    formula: Formula | None
    labels: Labels

    def coefficient(self, row: Mapping[str, Any]) -> Place:
        """Of a row of ``population_coefficients``: partial pooling first, occurrence before amount, terms as the formula has them."""
        pooling = _POOLINGS.index(row["pooling"]) if row.get("pooling") in _POOLINGS else len(_POOLINGS)
        return pooling, _part(row), *self.term(row["term"])

    def component(self, row: Mapping[str, Any]) -> Place:
        """Of a row of ``variance_components``: standard deviations, the residual after them, then correlations."""
        other = (False, 0, (0, ""), "") if row["other_term"] is None else self.term(row["other_term"])
        is_correlation = row["quantity"] == "correlation"
        return _part(row), is_correlation, self.factors.get(row["grouping_factor"], FALLBACK), *self.term(row["term"]), *other

    @property
    def factors(self) -> dict[str, int]:
        """Grouping factor -> its place in the formula."""
        if self.formula is None:
            return {}
        return {name: place for place, name in enumerate(dict.fromkeys(group.name for group in self.formula.groups))}

    def term(self, term: str) -> Place:
        """The intercept, then by the place in the formula, then by the study's order of levels, then by name."""
        words = "" if self.formula is None else "".join(self.formula.text.split("~", 1)[-1].split())
        found = words.find("".join(term.split("[", 1)[0].split()))
        named = NAMED_LEVEL.fullmatch(term)
        level = (0, "") if named is None else self.labels.place(named["column"], named["level"])
        return term != "Intercept", FALLBACK if found < 0 else found, level, term


def _part(row: Mapping[str, Any]) -> int:
    return 1 if row.get("part") == "amount" else 0
