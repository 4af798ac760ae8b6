"""Formula text to a syntax tree, by formulae's scanner and parser, with what lme4 users write and formulae does not read.

Added here: ``||``, ``^``, numbers such as ``1e-3``, names that begin with an underscore, R's precedence of unary minus and powers, and
the place of each token, so that an error can point at it. Nothing is evaluated.
"""

from __future__ import annotations

from typing import Any, Never

from formulae.expr import Binary, Unary
from formulae.parser import ParseError, Parser
from formulae.scanner import ScanError, Scanner

from multilevel.errors import FormulaError

type Node = Any
"""A node of formulae's syntax tree (formulae has no types)."""

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
    where = "" if position is None else f" at character {position + 1}, `{text[position : position + 20].strip()}`"
    return FormulaError(f"The formula `{text}` cannot be used{where}: {what}.")


class PlacedScanner(Scanner):
    """Tokens that know their place (``token.position``)."""

    def add_token(self, kind: str, literal: object = None) -> None:
        """Remember where the token begins."""
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
            self.add_token("NUMBER", float(text))
        except ValueError:
            raise refusal(self.code, self.start, f"`{text}` is not a number") from None

    def backquote(self) -> None:
        """A name in backquotes: anything goes but another backquote."""
        begin = int(self.current)  # type: ignore[has-type]
        end = self.code.find("`", begin)
        if end < 0:
            raise refusal(self.code, self.start, "the backquote that opens here is never closed")
        if end == begin:
            raise refusal(self.code, self.start, "the name between these backquotes is empty")
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
        raise refusal(text, None, "it is nested too deeply") from None
    is_whole = isinstance(tree, Binary) and tree.operator.kind == "TILDE"
    if not is_whole and (parser.at_end() or len(tildes) != 1):
        _refuse_tildes(text, tildes)
    if not parser.at_end():
        rest = parser.peek()
        raise refusal(text, rest.position, _left_over(rest.kind))
    return tree


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
