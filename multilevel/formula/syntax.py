"""Formula text to a syntax tree, by formulae's scanner and parser, with what lme4 users write and formulae does not read.

Added here: ``||``, ``^``, numbers such as ``1e-3``, names that begin with an underscore, R's precedence of unary minus and powers, and
the place of each token, so that an error can point at it. Nothing is evaluated.
"""

from __future__ import annotations

import math
import re
from typing import Any, Never

from multilevel.errors import FormulaError
from multilevel.formula.grammar import Assign, Binary, Call, Grouping, ParseError, Parser, ScanError, Scanner, Unary
from multilevel.text import shorten, unusable_character

type Node = Any
"""A node of formulae's syntax tree (formulae has no types)."""

MOST_CHARACTERS = 10_000
MOST_CHARACTERS_OF_NAME = 300
SHOWN = 200
DEEPEST = 100
"""Operations and brackets inside one another; a sum of terms counts once, however long."""

TOO_DEEP = f"it is nested too deeply, more than {DEEPEST} operations or brackets inside one another; make such a column in line_items"

FOREIGN = {
    "[": "brackets are not part of the formula language",
    "]": "brackets are not part of the formula language",
    "{": "write I( ) instead of braces",
    "}": "write I( ) instead of braces",
    "'": "text in quotes is not part of the formula language; name a column, in backquotes if it has spaces",
    '"': "text in quotes is not part of the formula language; name a column, in backquotes if it has spaces",
    "!": "comparisons are not part of the formula language; make such a column in the line_items query",
    "=": "comparisons and named arguments are not part of the formula language",
    "<": "comparisons are not part of the formula language; make such a column in the line_items query",
    ">": "comparisons are not part of the formula language; make such a column in the line_items query",
    "%": "%in% and %% are not part of the formula language; for nesting write a/b or a:b",
    ";": "a formula is one expression, without semicolons",
    "$": "name the column alone, without $",
}


def refusal(text: str, position: int | None, what: str) -> FormulaError:
    """The error to raise: the formula, where in it, and what would be right."""
    where = "" if position is None else f" at character {position + 1}, `{shorten(text[position : position + 20].strip())}`"
    return FormulaError(f"The formula `{shorten(text, SHOWN)}` cannot be used{where}: {what}.")


class PlacedScanner(Scanner):
    """Tokens that know their place (``token.position``)."""

    def add_token(self, kind: str, literal: object = None) -> None:
        """Remember where the token begins."""
        if kind in {"IDENTIFIER", "BQNAME"} and self.current - self.start > MOST_CHARACTERS_OF_NAME:
            raise refusal(
                self.code, self.start, f"a name has at most {MOST_CHARACTERS_OF_NAME} characters; rename the column in line_items"
            )
        super().add_token(kind, literal)
        self.tokens[-1].position = self.start

    def scan_token(self) -> None:
        """Read one token; what R or Python has and this language has not is refused by name."""
        char = self.peek()
        if char in FOREIGN:
            raise refusal(self.code, self.current, FOREIGN[char])
        if char in {"|", "^", "_"}:
            self.advance()
            if char == "|":
                self.match("|")
                self.add_token("PIPE")
            elif char == "^":
                self.add_token("STAR_STAR")
            else:
                self.identifier()
            return
        if char == "." and not self.peek_next().isdigit():
            raise refusal(self.code, self.current, "`.` for all other columns is not part of the formula language; name the columns")
        super().scan_token()

    def identifier(self) -> None:
        """A name: letters, digits, dots and underscores (Python's literals are names like any other)."""
        while self.peek().isalnum() or (self.peek() and self.peek() in "._"):
            self.advance()
        self.add_token("IDENTIFIER")

    def number(self) -> None:
        """A number that begins with a digit."""
        while self.peek().isdigit():
            self.advance()
        self.floatnum()

    def floatnum(self) -> None:
        """The rest of a number: fraction and exponent."""
        if self.peek() == ".":
            self.advance()
        while self.peek().isdigit():
            self.advance()
        if self.peek() in {"e", "E"} and (self.peek_next().isdigit() or self.peek_next() in {"-", "+"}):
            self.advance()
            self.advance()
            while self.peek().isdigit():
                self.advance()
        text = self.code[self.start : self.current]
        try:
            value = float(text)
        except ValueError:
            raise refusal(self.code, self.start, f"`{shorten(text, 40)}` is not a number") from None
        is_zero = not any(digit in "123456789" for digit in re.split("[eE]", text)[0])
        if math.isinf(value) or (value == 0) != is_zero:
            size = "large" if math.isinf(value) else "small"
            raise refusal(self.code, self.start, f"`{shorten(text, 40)}` is too {size} for a number (1e-300 to 1e300)")
        self.add_token("NUMBER", value)

    def backquote(self) -> None:
        """A name in backquotes: anything goes but another backquote."""
        begin = int(self.current)  # type: ignore[has-type]
        end = self.code.find("`", begin)
        if end < 0:
            raise refusal(self.code, self.start, "the backquote that opens here is never closed")
        if end == begin:
            raise refusal(self.code, self.start, "the name between these backquotes is empty")
        unusable = unusable_character(self.code[begin:end])
        if unusable is not None:
            raise refusal(self.code, self.start, f"the name between these backquotes holds the character {unusable}; rename the column")
        self.current = end + 1
        self.add_token("BQNAME")


class PrecedenceParser(Parser):
    """As in R: powers bind tighter than a minus sign and group to the right."""

    def multiple_interaction(self) -> Node:
        """A signed power."""
        if self.match(["PLUS", "MINUS"]):
            return Unary(self.previous(), self.multiple_interaction())
        base = self.call()
        if not self.match("STAR_STAR"):
            return base
        return Binary(base, self.previous(), self.multiple_interaction())


def syntax_tree(text: str) -> Node:
    """The syntax tree of a formula; the root is a ``~`` with both sides.

    Raises
    ------
    FormulaError
        If the text cannot be read.
    """
    if not text.strip():
        raise FormulaError("The formula is empty: write outcome ~ predictors, for example amount ~ 1 + (1 | category).")
    if len(text) > MOST_CHARACTERS:
        raise refusal(text, None, f"it has {len(text):,} characters, more than {MOST_CHARACTERS:,}; name fewer terms")
    tildes = [index for index, char in enumerate(text) if char == "~"]
    if "`" not in text and len(tildes) != 1:
        _refuse_tildes(text, tildes)
    try:
        parser = PrecedenceParser(PlacedScanner(text).scan(add_intercept=False))
    except ScanError as error:
        raise refusal(text, None, f"{error}") from None
    try:
        tree = parser.parse()
    except ParseError:
        rest = parser.peek()
        raise refusal(text, getattr(rest, "position", None), _unreadable(rest)) from None
    except RecursionError:
        raise refusal(text, None, TOO_DEEP) from None
    is_whole = isinstance(tree, Binary) and tree.operator.kind == "TILDE"
    if not is_whole and (parser.at_end() or len(tildes) != 1):
        _refuse_tildes(text, tildes)
    if not parser.at_end():
        rest = parser.peek()
        raise refusal(text, rest.position, _left_over(rest.kind))
    if _is_too_deep(tree):
        raise refusal(text, None, TOO_DEEP)
    return tree


def _is_too_deep(tree: Node) -> bool:
    """Whether anything that reads the tree by recursion would go deeper than ``DEEPEST``."""
    pending: list[tuple[Node, int, bool]] = [(tree, 0, False)]
    while pending:
        node, depth, is_inside_call = pending.pop()
        if depth > DEEPEST:
            return True
        if isinstance(node, Binary):
            # a sum of terms is read in a loop, all other operations by recursion
            is_sum = node.operator.kind in {"PLUS", "MINUS"} and not is_inside_call
            pending.append((node.left, depth + (not is_sum), is_inside_call))
            pending.append((node.right, depth + 1, is_inside_call))
        elif isinstance(node, Unary):
            pending.append((node.right, depth + 1, is_inside_call))
        elif isinstance(node, Grouping):
            pending.append((node.expression, depth + 1, is_inside_call))
        elif isinstance(node, Call):
            pending += [(part, depth + 1, True) for part in (node.callee, *node.args)]
        elif isinstance(node, Assign):
            pending.append((node.value, depth + 1, is_inside_call))
    return False


def _refuse_tildes(text: str, tildes: list[int]) -> Never:
    if len(tildes) > 1:
        raise refusal(text, tildes[1], "there is more than one ~; write outcome ~ predictors")
    raise refusal(text, None, "it has no ~ between the outcome and the predictors; write outcome ~ predictors")


def _unreadable(token: Node) -> str:
    if token.kind == "EOF":
        return "it ends too early; a name, a number or a closing bracket is missing"
    if token.kind == "TILDE":
        return "the outcome is missing before the ~"
    return f"a name, a number or a bracket was expected before `{token.lexeme}` (a name with spaces needs backticks: `unit price`)"


def _left_over(kind: str) -> str:
    if kind == "PIPE":
        return "a group term needs its own brackets; write (1 | group)"
    if kind == "RIGHT_PAREN":
        return "this bracket was never opened"
    return "an operator (+ - : * /) is missing before this, or a name with spaces needs backticks (`unit price`)"
