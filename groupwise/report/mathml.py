"""The model as mathematics, in MathML, which every current browser draws by itself."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from groupwise.report.part_labels import of_part
from groupwise.report.subject import Subject
from multilevel.design.parts import PARTS
from multilevel.families.registry import family_named

_LEFT, _RIGHT = ('<mo stretchy="false">(</mo>', '<mo stretchy="false">)</mo>')
_LEFT_SQUARE, _RIGHT_SQUARE = ('<mo stretchy="false">[</mo>', '<mo stretchy="false">]</mo>')


def model_lines(subject: Subject) -> list[str]:
    """One MathML formula a line: the outcome, its linear predictor, the distribution of each factor's effects; of both parts where two."""
    if not subject.has_two_parts:
        return _lines(subject)
    y, zero = _sub("y", "i"), "<mo>&gt;</mo><mn>0</mn>"
    expected = f"<mi>E</mi>{y}<mo>=</mo><mi>P</mi>{_LEFT}{y}{zero}{_RIGHT}<mo>·</mo><mi>E</mi>{_LEFT}{y}<mo>∣</mo>{y}{zero}{_RIGHT}"
    occurrence, amount = (_lines(of_part(subject, part)) for part in PARTS)
    above = f"<mn>1</mn>{_LEFT}{y}{zero}{_RIGHT}"
    occurrence[0] = occurrence[0].replace(y, above, 1)
    amount[0] = amount[0].replace(
        "</mrow></math>", f"<mspace width='1em'/><mtext>where</mtext><mspace width='0.5em'/>{y}{zero}</mrow></math>"
    )
    return [*occurrence, *amount, _math(expected)]


def _lines(subject: Subject) -> list[str]:
    population = _unique(row["term"] for row in subject.tables["population_coefficients"].to_pylist() if row["pooling"] == "partial")
    blocks: dict[str, list[str]] = {}
    correlated: set[str] = set()
    for row in subject.tables["variance_components"].to_pylist():
        if row["quantity"] == "correlation":
            correlated.add(row["grouping_factor"])
        elif row["grouping_factor"] != "residual":
            blocks.setdefault(row["grouping_factor"], []).append(row["term"])
    lines = [_outcome(subject), *_predictor(population, blocks)]
    for factor, terms in blocks.items():
        lines += [_together(factor, terms)] if factor in correlated else [_alone(factor, k, len(terms)) for k in range(len(terms))]
    return [_math(line) for line in lines]


def _outcome(subject: Subject) -> str:
    y, eta = _sub("y", "i"), _sub("η", "i")
    response = f"<mi>log</mi><mo>⁡</mo>{y}" if subject.is_log_outcome else y
    family = family_named(subject.family)
    inverse = f"<msup><mi>{family.link.name}</mi><mrow><mo>−</mo><mn>1</mn></mrow></msup>{_LEFT}{eta}{_RIGHT}"
    mean = eta if family.link.is_linear else inverse
    name = family.notation.mathml.replace("(", _LEFT).replace(")", _RIGHT).replace("{eta}", eta).replace("{mean}", mean)
    return f"{response}<mo>∼</mo>{name}"


def _predictor(population: list[str], blocks: dict[str, list[str]]) -> list[str]:
    """The linear predictor: the population's part, then one line a factor."""
    lines = [f"{_sub('η', 'i')}<mo>=</mo>" + "<mo>+</mo>".join(_product(_sub("β", str(k)), term) for k, term in enumerate(population))]
    for factor, terms in blocks.items():
        level = f"<mrow><mtext>{escape(factor)}</mtext>{_LEFT_SQUARE}<mi>i</mi>{_RIGHT_SQUARE}</mrow>"
        parts = [
            _product(f"<msub><mi>b</mi><mrow>{f'<mn>{k}</mn><mo>,</mo>' if len(terms) > 1 else ''}{level}</mrow></msub>", term)
            for k, term in enumerate(terms)
        ]
        lines.append("<mspace width='2em'/><mo>+</mo>" + "<mo>+</mo>".join(parts))
    return lines


def _alone(factor: str, k: int, n_terms: int) -> str:
    """Effects of one term, independent of the factor's other terms."""
    name = f"<mrow>{f'<mn>{k}</mn><mo>,</mo>' if n_terms > 1 else ''}<mtext>{escape(factor)}</mtext></mrow>"
    variance = f"<msubsup><mi>τ</mi>{name}<mn>2</mn></msubsup>"
    return f"<msub><mi>b</mi>{name}</msub><mo>∼</mo><mi>Normal</mi>{_LEFT}<mn>0</mn><mo>,</mo>{variance}{_RIGHT}"


def _together(factor: str, terms: list[str]) -> str:
    """Effects of several terms, correlated."""
    name = f"<mtext>{escape(factor)}</mtext>"
    places = "<mo>,</mo>".join(f"<msub><mi>b</mi><mrow><mn>{k}</mn><mo>,</mo>{name}</mrow></msub>" for k in range(len(terms)))
    return f"{_LEFT}{places}{_RIGHT}<mo>∼</mo><mi>Normal</mi>{_LEFT}<mn>0</mn><mo>,</mo><msub><mi>Σ</mi>{name}</msub>{_RIGHT}"


def _product(coefficient: str, term: str) -> str:
    return (
        coefficient if term == "Intercept" else f"{coefficient}<mspace width='0.15em'/><msub><mtext>{escape(term)}</mtext><mi>i</mi></msub>"
    )


def _sub(symbol: str, index: str) -> str:
    kind = "mn" if index.isdigit() else "mi"
    return f"<msub><mi>{symbol}</mi><{kind}>{index}</{kind}></msub>"


def _math(content: str) -> str:
    return f'<math display="inline"><mrow>{content}</mrow></math>'


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
