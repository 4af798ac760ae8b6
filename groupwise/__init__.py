"""groupwise: from line items to published group estimates. The library behind the flow and the commands; it knows no Prefect.

In Python, ``import groupwise as gw``: ``gw.fit`` fits a formula to a data frame, a relation or a file. What is named here is imported when
it is first asked for, so that ``import groupwise`` itself costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from groupwise.interface.estimates import Estimates
    from groupwise.interface.fitted import Fit, fit
    from groupwise.interface.published import Published, run
    from groupwise.interface.published import open_version as open  # noqa: A004  gw.open
    from groupwise.study.study import Study
    from multilevel.errors import (
        DataError,
        FitError,
        FormulaError,
        GateError,
        GateWarning,
        GroupwiseError,
        PublishError,
        ResourceError,
        SourceError,
        StudyError,
    )

__all__ = [
    "DataError",
    "Estimates",
    "Fit",
    "FitError",
    "FormulaError",
    "GateError",
    "GateWarning",
    "GroupwiseError",
    "PublishError",
    "Published",
    "ResourceError",
    "SourceError",
    "Study",
    "StudyError",
    "fit",
    "open",
    "run",
]

if not TYPE_CHECKING:  # to the type checker, a name that is not here stays an error

    def __getattr__(name: str) -> object:
        """A public name, imported when it is first asked for (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in ("Fit", "fit"):
            from groupwise.interface import fitted as home
        elif name in ("Published", "open", "run"):
            from groupwise.interface import published as home
        elif name == "Estimates":
            from groupwise.interface import estimates as home
        elif name == "Study":
            from groupwise.study import study as home
        else:
            from multilevel import errors as home
        found = globals()[name] = getattr(home, "open_version" if name == "open" else name)
        return found

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
