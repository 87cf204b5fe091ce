"""The full calibration suite: draws from the prior, the march of a second star, verdicts by the thousand, samplers."""

from functools import cache

import numpy as np
import pytest

from bayesprf.validation.suite import COVERAGE, RATIOS, SEPARATIONS, calibrate, check_samplers

pytestmark = pytest.mark.slow

N_TRIAL, N_REALISATION, N_VERDICT = 10_000, 20_000, 2000


@cache
def report():
    return calibrate(np.random.default_rng(0), n_trial=N_TRIAL, n_realisation=N_REALISATION, n_verdict=N_VERDICT)


def test_ranks_stay_in_the_band():
    assert [one.label for one in report().ranks if one.distance > one.band] == []


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


@pytest.mark.pymc
def test_samplers_are_calibrated():
    """200 trials of grid and NUTS on the same data; ranks of 7 quantities each within the 99 % band.

    Grid and NUTS see the same data and so nearly the same ranks: there are about 7 independent rows, and all lie within
    the band in 93 of 100 suites of right samplers. NUTS is told from a right sampler by its difference from the grid,
    too: both ranks of a trial differ by no more than 99 draws allow.
    """
    pytest.importorskip("nutpie")
    report = check_samplers(200, np.random.default_rng(0))
    assert [one.label for one in report.checks if one.distance > one.band] == []
    assert report.correlation < 0.05
    assert report.n_divergent < 1e-3 * 200 * 990
    grid, nuts = (np.array([one.rank for one in report.checks if one.of == name]) for name in ("grid", "NUTS"))
    spread = np.sqrt(2.0 * grid * (1.0 - grid) / 99 + 2.0 / 99**2)
    assert np.sqrt(np.mean(((grid - nuts) / spread) ** 2)) == pytest.approx(1.0, abs=0.15)
