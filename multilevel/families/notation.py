"""A model's symbols, written once: plain text for a terminal, LaTeX, and MathML, which every current browser draws by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from html import escape

_SPECIAL = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"} | {c: "\\" + c for c in "#$%&_{}"}


@dataclass(frozen=True)
class Written:
    """One expression in three forms. ``mathml`` is markup with all text escaped, without the element ``math`` around it."""

    plain: str
    latex: str
    mathml: str

    def __add__(self, other: Written) -> Written:
        return Written(self.plain + other.plain, self.latex + other.latex, self.mathml + other.mathml)

    def filled(self, **places: Written) -> Written:
        """With every ``{name}`` replaced."""
        plain, latex, mathml = self.plain, self.latex, self.mathml
        for name, value in places.items():
            mark = f"{{{name}}}"
            plain, latex, mathml = plain.replace(mark, value.plain), latex.replace(mark, value.latex), mathml.replace(mark, value.mathml)
        return Written(plain, latex, mathml)


def symbol(plain: str, latex: str = "") -> Written:
    """A letter such as μ; ``latex`` where it has a name of its own there."""
    return Written(plain, latex or plain, f"<mi>{plain}</mi>")


def number(value: int) -> Written:
    """A number."""
    return Written(str(value), str(value), f"<mn>{value}</mn>")


def text(words: str) -> Written:
    """A name or words, upright, whatever characters they have."""
    latex = "".join(_SPECIAL.get(character, character) for character in words)
    # a browser leaves out spaces at the ends of an element
    body = words.strip()
    before, after = ("\N{NO-BREAK SPACE}" * (words[:1] == " "), "\N{NO-BREAK SPACE}" * (words[-1:] == " "))
    return Written(words, rf"\text{{{latex}}}", f"<mtext>{before}{escape(body)}{after}</mtext>")


def place(name: str) -> Written:
    """Where something is filled in later."""
    return Written(f"{{{name}}}", f"{{{name}}}", f"{{{name}}}")


def join(parts: Iterable[Written], between: Written) -> Written:
    """The parts with something between them."""
    return reduce(lambda left, right: left + between + right, parts)


def at(base: Written, *places: Written) -> Written:
    """A subscript: of plain text, digits as such and the rest in square brackets."""
    digits = "".join(each.plain.translate(_BELOW) for each in places if each.plain.isdigit())
    rest = "".join(f"[{each.plain}]" for each in places if not each.plain.isdigit())
    short = all(len(each.plain) == 1 for each in places)
    latex = ("" if short else r",\,").join(each.latex for each in places)
    below = latex if len(latex) == 1 and not latex.isdigit() else f"{{{latex}}}"
    mathml = "<mo>,</mo>".join(each.mathml for each in places)
    return Written(base.plain + digits + rest, f"{base.latex}_{below}", f"<msub>{base.mathml}<mrow>{mathml}</mrow></msub>")


def level_of(factor: str) -> Written:
    """The level that row i belongs to."""
    return text(factor) + _LEFT_SQUARE + ROW + _RIGHT_SQUARE


def call(name: str, *arguments: Written) -> Written:
    """A distribution with its parameters."""
    return Written(name, rf"\mathrm{{{name}}}", f"<mi>{name}</mi>") + LEFT + join(arguments, COMMA) + RIGHT


def applied(name: str, argument: Written, latex: str = "") -> Written:
    """A function without brackets, such as exp η; ``latex`` its command where it has one."""
    return Written(f"{name} ", latex or rf"\mathrm{{{name}}}\, ", f"<mi>{name}</mi><mo>⁡</mo><mspace width='0.15em'/>") + argument


def squared(base: Written) -> Written:
    """base²."""
    return Written(f"{base.plain}²", f"{base.latex}^2", f"<msup>{base.mathml}<mn>2</mn></msup>")


def over_two(top: Written) -> Written:
    """top/2."""
    return Written(f"{top.plain}/2", f"{top.latex} / 2", f"{top.mathml}<mo>/</mo><mn>2</mn>")


def over_root(left: Written, right: Written) -> Written:
    """left / √right."""
    root = Written(f" / √{right.plain}", rf" / \sqrt{{{right.latex}}}", f"<mo>/</mo><msqrt>{right.mathml}</msqrt>")
    return left + root


def _sign(plain: str, latex: str, mathml: str) -> Written:
    return Written(plain, latex, f'<mo stretchy="false">{mathml}</mo>')


_BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_LEFT_SQUARE, _RIGHT_SQUARE = _sign("[", "[", "["), _sign("]", "]", "]")
LEFT, RIGHT, COMMA = _sign("(", "(", "("), _sign(")", ")", ")"), _sign(", ", ", ", ",")
EQUALS, DISTRIBUTED, PLUS = _sign(" = ", " = ", "="), _sign(" ~ ", r" \sim ", "∼"), _sign(" + ", " + ", "+")
TIMES, ABOVE, DOTS = _sign(" · ", r" \cdot ", "·"), _sign(" > ", " > ", "&gt;"), _sign(" … ", r", \dots, ", "…")
QUAD = Written(",  ", r", \quad ", "<mo>,</mo><mspace width='1em'/>")
APART = Written("  ", r" \quad ", "<mspace width='1em'/>")

ROW, LEVEL, ZERO = symbol("i"), symbol("j"), number(0)
Y, MU, ETA, P = at(symbol("y"), ROW), at(symbol("μ", r"\mu"), ROW), at(symbol("η", r"\eta"), ROW), at(symbol("p"), ROW)
BETA, TAU, SIGMA_MATRIX = symbol("β", r"\beta"), symbol("τ", r"\tau"), symbol("Σ", r"\Sigma")
EXP_ETA = applied("exp", ETA, r"\exp ")
SIGMA, PHI = symbol("σ", r"\sigma"), symbol("φ", r"\phi")


@dataclass(frozen=True)
class Notation:
    """A family in mathematics: how the outcome is distributed (``{trials}`` is filled in), and what the linear predictor is called."""

    outcome: Written
    predictor: Written = ETA
