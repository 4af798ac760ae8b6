"""formulae's scanner, parser and syntax nodes, without the rest of it.

Importing the package as usual also loads its design matrices, and with them pandas and SciPy's interpolation: seconds that a command which
reads a formula need not wait for. Its modules for the grammar need none of that, so that they are loaded from the package's folder; of
``formulae.utils``, which imports pandas, they use one function, and have ours.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

PACKAGE = "formulae"


def _modules(*names: str) -> list[Any]:
    """Modules of the package, loaded beside an empty package that is removed again: whoever imports formulae later gets all of it."""
    if PACKAGE in sys.modules:
        return [import_module(f"{PACKAGE}.{name}") for name in names]
    spec = find_spec(PACKAGE)
    if spec is None:
        raise ImportError(f"{PACKAGE} is not installed")
    empty: ModuleType = module_from_spec(spec)
    sys.modules |= {PACKAGE: empty, f"{PACKAGE}.utils": _utils()}
    try:
        return [import_module(f"{PACKAGE}.{name}") for name in names]
    finally:
        for loaded in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[loaded]


def _utils() -> ModuleType:
    """What the parser uses of ``formulae.utils``."""
    utils = ModuleType(f"{PACKAGE}.utils")

    def listify(one_or_several: object) -> object:
        return one_or_several if isinstance(one_or_several, list | tuple) else [one_or_several]

    utils.listify = listify  # type: ignore[attr-defined]
    return utils


_expr, _parser, _scanner = _modules("expr", "parser", "scanner")

Assign, Binary, Call, Grouping = _expr.Assign, _expr.Binary, _expr.Call, _expr.Grouping
Literal, QuotedName, Unary, Variable = _expr.Literal, _expr.QuotedName, _expr.Unary, _expr.Variable
Parser, ParseError = _parser.Parser, _parser.ParseError
Scanner, ScanError = _scanner.Scanner, _scanner.ScanError
