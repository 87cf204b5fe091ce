"""Total flux errors cover the truth when PRF, catalogue and positions are wrong, without drift and with it."""

from functools import cache

import numpy as np
import pytest

from bayesprf.validation.absolute_flux import check_subsets, score_field

# In some fields the time model says of a star that it makes its light curve worse.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::bayesprf.errors.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::bayesprf.errors.QualityWarning"),
]

SEEDS = range(1, 25)
DRIFT = pytest.mark.parametrize("drifting", [False, True], ids=["static", "drift"])
# Share of truths wanted in the 68 % and in the 95 % interval.
WANTED = ((0.60, 0.76), (0.90, 0.98))
# Stars of a field share errors, so that the coverage over 24 fields is uncertain by more than this.
SLACK = 0.01
SUBSETS = ("bright", "faint", "isolated", "blended")


@cache
def fields(drifting):
    return tuple(score_field(seed, drifting=drifting) for seed in SEEDS)


@DRIFT
def test_fluxes_are_unbiased(drifting, record_property):
    checks = {one.name: one for one in check_subsets(fields(drifting))}
    for name, one in checks.items():
        record_property(f"median bias, {name}", f"{one.bias:.4f}")
    assert abs(checks["all"].bias) < 0.003
    assert abs(checks["isolated"].bias) < 0.003
    each = [check_subsets([one])[0].bias for one in fields(drifting)]
    assert np.abs(each).max() < 0.006


@DRIFT
@pytest.mark.parametrize("name", SUBSETS)
def test_intervals_cover_as_often_as_they_say(drifting, name, record_property):
    one = next(check for check in check_subsets(fields(drifting)) if check.name == name)
    record_property(f"coverage of 68 % and 95 %, {name}", f"{one.coverage[0]:.3f}, {one.coverage[1]:.3f}")
    for share, (low, high) in zip(one.coverage, WANTED, strict=True):
        assert low - SLACK < share < high + SLACK
