"""The report's dictionary of a two-part study: as of one model, with both parts in words, in mathematics, and told apart in every list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from multilevel.description.two_part_description import two_part_mathematics, two_part_words
from multilevel.design.nesting import Nesting
from multilevel.design.parts import PARTS, Part
from multilevel.families.two_part import TWO_PART
from multilevel.fit.container import Check, Fit
from multilevel.formula.tree import Formula
from multilevel.interpretation.contextual import ContextualEffect
from multilevel.study.options import FitOptions
from multilevel.study.report_facts import group_level_lines, jsonable, predictive_pictures, priors_in_words, report_of, variance_shares


def two_part_report(
    formula: Formula,
    family: str,
    fits: Mapping[Part, Fit],
    trees: Mapping[Part, Nesting],
    options: Mapping[Part, FitOptions],
    *,
    checks: Sequence[Check],
    contextual: Mapping[Part, Sequence[ContextualEffect]],
    seconds: Mapping[str, float],
) -> dict[str, object]:
    """What ``report_of`` gives, of both parts; names in lists carry the part."""
    first = PARTS[0]
    base = report_of(formula, fits[first], trees[first], options[first], checks=checks, contextual=(), seconds=seconds)
    designs = fits["occurrence"].design, fits["amount"].design
    priors = {part: priors_in_words(fits[part], options[part]) for part in PARTS}
    return base | {
        "family": family,
        "method": " and ".join(f"{part}: {fits[part].method}" for part in PARTS),
        "words": two_part_words(formula, *designs),
        "mathematics": jsonable(two_part_mathematics(formula, TWO_PART[family], *designs)),
        "priors": None
        if any(entry is None for entry in priors.values())
        else [{**entry, "parameter": f"{part}: {entry['parameter']}"} for part in PARTS for entry in priors[part] or ()],
        "variance_shares": [
            {**entry, "grouping_factor": f"{entry['grouping_factor']} ({part})"} for part in PARTS for entry in variance_shares(fits[part])
        ],
        "group_level_lines": [{**line, "part": part} for part in PARTS for line in group_level_lines(fits[part], trees[part])],
        "predictive_pictures": [picture for part in PARTS for picture in predictive_pictures(fits[part], options[part].seed, part)],
        "contextual_effects": [jsonable(effect) for part in PARTS for effect in contextual[part]],
        "fit_record": {part: jsonable(fits[part].record) for part in PARTS},
    }
