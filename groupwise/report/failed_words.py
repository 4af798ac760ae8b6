"""What checks that did not pass do to the numbers, said before the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from groupwise.report.dependence import ENOUGH, consequence
from groupwise.report.label_words import sentence

NARROW = "intervals are too narrow, and ranks look more settled than they are"
WIDE = "intervals are wider than they need be: the data vary less than the model expects"
MEANS = "estimates themselves may be off: the model's means do not follow the data's"
SAMPLER = "the sampler may not have found the whole posterior: estimates and intervals may both be off"
OPTIMISER = "the fit may not have reached its best values: estimates and intervals may both be off"
SIMPLER = (
    "a spread between groups is estimated as zero, or two effects as moving in step: what the data leave open is taken as known there, and "
    "intervals may be too narrow"
)
APPROXIMATE = "averages are off and intervals too narrow: line items are too few, level by level, for the approximation that was fitted"
SIGN = "an effect within groups has the opposite sign of the one between them: do not read one for the other"
UNEVEN = "intervals of groups whose line items vary more than those of others are too narrow, those of the others too wide"
SHAPE = "intervals and shares of single outcomes may be off: the data vary otherwise than the model says"

_EFFECTS: Mapping[str, str] = {
    "sampled": "intervals can be several times too narrow, and ranks look more settled than they are",
    "design_effect": NARROW,
    "dispersion_ratio": NARROW,
    "largest_group_sd": MEANS,
    "omitted_interaction": NARROW,
    "omitted_slope": NARROW,
    "uneven_spread": UNEVEN,
    "laplace_accuracy": APPROXIMATE,
    "calibration_of_means": MEANS,
    "lognormal_shape": MEANS,
    "fitted_mean": MEANS,
    "predictive_dispersion": NARROW,
    "predictive_": SHAPE,
    "posterior_predictive": SHAPE,
    "elpd_loo": SHAPE,
    "max_r_hat": SAMPLER,
    "min_ess": SAMPLER,
    "n_divergences": SAMPLER,
    "converged": OPTIMISER,
    "singular": SIMPLER,
    "contextual_effect": SIGN,
    "opposite_slopes": SIGN,
    "bootstrap_failures": "bootstrap intervals may be off: too many of the drawn data sets could not be fitted",
}
ALIKE = "some line items are alike and the formula does not know it, which hardly changes the intervals"
OTHER = "read the numbers that it names with care"


def effect_of(row: Mapping[str, object]) -> str:
    """What it does to the numbers that this check did not pass; a ratio of dispersion below one errs to the other side."""
    if ENOUGH in consequence(row):
        return ALIKE
    words = next((words for start, words in _EFFECTS.items() if str(row["check"]).startswith(start)), OTHER)
    value = row.get("value")
    return WIDE if words == NARROW and isinstance(value, int | float) and value < 1 else words


def are_intervals_too_narrow(failed: Sequence[Mapping[str, object]]) -> bool:
    """Whether one of the checks that did not pass says so: nothing is then called settled."""
    return any(effect_of(row) in {NARROW, _EFFECTS["sampled"]} for row in failed)


def effects_of(failed: Sequence[Mapping[str, object]], *, is_narrow_said: bool = False) -> str:
    """One sentence for all of them, each effect once, in the order in which they are listed above; empty where all passed.

    ``is_narrow_said`` : that intervals are too narrow was said before.
    """
    found = [effect_of(row) for row in failed]
    # what makes every interval too narrow is said once, in its stronger form
    stronger = _EFFECTS["sampled"]
    said = {NARROW, stronger, ALIKE} if is_narrow_said else {NARROW} if stronger in found else set()
    kept = dict.fromkeys(words for words in found if words not in said)
    told = [words for words in kept if words != OTHER] or list(kept)
    order = [*_EFFECTS.values(), WIDE, ALIKE, OTHER]
    return sentence(f"{'; '.join(sorted(told, key=order.index))}.") if told else ""
