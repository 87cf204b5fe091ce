"""Light that is known beforehand: every solver treats it as taken off the data."""

import numpy as np
import pytest
from scipy.sparse import random_array

from bayesprf.errors import InputError, ShapeError
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.residuals import residual_sums
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.linalg.stack import DesignStack

N_BATCH, N_OBS, N_COEFF = 5, 40, 6


@pytest.fixture
def parts():
    """Design, data, inverse variances with a hole, prior and known light."""
    rng = np.random.default_rng(4)
    design = DesignStack.from_sparse(random_array((N_OBS, N_COEFF), density=0.4, rng=rng, format="csr"))
    data, ivar = rng.normal(size=(N_BATCH, N_OBS)), rng.uniform(0.5, 2.0, (N_BATCH, N_OBS))
    data[2, 3], ivar[2, 3] = np.nan, 0.0
    prior = GaussianPrior.from_sigma(rng.normal(size=N_COEFF), np.full(N_COEFF, 3.0))
    return design, data, ivar, prior, rng.normal(size=N_OBS)


@pytest.mark.parametrize("solver", [DenseSolver(), BlockSolver(1)], ids=["dense", "blocks"])
def test_known_light_is_as_good_as_subtracted(parts, solver):
    design, data, ivar, prior, known = parts
    given = solver.solve(LinearProblem(design, data, ivar, prior, known))
    taken_off = solver.solve(LinearProblem(design, data - known, ivar, prior))
    for name in ("mean", "std", "log_evidence"):
        np.testing.assert_allclose(getattr(given, name), getattr(taken_off, name), rtol=1e-11)
    np.testing.assert_allclose(given.covariance(2), taken_off.covariance(2), rtol=1e-11)


def test_solvers_agree(parts):
    dense, blocks = (one.solve(LinearProblem(*parts)) for one in (DenseSolver(), BlockSolver(1)))
    np.testing.assert_allclose(dense.mean, blocks.mean, rtol=1e-10)
    np.testing.assert_allclose(dense.log_evidence, blocks.log_evidence, rtol=1e-10)


def test_prediction_and_residuals_hold_it(parts):
    design, data, ivar, _, known = parts
    problem = LinearProblem(*parts)
    mean = DenseSolver().solve(problem).mean
    predicted = (design.matrix() @ mean.T).T + known
    np.testing.assert_allclose(problem.predict(mean), predicted, rtol=1e-12)
    touches = design.matrix().toarray() != 0
    squares = np.where(ivar > 0, ivar * (np.nan_to_num(data) - predicted) ** 2, 0.0)
    chi2, count = residual_sums(problem, mean)
    np.testing.assert_allclose(chi2, squares @ touches, rtol=1e-10)
    np.testing.assert_array_equal(count, (ivar > 0).astype(int) @ touches)


def test_nothing_is_known_by_default(parts):
    problem = LinearProblem(*parts[:4])
    np.testing.assert_array_equal(problem.known, np.zeros(N_OBS))


def test_wrong_known_light_is_refused(parts):
    with pytest.raises(ShapeError, match=r"^known: expected shape \(40,\) \(n_obs\), got \(3,\)"):
        LinearProblem(*parts[:4], np.zeros(3))
    with pytest.raises(InputError, match=r"^known: expected finite numbers, got nan at index 0"):
        LinearProblem(*parts[:4], np.full(N_OBS, np.nan))
