"""Weights that tolerate outliers, and what a fit with them keeps."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.errors import InputError
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.solvers.robust import StudentWeights
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.robust import DownWeighted, PixelWeights, fit_robustly


def test_errors_quoted_under_weights_are_those_of_gaussian_data():
    """A mean of numbers with scatter 1: its variance over many samples is what the weights say."""
    rng = np.random.default_rng(5)
    for inner in (StudentWeights(4.0), StudentWeights(1.0)):
        weighting = PixelWeights(np.ones(1), inner)
        data = rng.normal(size=(4000, 200))
        mean = np.zeros(4000)
        for _ in range(30):
            weight = weighting.weights((data - mean[:, None]) ** 2)
            mean = (weight * data).sum(axis=1) / weight.sum(axis=1)
        assert mean.var() * weight.sum(axis=1).mean() == pytest.approx(1.0, abs=0.1)


def problem_of(data, misfit):
    """Pixels that one star lights evenly, with a misfit that is the same at all cadences; errors of one."""
    design = DesignStack.from_sparse(csr_matrix(np.ones((data.shape[1], 1))))
    return LinearProblem(design, data + misfit, np.ones_like(data), GaussianPrior(np.zeros(1), np.full(1, 1e-12)))


def test_the_usual_misfit_is_no_outlier_and_a_hit_is():
    """Pixels miss the model by up to 20 standard deviations at every cadence; one is hit by 40 at one cadence."""
    rng = np.random.default_rng(3)
    data, misfit = 100.0 + rng.standard_normal((80, 30)), np.linspace(-20.0, 20.0, 30)
    clean = fit_robustly(problem_of(data, misfit), BlockSolver(1))
    assert clean.weight.size < 5
    struck = data.copy()
    struck[33, 4] += 40.0
    hit = fit_robustly(problem_of(struck, misfit), BlockSolver(1))
    assert (33, 4) in zip(hit.batch, hit.observation, strict=True)
    plain = BlockSolver(1).solve(problem_of(struck, misfit)).mean - BlockSolver(1).solve(problem_of(data, misfit)).mean
    assert plain[33, 0] == pytest.approx(40.0 / 30.0, rel=1e-6)
    moved = hit.posterior.mean - clean.posterior.mean
    assert np.abs(moved).max() < 0.3 / np.sqrt(30)
    assert np.isnan(hit.posterior.log_evidence).all()


def test_down_weighted_pixels_are_those_of_their_sources():
    design = DesignStack.from_sparse(csr_matrix(np.array([[1.0, 0.0], [1.0, 2.0], [0.0, 1.0]])))
    held = DownWeighted(np.array([0, 2]), np.array([0, 1]), np.array([0.1, 0.02]))
    np.testing.assert_array_equal(held.touches(design, 3), [[True, False], [False, False], [True, True]])
    assert not DownWeighted.empty().touches(design, 3).any()


def test_few_cadences_do_not_tell_what_is_usual():
    with pytest.raises(InputError, match=r"robust: expected at least \d+ cadences, .* got 3; fit without robust"):
        fit_robustly(problem_of(np.ones((3, 4)), np.zeros(4)), BlockSolver(1))
