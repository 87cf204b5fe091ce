"""What lies where no pixel tells: as dark or bright as the wing's slope wandered farther in."""

import numpy as np

from bayesprf.uncertainty.joint_errors import extrapolated_variance


def test_extrapolated_light_errs_as_the_slope_wanders():
    # A slope that changes by a normal number of variance w step at each of many small steps of ln r.
    rng = np.random.default_rng(5)
    wander, step, n_step = 0.04, 0.01, 100
    slope = np.cumsum(rng.normal(0.0, np.sqrt(wander * step), (4000, n_step)), axis=1)
    expected = np.var(np.sum(slope, axis=1) * step)
    radius = np.array([8.0, 8.0 * np.e])
    found = extrapolated_variance(np.array([[True], [False]]), radius, wander)
    # The variance of 4000 draws is known to 2.2 %.
    np.testing.assert_allclose(found[:, 0], [0.0, expected], rtol=0.08)


def test_no_more_than_a_uniform_number_is_claimed():
    radius = np.array([8.0, 16.0, 32.0])
    told = np.array([[True, False], [False, False], [False, False]])
    found = extrapolated_variance(told, radius, 1e9)
    np.testing.assert_allclose(found, np.where(told, 0.0, 1.0 / 3.0))
