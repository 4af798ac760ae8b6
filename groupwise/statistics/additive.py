"""What does not add over partitions: why a study's line items are read whole although it keeps statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from groupwise.compression.compress import ONE_TEXT
from groupwise.source.relation import Relation
from groupwise.source.source_files import is_remote
from groupwise.study.study import Study
from groupwise.validation.suite import Rule, load_rules
from multilevel.formula.columns import columns_in, predictor_expressions, standardised
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Call, Expression, Operation


def why_whole(study: Study, rules: Sequence[Rule], columns: Mapping[str, str]) -> tuple[str, ...]:
    """Every reason, in words; empty where all that the study needs of its line items adds over partitions.

    rules : of the study and its suite. columns : of the line items, name -> DuckDB type.
    """
    return tuple(_reasons(study, rules, columns))


def _reasons(study: Study, rules: Sequence[Rule], columns: Mapping[str, str]) -> Iterator[str]:
    formula = study.parsed_formula
    predictors = predictor_expressions(formula)
    for expression in dict.fromkeys(inner for part in (*predictors, *formula.offsets) for inner in standardised(part)):
        yield f"center() or scale() of {expression_label(expression)} needs its mean over all line items"
    for part in predictors:
        for call in _level_means(part):
            yield f"{expression_label(call)} needs a mean over all line items of a level"
    for name, filling in study.missing.items():
        if filling == "mean_and_indicator":
            yield f"missing: {name}: mean_and_indicator needs its mean over all line items"
        if name == study.partition_column:
            yield f"missing: {name} is the column that says which partition a line item is of"
    for rule in rules:
        if rule.is_unique:
            keeps = "" if rule.keep is None else f", and keeps {rule.keep} of those alike"
            yield f"rule {rule.rule_id} compares line items of different partitions{keeps}"
    if study.privacy is not None:
        yield f"privacy counts distinct {study.privacy.of} over all line items"
    named = [*(name for group in formula.groups for name in group.columns), *(name for part in predictors for name in columns_in(part))]
    for name in dict.fromkeys(named):
        if name in columns and not ONE_TEXT.match(columns[name]):
            yield f"{name} is of type {columns[name]}, whose different values may be one text"
    if any(is_remote(pattern) for pattern in study.source.files):
        yield "files at addresses cannot be looked at for changes"


def _level_means(expression: Expression) -> Iterator[Call]:
    match expression:
        case Call("within" | "between", _):
            yield expression
        case Call(_, parts) | Operation(_, parts):
            for part in parts:
                yield from _level_means(part)
        case _:
            pass


def keeping(study: Study, relation: Relation) -> tuple[str, ...]:
    """What is said of a study's statistics before a run; nothing of a study that keeps none."""
    if study.statistics is None:
        return ()
    reasons = why_whole(study, load_rules(study, relation.columns), relation.columns)
    if not reasons:
        return (f"Kept by {study.statistics.partition} in {study.statistics.keep}: a run reads the line items that changed.",)
    return (f"Every run reads all line items, and none are kept: {'; '.join(reasons)}.",)
