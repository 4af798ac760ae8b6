"""Rules on rows as a study writes them under ``rules``.

Each is one entry of an expectation suite, which is what the scan and the record read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from groupwise.study.study_source import Part

ID = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}$"
CHECKS: Mapping[str, tuple[str, frozenset[str]]] = {
    "present": ("expect_column_values_to_not_be_null", frozenset()),
    "between": ("expect_column_values_to_be_between", frozenset({"min", "max", "above", "below"})),
    "one_of": ("expect_column_values_to_be_in_set", frozenset({"values"})),
    "matches": ("expect_column_values_to_match_regex", frozenset({"regex"})),
    "unique": ("expect_column_values_to_be_unique", frozenset({"keep", "order_by"})),
}
"""What a rule checks -> the expectation that it is, and the fields of its own that it may have."""
SEVERAL = "expect_compound_columns_to_be_unique"
_OWN = frozenset().union(*(own for _, own in CHECKS.values()))


def _constant(value: object) -> object:
    """A value as a suite writes it: YAML reads 2026-01-01 as a day."""
    return value.isoformat() if isinstance(value, date) else value


def _constants(value: object) -> object:
    return [_constant(one) for one in value] if isinstance(value, list | tuple) else value


def _columns(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


type Bound = Annotated[int | float | str | None, BeforeValidator(_constant, json_schema_input_type=int | float | str | None)]
type Values = Annotated[tuple[bool | int | float | str, ...], BeforeValidator(_constants, json_schema_input_type=list[bool | float | str])]
type Columns = Annotated[str | tuple[str, ...], BeforeValidator(_columns, json_schema_input_type=str | list[str])]


class RowRule(Part):
    """What every row must keep. A row that breaks the rule is quarantined (severity info: only counted)."""

    check: Literal["present", "between", "one_of", "matches", "unique"] = Field(description="what is checked")
    column: Columns = Field(description="the column that the rule is about; of unique also a list, whose values together are unique")
    min: Bound = Field(None, description="with between: least number, day or time")
    max: Bound = Field(None, description="with between: greatest number, day or time")
    above: Bound = Field(None, description="with between: the value is greater than this")
    below: Bound = Field(None, description="with between: the value is less than this")
    values: Values = Field((), description="with one_of: the values that there may be")
    regex: str | None = Field(None, description="with matches: an expression that is found in the text")
    keep: Literal["one", "first", "last"] | None = Field(
        None,
        description="with unique: which of the rows that are alike stays, the others are dropped and counted; null: all break the rule",
    )
    order_by: str | None = Field(None, description="with keep first or last: the column that says which row that is")
    when: str | None = Field(None, description="rows that the rule looks at: comparisons of a column with a constant, joined by and, or")
    mostly: float | None = Field(
        None, gt=0, le=1, description="share of the rows that must keep the rule, else it fails; null: all, with keep any"
    )
    severity: Literal["critical", "warning", "info"] = Field(
        "warning", description="critical: a failed rule stops the run; warning: it is shown; info: broken rows stay"
    )
    id: str | None = Field(None, pattern=ID, description="the rule's name in messages and in quarantine; null: column and check")
    why: str | None = Field(None, max_length=500, description="the reason, for messages and pages; null: the rule in words")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        own = CHECKS[self.check][1]
        strangers = sorted(name for name in _OWN - own if getattr(self, name) not in (None, ()))
        if strangers:
            owner = next(check for check, (_, fields) in CHECKS.items() if strangers[0] in fields)
            raise ValueError(f"{strangers[0]} belongs to check: {owner}; this one is {self.check}, with {_listed(own)}")
        if self.check != "unique" and not isinstance(self.column, str):
            raise ValueError(f"check: {self.check} is about one column; write a rule for each of {', '.join(self.column)}")
        if not self.names:
            raise ValueError("column: write at least one column")
        needed = {"between": self.bounds, "one_of": self.values, "matches": self.regex}.get(self.check, True)
        if not needed and needed != 0:
            raise ValueError(f"check: {self.check} needs {' or '.join(sorted(own))}")
        for loose, strict in (("min", "above"), ("max", "below")):
            if getattr(self, loose) is not None and getattr(self, strict) is not None:
                raise ValueError(f"write {loose} or {strict}, not both: {loose} includes the value, {strict} does not")
        self._keeps_fit()
        return self

    def _keeps_fit(self) -> None:
        if (self.keep in ("first", "last")) != (self.order_by is not None):
            raise ValueError("keep: first and keep: last need order_by, the column that orders the rows; keep: one goes without")
        if self.keep is not None and self.severity == "info":
            raise ValueError("keep drops rows, and severity: info leaves them; write warning or critical")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the rule is about."""
        return (self.column,) if isinstance(self.column, str) else self.column

    @property
    def bounds(self) -> dict[str, Any]:
        """``min_value``, ``max_value`` and whether they are strict."""
        found: dict[str, Any] = {}
        for side, loose, strict in (("min", self.min, self.above), ("max", self.max, self.below)):
            if loose is not None or strict is not None:
                found[f"{side}_value"] = loose if strict is None else strict
                found |= {f"strict_{side}": True} if strict is not None else {}
        return found

    @property
    def rule_id(self) -> str:
        """The rule's name."""
        return self.id or f"{'_'.join(self.names)}_{self.check}".replace(";", "_")

    def entry(self) -> dict[str, Any]:
        """The rule as an expectation suite has it."""
        kind = SEVERAL if len(self.names) > 1 else CHECKS[self.check][0]
        kwargs: dict[str, Any] = {"column_list": list(self.names)} if kind == SEVERAL else {"column": self.names[0]}
        kwargs |= self.bounds
        kwargs |= {"value_set": list(self.values)} if self.values else {}
        kwargs |= {"regex": self.regex} if self.regex is not None else {}
        kwargs |= {"row_condition": self.when, "condition_parser": "pandas"} if self.when is not None else {}
        kwargs |= {"mostly": self.mostly} if self.mostly is not None else {}
        meta = {"rule_id": self.rule_id, "why": self.why or self.words()}
        meta |= {name: value for name, value in (("keep", self.keep), ("order_by", self.order_by)) if value is not None}
        return {"type": kind, "kwargs": kwargs, "severity": self.severity, "meta": meta}

    def words(self) -> str:
        """The rule as a sentence."""
        own = " and ".join(self.names)
        match self.check:
            case "present":
                return f"every row has a value of {own}"
            case "between":
                words = (("min", "at least"), ("above", "above"), ("max", "at most"), ("below", "below"))
                return f"{own} is " + " and ".join(
                    f"{said} {getattr(self, name)}" for name, said in words if getattr(self, name) is not None
                )
            case "one_of":
                return f"{own} is one of {', '.join(map(str, self.values[:10]))}{', ...' if len(self.values) > 10 else ''}"
            case "matches":
                return f"{own} matches {self.regex}"
            case _:
                which = "" if self.keep is None else f"; {self.keep} of them stays" + (f", by {self.order_by}" if self.order_by else "")
                return f"no two rows have the same {own}{which}"


def _listed(own: frozenset[str]) -> str:
    return ", ".join(sorted(own)) or "no fields of its own"
