"""What NUTS does when draws are not sound: shorter steps after divergences, longer chains where effective draws are too few."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from multilevel.bayesian import nuts_fit
from multilevel.bayesian.convergence import convergence
from multilevel.bayesian.importance_points import Tell
from multilevel.bayesian.nuts_fit import NutsDraws, _Effort, _is_sound, sample_nuts
from multilevel.bayesian.priors import Priors, resolve_priors
from multilevel.bayesian.sampling import Sampling
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.reduction import outcome_of, reduce_design
from multilevel.formula.parse import parse_formula

scouted, attempt = nuts_fit._scouted, nuts_fit._attempt


def sampled(draws: int, frame: pd.DataFrame | None = None, progress: Tell | None = None) -> NutsDraws:
    if frame is None:
        frame = pd.DataFrame({"g": list("abcdef") * 20, "y": np.random.default_rng(0).integers(0, 2, 120)})
    formula = parse_formula("y ~ 1 + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, frame, "binomial"))
    rows, priors = reduce_design(design), resolve_priors(design, "binomial", Priors())
    outcome, how = outcome_of(design.cells, rows, "binomial"), Sampling(draws=draws, tune=100, cores=1)
    return sample_nuts(rows, outcome, priors, how, seed=1, progress=progress)


@pytest.fixture(scope="module")
def drawn() -> NutsDraws:
    return sampled(300)


def test_divergences_call_for_shorter_steps_until_there_are_none_shorter() -> None:
    efforts = [_Effort(0, 1)]
    for _ in range(4):
        efforts.append(efforts[-1].after(divergences=3))
    assert [effort.target for effort in efforts] == [0.8, 0.95, 0.99, 0.995, 0.995]
    assert [effort.longer for effort in efforts] == [1, 1, 1, 1, 2]


def test_too_few_effective_draws_call_for_longer_chains() -> None:
    assert _Effort(1, 1).after(divergences=0) == _Effort(1, 2)


@pytest.mark.parity
def test_a_coefficient_that_moves_slowly_is_not_sound(drawn: NutsDraws) -> None:
    assert _is_sound(drawn)
    values = drawn.values.reshape(4, 300, -1).copy()
    values[:, :, 2] = np.sort(values[:, :, 2], axis=1)
    slow = replace(drawn, values=values.reshape(1200, -1), figures=convergence(values))
    assert not _is_sound(slow)
    assert not _is_sound(replace(drawn, divergences=1))


def zeros_and_ones(levels: int, rows_each: int, sd: float) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(levels), rows_each)
    y = rng.random(len(g)) < expit(sd * rng.normal(size=levels))[g]
    return pd.DataFrame({"g": [f"level {i:03d}" for i in g], "y": y.astype(int)})


@pytest.mark.parity
def test_where_levels_say_little_the_pilot_goes_where_a_short_run_finds_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    own = []
    monkeypatch.setattr(nuts_fit, "_scouted", lambda model, *_, **__: own.append(model) or scouted(model, *_, **__))
    found = sampled(150, zeros_and_ones(150, 3, 2.5))
    (before,), after = own[0].pilot.covariances, found.pilot.covariances[0]
    posterior = np.median(found.thetas[..., 0])
    assert np.log(before[0, 0]) / 2 < posterior - 0.4, "the normal approximation makes the variance too small"
    assert np.log(after[0, 0]) / 2 == pytest.approx(posterior, abs=0.2)
    assert found.record["tune"] == 200, "the draws are from a run of their own, tuned in full"


@pytest.mark.parity
def test_where_levels_say_enough_no_short_run_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    monkeypatch.setattr(nuts_fit, "_attempt", lambda *arguments, **named: runs.append(named["seed"]) or attempt(*arguments, **named))
    sampled(150, zeros_and_ones(12, 60, 1.0))
    assert runs == [1]


@pytest.mark.parity
def test_what_was_tried_before_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([False, False, True])
    monkeypatch.setattr(nuts_fit, "_is_sound", lambda found: next(verdicts))
    found = sampled(100)
    before = found.record["earlier_attempts"]
    assert isinstance(before, list)
    assert len(before) == 2
    # fewer than two hundred coefficients: tuning is doubled from the start; each attempt without a divergence is twice as long
    assert [attempt["divergences"] for attempt in before] == [0, 0]
    assert [(attempt["thin"], attempt["tune"]) for attempt in before] == [(2, 200), (4, 400)]
    assert found.record["thin"] == 8


def test_the_number_of_draws_is_told_while_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuts_fit, "PROGRESS_MILLISECONDS", 5)
    told: list[tuple[str, float]] = []
    sampled(1_500, progress=lambda doing, share: told.append((doing, share)))
    assert len(told) > 2
    assert all(re.fullmatch(r"[\d,]+ of [\d,]+ draws, warm-up included", doing) for doing, _ in told)
    shares = [share for _, share in told]
    assert all(0.0 <= share <= nuts_fit.OF_DRAWS for share in shares)
    assert max(shares) > 0.0
