"""The pointing that the pixels tell, and light curves that follow it."""

import numpy as np
import pytest

from bayesprf.quality.pointing import measure_pointing


def test_pointing_is_that_of_the_simulation(cases):
    """To 5 % of its range, in the frame of the sky, whose axes are turned against the detector's."""
    field, machine = cases.fitted("drift")
    found = measure_pointing(cases.residuals("drift"), machine.ws)
    truth = field.pixels.pos_corr - field.pixels.pos_corr.mean(axis=0)
    left = truth - found.motion @ np.linalg.lstsq(found.motion, truth, rcond=None)[0]
    assert left.std() < 0.05 * truth.std()
    assert found.motion.std() == pytest.approx(truth.std(), rel=0.1)


def test_light_curves_follow_it(cases):
    """Light curves of noise, on top of what they have of the pointing."""
    left = cases.residuals("roll")
    pointing = measure_pointing(left, np.zeros((left.pixels.n_time, left.error.size))).motion
    noise = np.random.default_rng(1).standard_normal((left.pixels.n_time, left.error.size))
    share = np.linspace(0.0, 3.0, left.error.size)
    found = measure_pointing(left, noise + share * pointing[:, [0]] / pointing[:, 0].std())
    assert found.significance[share < 0.3].max() < 5.0
    assert found.significance[share > 2.0].min() > 3.0
    large = share > 1.0
    assert np.median(found.scatter[large] / share[large]) == pytest.approx(1.0, abs=0.3)


def test_noise_does_not_follow(cases):
    """Light curves of noise beside a pointing that is not theirs."""
    left = cases.residuals("drift")
    flux = np.random.default_rng(1).standard_normal((left.pixels.n_time, left.error.size))
    assert measure_pointing(left, flux).significance.max() < 4.5


def test_slow_light_curves_follow_no_more_than_chance(cases):
    left = cases.residuals("drift")
    time = np.arange(left.pixels.n_time)[:, None] / left.pixels.n_time
    phase = np.random.default_rng(2).uniform(0.0, 2.0 * np.pi, left.error.size)
    found = measure_pointing(left, np.sin(2.0 * np.pi * time + phase))
    assert np.median(found.significance) < 2.0


def test_still_pointing_is_not_followed(cases):
    _, machine = cases.fitted()
    found = measure_pointing(cases.residuals(), machine.ws)
    assert found.span < 0.01
    assert found.scatter.max() == 0.0
