from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm, t

from bayesprf.errors import ConvergenceWarning, InputError
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.linalg.solvers.robust import RobustSolver, StudentWeights
from bayesprf.testing import make_problem


def clean_problem(n_batch=12, n_part=1, n_obs=60):
    return make_problem(
        np.random.default_rng(8), n_batch=n_batch, n_obs=n_obs, n_coeff=3, n_part=n_part, density=0.8, dropped=0.1
    )


def with_outlier(problem, batch, observation, sigma=30.0):
    data = problem.data.copy()
    data[batch, observation] += sigma / np.sqrt(problem.ivar[batch, observation])
    return replace(problem, data=data)


def strongest(problem, batch):
    """The used observation with the largest leverage."""
    return int(np.argmax(problem.ivar[batch] * DenseSolver().solve(problem).prediction_variance(batches=[batch])[0]))


@pytest.mark.parametrize("n_part", [1, 2])
def test_outlier_of_thirty_sigma_moves_the_estimate_by_less_than_half_a_std(n_part):
    problem = clean_problem(n_part=n_part, n_obs=300)
    batch = 5
    spoilt = with_outlier(problem, batch, strongest(problem, batch))
    clean, gaussian = BlockSolver().solve(problem), BlockSolver().solve(spoilt)
    robust = RobustSolver().solve(spoilt)
    assert np.max(np.abs(gaussian.mean - clean.mean)[batch] / clean.std[batch]) > 5.0
    reference = RobustSolver().solve(problem)
    assert np.max(np.abs(robust.mean - reference.mean)[batch] / clean.std[batch]) < 0.5
    others = np.arange(problem.n_batch) != batch
    np.testing.assert_allclose(robust.mean[others], reference.mean[others], rtol=1e-12)


def test_what_was_held_down_is_reported():
    problem = clean_problem()
    places = [(2, strongest(problem, 2)), (9, strongest(problem, 9))]
    spoilt = problem
    for batch, observation in places:
        spoilt = with_outlier(spoilt, batch, observation)
    fit = RobustSolver().fit(spoilt)
    strong = fit.weight < 0.05
    assert list(zip(fit.batch[strong], fit.observation[strong], strict=True)) == places
    assert fit.converged.all()


def test_student_weights_on_clean_data_give_nearly_the_gaussian_answer():
    problem = clean_problem(n_batch=200)
    gaussian, robust = BlockSolver().solve(problem), RobustSolver().solve(problem)
    shift = (robust.mean - gaussian.mean) / gaussian.std
    assert np.sqrt(np.mean(shift**2)) < 0.4
    assert np.median(robust.std / gaussian.std) == pytest.approx(1.0, abs=0.05)


def test_student_fit_is_the_mode_of_the_student_posterior():
    problem = clean_problem(n_batch=1)
    fit = RobustSolver(StudentWeights(3.0), tolerance=1e-8, max_iter=200).fit(problem)
    used = problem.ivar[0] > 0
    matrix, root = problem.design.matrix().toarray()[used], np.sqrt(problem.ivar[0][used])

    def objective(w):
        residual = (problem.data[0] - problem.known)[used] - matrix @ w
        prior = norm.logpdf((w - problem.prior.mean) * np.sqrt(problem.prior.precision))
        return -t.logpdf(residual * root, 3.0).sum() - prior.sum()

    mode = minimize(objective, fit.posterior.mean[0] + 0.1, method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose(fit.posterior.mean[0], mode, atol=1e-5)


def test_dropped_data_are_neither_read_nor_reported():
    problem = clean_problem()
    observation = strongest(problem, 5)
    problem = replace(problem, data=np.where(problem.ivar > 0, problem.data, 1e9))
    fit = RobustSolver().fit(with_outlier(problem, 5, observation))
    assert (5, observation) in zip(fit.batch, fit.observation, strict=True)
    assert np.all(problem.ivar[fit.batch, fit.observation] > 0)
    assert np.isfinite(fit.posterior.mean).all()


def test_rows_that_still_move_are_reported():
    problem = clean_problem()
    with pytest.warns(ConvergenceWarning, match="of 12 batch rows still moved after 1 rounds"):
        fit = RobustSolver(max_iter=1, tolerance=1e-12).fit(problem)
    assert not fit.converged.any()


def test_inner_solver_is_used():
    problem = clean_problem()
    flat = replace(problem, prior=GaussianPrior(np.zeros(3), np.zeros(3)))
    dense, block = (RobustSolver(inner=inner).solve(flat) for inner in (DenseSolver(), BlockSolver()))
    np.testing.assert_allclose(dense.mean, block.mean, rtol=1e-10)


@pytest.mark.parametrize("make", [lambda: StudentWeights(0.0), lambda: RobustSolver(tolerance=0)])
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(InputError, match="expected a finite number above 0"):
        make()
