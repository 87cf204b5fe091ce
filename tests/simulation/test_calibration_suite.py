"""The full calibration suite: 10,000 draws from the prior, the march of a second star, thousands of verdicts."""

from functools import cache

import numpy as np
import pytest

from bayesprf.calibration import COVERAGE, RATIOS, SEPARATIONS, calibrate

pytestmark = pytest.mark.slow

N_TRIAL, N_REALISATION, N_VERDICT = 10_000, 20_000, 2000


@cache
def report():
    return calibrate(np.random.default_rng(0), n_trial=N_TRIAL, n_realisation=N_REALISATION, n_verdict=N_VERDICT)


def test_ranks_stay_in_the_band():
    assert [one.blend for one in report().ranks if one.distance > one.band] == []


def test_intervals_cover():
    """12 stars x 3 intervals: the largest of 36 deviates of a right posterior is below 3.5 in 98 of 100 suites."""
    coverage = np.array([one.coverage for one in report().ranks if one.coverage])
    error = np.sqrt(np.array(COVERAGE) * (1.0 - np.array(COVERAGE)) / N_TRIAL)
    deviate = np.abs(coverage - COVERAGE) / error
    assert deviate.max() < 3.5
    assert np.mean(deviate < 2.0) > 0.85


def test_scores_of_the_march():
    assert len(report().march) == len(SEPARATIONS) * len(RATIOS)
    for one in report().march:
        assert np.abs(one.mean).max() < 0.03
        assert np.abs(np.array(one.std) - 1.0).max() < 0.02
        assert one.seen == pytest.approx(one.reported, abs=4.0 * (1.0 - one.reported**2) / np.sqrt(N_REALISATION))


@pytest.mark.parametrize("kind", ["second_star", "eclipse"])
def test_probabilities_come_true(kind):
    checks = getattr(report(), kind)
    for one in checks:
        error = max(np.sqrt(one.claimed * (1.0 - one.claimed) / one.count), 0.5 / one.count)
        assert abs(one.right - one.claimed) < 4.0 * error
    sure = checks[-1]
    assert sure.low == 0.99
    assert sure.right > 0.99


def test_false_stars_are_rare():
    half, _, sure = report().false_stars
    assert half < 0.05
    assert sure <= 0.01
