"""The model as mathematics, in MathML, which every current browser draws by itself."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from tasks.report.subject import Subject

_LINKS = {
    "gaussian": "",
    "binomial": "logit",
    "poisson": "log",
    "negative_binomial": "log",
    "gamma": "log",
}


def model_lines(subject: Subject) -> list[str]:
    """One MathML formula a line: the outcome, its linear predictor, the distribution of each factor's effects."""
    population = _unique(row["term"] for row in subject.tables["population_coefficients"].to_pylist() if row["pooling"] == "partial")
    blocks: dict[str, list[str]] = {}
    for row in subject.tables["variance_components"].to_pylist():
        if row["quantity"] == "sd" and row["grouping_factor"] != "residual":
            blocks.setdefault(row["grouping_factor"], []).append(row["term"])
    return [_math(_outcome(subject)), _math(_predictor(population, blocks)), *(_math(_effects(f, terms)) for f, terms in blocks.items())]


def _outcome(subject: Subject) -> str:
    y, eta = _sub("y", "i"), _sub("η", "i")
    response = f"<mi>log</mi><mo>⁡</mo>{y}" if subject.is_log_outcome else y
    link = _LINKS.get(subject.family, "")
    mean = f"<msup><mi>{link}</mi><mrow><mo>−</mo><mn>1</mn></mrow></msup><mo>(</mo>{eta}<mo>)</mo>" if link else eta
    name = {
        "gaussian": f"<mi>Normal</mi><mo>(</mo>{eta}<mo>,</mo><msup><mi>σ</mi><mn>2</mn></msup><mo>)</mo>",
        "binomial": f"<mi>Bernoulli</mi><mo>(</mo>{mean}<mo>)</mo>",
        "poisson": f"<mi>Poisson</mi><mo>(</mo>{mean}<mo>)</mo>",
        "negative_binomial": f"<mi>NegativeBinomial</mi><mo>(</mo>{mean}<mo>,</mo><mi>φ</mi><mo>)</mo>",
        "gamma": f"<mi>Gamma</mi><mo>(</mo>{mean}<mo>,</mo><mi>a</mi><mo>)</mo>",
    }[subject.family]
    return f"{response}<mo>∼</mo>{name}"


def _predictor(population: list[str], blocks: dict[str, list[str]]) -> str:
    parts = [_product(_sub("β", str(k)), term) for k, term in enumerate(population)]
    for factor, terms in blocks.items():
        level = f"<mrow><mtext>{escape(factor)}</mtext><mo>[</mo><mi>i</mi><mo>]</mo></mrow>"
        for k, term in enumerate(terms):
            effect = f"<msub><mi>b</mi><mrow>{f'<mn>{k}</mn><mo>,</mo>' if len(terms) > 1 else ''}{level}</mrow></msub>"
            parts.append(_product(effect, term))
    return f"{_sub('η', 'i')}<mo>=</mo>{'<mo>+</mo>'.join(parts)}"


def _effects(factor: str, terms: list[str]) -> str:
    name = f"<mtext>{escape(factor)}</mtext>"
    if len(terms) == 1:
        variance = f"<msubsup><mi>τ</mi>{name}<mn>2</mn></msubsup>"
        return f"<msub><mi>b</mi>{name}</msub><mo>∼</mo><mi>Normal</mi><mo>(</mo><mn>0</mn><mo>,</mo>{variance}<mo>)</mo>"
    places = "<mo>,</mo>".join(f"<msub><mi>b</mi><mrow><mn>{k}</mn><mo>,</mo>{name}</mrow></msub>" for k in range(len(terms)))
    return f"<mo>(</mo>{places}<mo>)</mo><mo>∼</mo><mi>Normal</mi><mo>(</mo><mn>0</mn><mo>,</mo><msub><mi>Σ</mi>{name}</msub><mo>)</mo>"


def _product(coefficient: str, term: str) -> str:
    return (
        coefficient if term == "Intercept" else f"{coefficient}<mspace width='0.15em'/><msub><mtext>{escape(term)}</mtext><mi>i</mi></msub>"
    )


def _sub(symbol: str, index: str) -> str:
    kind = "mn" if index.isdigit() else "mi"
    return f"<msub><mi>{symbol}</mi><{kind}>{index}</{kind}></msub>"


def _math(content: str) -> str:
    return f'<math display="block"><mrow>{content}</mrow></math>'


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
