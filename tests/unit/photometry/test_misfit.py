"""What each pixel usually differs from the model by."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.misfit import UsualMisfit, find_misfit

N_TIME, N_PIXEL = 160, 30


def make_problem(misfit, *, seed=0, missing=()):
    """Return pixels without stars, whose noise of one lies on a misfit of shape (n_time, n_pixel)."""
    noise = np.random.default_rng(seed).standard_normal((N_TIME, N_PIXEL))
    ivar = np.ones((N_TIME, N_PIXEL))
    for where in missing:
        ivar[where] = 0.0
    design = DesignStack.from_sparse(csr_matrix(np.ones((N_PIXEL, 1))))
    return LinearProblem(design, noise + misfit, ivar, GaussianPrior(np.zeros(1), np.ones(1)))


def test_constant_misfit_is_the_median():
    level = np.linspace(-20.0, 20.0, N_PIXEL)
    problem = make_problem(np.tile(level, (N_TIME, 1)))
    usual = find_misfit(problem, np.zeros((N_TIME, 1)))
    assert usual.is_constant
    np.testing.assert_allclose(usual.values[0], np.median(problem.data, axis=0))
    # The median of 160 numbers has a standard deviation of 0.1, the scatter one of 8 %.
    assert np.abs(usual.values[0] - level).max() < 0.35
    assert usual.scatter.min() == 1.0
    assert usual.scatter.max() < 1.3


def test_drifting_misfit_is_followed():
    """A sine of 20 standard deviations and 160 cadences is followed to half a standard deviation, ends included."""
    wave = 20.0 * np.sin(2.0 * np.pi * np.arange(N_TIME) / N_TIME)
    truth = np.outer(wave, np.linspace(0.5, 1.0, N_PIXEL))
    usual = find_misfit(make_problem(truth), np.zeros((N_TIME, 1)))
    assert not usual.is_constant
    left = usual.at(np.arange(N_TIME)) - truth
    assert np.sqrt(np.mean(left**2)) < 0.5
    assert np.sqrt(np.mean(left[[0, -1]] ** 2)) < 1.5
    assert np.median(usual.scatter) < 1.2


def test_outliers_and_gaps_do_not_matter():
    truth = np.tile(np.linspace(-5.0, 5.0, N_PIXEL), (N_TIME, 1))
    problem = make_problem(truth, missing=[(slice(None), 3), (slice(0, 100), 7)])
    problem.data[20:40, 5] += 1e6
    usual = find_misfit(problem, np.zeros((N_TIME, 1)))
    assert usual.values[0, 3] == 0.0
    assert abs(usual.values[0, 7] - truth[0, 7]) < 0.7
    assert abs(usual.values[0, 5] - truth[0, 5]) < 0.5


def test_straight_lines_through_the_middles():
    usual = UsualMisfit(np.array([10.0, 20.0, 40.0]), np.array([[0.0], [10.0], [50.0]]), np.ones(1))
    np.testing.assert_allclose(usual.at(np.array([0, 10, 15, 30, 50]))[:, 0], [-10.0, 0.0, 5.0, 30.0, 70.0])


@pytest.mark.parametrize("n_time", [5, 8, 15, 16])
def test_few_cadences_of_noise_have_one_misfit(n_time):
    problem = make_problem(np.zeros((N_TIME, N_PIXEL))).take(np.arange(n_time))
    assert find_misfit(problem, np.zeros((n_time, 1))).is_constant
