"""What a reader must know of the line items themselves: files that are not alike, means filled in without their indicator."""

from __future__ import annotations

from groupwise.source.relation import Relation
from groupwise.study.study import Study
from multilevel.fit.container import Check
from multilevel.formula.columns import formula_columns, predictor_columns


def source_checks(study: Study, relation: Relation) -> tuple[Check, ...]:
    """Rows of ``diagnostics``: ``source_files``, and a failed ``indicator[column]`` for each indicator that the formula does not name."""
    files = [Check("source_files", None, None, passed=True, message=" ".join(relation.notes))] if relation.notes else []
    return (*files, *(Check(f"indicator[{name}]", None, None, passed=False, message=text) for name, text in unnamed(study).items()))


def unnamed(study: Study) -> dict[str, str]:
    """Predictor -> what to write, where ``mean_and_indicator`` fills it in and the formula leaves its indicator out."""
    formula = study.parsed_formula
    read, predictors = set(formula_columns(formula)), set(predictor_columns(formula))
    filled = [name for name, rule in study.missing.items() if rule == "mean_and_indicator" and name in predictors]
    outcome, _, terms = (part.strip() for part in study.formula.partition("~"))
    return {
        name: f"missing values of {name} are its mean, and the formula does not name {name}_missing, so that they count as observed; write "
        f"{outcome} ~ {terms} + {name}_missing"
        for name in filled
        if f"{name}_missing" not in read
    }
