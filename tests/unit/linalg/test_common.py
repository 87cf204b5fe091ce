"""Patterns that all batch rows share, against one dense Gaussian over all data."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import multivariate_normal

from bayesprf.errors import UnsupportedError
from bayesprf.linalg.common import sum_rows
from bayesprf.linalg.kronecker import KroneckerDesign
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack

N_BATCH, N_OBS, N_COEFF = 3, 6, 2


def make_problem(rng, *, moving=False):
    indices = np.tile(np.arange(N_COEFF), N_OBS)
    parts = rng.uniform(0.2, 1.0, (2 if moving else 1, indices.size))
    mix = rng.uniform(0.5, 1.5, (N_BATCH, 2)) if moving else None
    design = DesignStack(N_COEFF * np.arange(N_OBS + 1), indices, parts, N_COEFF, mix)
    ivar = rng.uniform(0.5, 2.0, (N_BATCH, N_OBS))
    ivar[1, 2] = 0.0
    data = rng.normal(size=(N_BATCH, N_OBS))
    data[1, 2] = np.nan
    return LinearProblem(design, data, ivar, GaussianPrior(np.array([1.0, -0.5]), np.array([0.3, 2.0])), np.ones(N_OBS))


def dense_log_density(problem, pattern):
    """Return log N(y; ...) over all data, with covariance `pattern` (n_obs, n_obs) common to all rows."""
    n = N_BATCH * N_OBS
    covariance, mean = np.tile(pattern, (N_BATCH, N_BATCH)), np.empty(n)
    for batch in range(N_BATCH):
        rows = slice(batch * N_OBS, (batch + 1) * N_OBS)
        x = problem.design.matrix(batch).toarray()
        covariance[rows, rows] += x @ np.diag(1 / problem.prior.precision) @ x.T
        mean[rows] = x @ problem.prior.mean + problem.known
    used = problem.ivar.ravel() > 0
    covariance = covariance[np.ix_(used, used)] + np.diag(1 / problem.ivar.ravel()[used])
    return multivariate_normal.logpdf(problem.data.ravel()[used], mean[used], covariance)


@pytest.mark.parametrize("moving", [False, True])
def test_gain_of_a_pattern_equals_the_ratio_of_dense_evidences(moving):
    rng = np.random.default_rng(5)
    problem = make_problem(rng, moving=moving)
    column, errors, width = rng.normal(size=N_OBS), rng.normal(size=(N_OBS, 3)), 0.7
    precision, rhs = sum_rows(problem).with_errors(errors).project(column)
    gain = 0.5 * rhs**2 / (precision + width**-2) - 0.5 * np.log1p(width**2 * precision)
    common = errors @ errors.T
    expected = dense_log_density(problem, common + width**2 * np.outer(column, column)) - dense_log_density(
        problem, common
    )
    assert gain == pytest.approx(expected, abs=1e-10)


def test_only_a_design_stack_is_taken():
    design = KroneckerDesign(np.ones((2, 1)), csr_matrix(np.eye(2)))
    problem = LinearProblem(design, np.zeros((1, 4)), np.ones((1, 4)), GaussianPrior(np.zeros(2), np.ones(2)))
    with pytest.raises(UnsupportedError, match="expected a DesignStack as design, got KroneckerDesign"):
        sum_rows(problem)
