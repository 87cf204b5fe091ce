"""Weights that are not those of the noise: errors by simulation and by formulas that share nothing with the solver."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import multivariate_normal

from bayesprf.linalg.loo import leave_one_out
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver, pair_covariance
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.solvers.weighted import WeightedSolver
from bayesprf.linalg.stack import DesignStack


@pytest.fixture
def problem():
    """Two components, a changing design, one datum dropped, and noise that is not the inverse of the weights."""
    rng = np.random.default_rng(4)
    pattern = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], float)
    static = DesignStack.from_sparse(csr_matrix(pattern * rng.uniform(0.2, 1.0, pattern.shape)))
    mix = np.stack([np.ones(5), rng.uniform(-0.2, 0.2, 5)], axis=1)
    parts = np.concatenate([static.parts, static.parts * rng.uniform(0.5, 1.5, static.parts.shape)])
    design = DesignStack(static.indptr, static.indices, parts, 3, mix)
    ivar = rng.uniform(0.5, 2.0, (5, 6))
    ivar[2, 1] = 0.0
    prior = GaussianPrior(np.array([1.0, 2.0, 3.0]), np.array([0.3, 0.2, 0.1]))
    data = rng.normal(2.0, 1.0, (5, 6))
    return LinearProblem(design, data, ivar, prior, noise_ratio=rng.uniform(0.5, 3.0, (5, 6)))


def noise_variance(problem, batch):
    """Return the variance of the noise of one row, 0 where a datum is dropped."""
    ivar = problem.noise_ivar[batch]
    return np.where(ivar > 0, 1.0 / np.where(ivar > 0, ivar, 1.0), 0.0)


def dense(problem, batch):
    """Return gain, covariance and design of one row, by matrices that are inverted."""
    x, w = problem.design.matrix(batch).toarray(), np.diag(problem.ivar[batch])
    c = np.diag(noise_variance(problem, batch))
    inverse = np.linalg.inv(x.T @ w @ x + np.diag(problem.prior.precision))
    return inverse, inverse @ (x.T @ w @ c @ w @ x + np.diag(problem.prior.precision)) @ inverse, x


def test_chosen_solver_quotes_the_errors_of_the_noise(problem):
    solver = choose_solver(problem)
    assert isinstance(solver, WeightedSolver)
    found = solver.solve(problem)
    plain = BlockSolver().solve(replace(problem, noise_ratio=None))
    np.testing.assert_array_equal(found.mean, plain.mean)
    first, second, shared = pair_covariance(found)
    np.testing.assert_array_equal([first, second], [[0], [1]])
    for batch in range(problem.n_batch):
        _, covariance, x = dense(problem, batch)
        np.testing.assert_allclose(found.covariance(batch), covariance, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(found.covariance(batch, [2, 0]), covariance[np.ix_([2, 0], [2, 0])], atol=1e-12)
        np.testing.assert_allclose(found.std[batch], np.sqrt(np.diag(covariance)), rtol=1e-10)
        np.testing.assert_allclose(shared[batch, 0], covariance[0, 1], rtol=1e-10)
        variance = found.prediction_variance(batches=[batch])[0]
        np.testing.assert_allclose(variance, np.diag(x @ covariance @ x.T), rtol=1e-10, atol=1e-14)


def test_evidence_is_that_of_the_noise(problem):
    found = choose_solver(problem).solve(problem)
    for batch in (0, 2):
        x, used = problem.design.matrix(batch).toarray(), problem.ivar[batch] > 0
        total = (
            np.diag(1.0 / problem.noise_ivar[batch, used]) + x[used] @ np.diag(1 / problem.prior.precision) @ x[used].T
        )
        expected = multivariate_normal(x[used] @ problem.prior.mean, total).logpdf(problem.data[batch, used])
        np.testing.assert_allclose(found.log_evidence[batch], expected, rtol=1e-10)


def test_leave_one_out_is_what_leaving_one_out_gives(problem):
    found = leave_one_out(problem, choose_solver(problem).solve(problem))
    for batch, obs in ((0, 1), (2, 3), (4, 5)):
        ivar = problem.ivar.copy()
        ivar[batch, obs] = 0.0
        without = replace(problem, ivar=ivar)
        rest = choose_solver(without).solve(without)
        noise = problem.noise_ratio[batch, obs] / problem.ivar[batch, obs]
        variance = noise + rest.prediction_variance(batches=[batch])[0, obs]
        miss = problem.data[batch, obs] - without.predict(rest.mean)[batch, obs]
        expected = -0.5 * np.log(2 * np.pi * variance) - 0.5 * miss**2 / variance
        np.testing.assert_allclose(found.log_density[batch, obs], expected, rtol=1e-9)
    assert found.log_density[2, 1] == 0.0


def test_draws_and_means_over_many_data_have_the_covariance(problem):
    rng = np.random.default_rng(11)
    one = problem.take(np.array([2]))
    covariance = dense(one, 0)[1]
    drawn = choose_solver(one).solve(one).draws(40_000, rng)[:, 0]
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.03 * covariance.max())
    x, n = one.design.matrix(0).toarray(), 40_000
    truth = one.prior.mean + rng.standard_normal((n, 3)) * one.prior.precision**-0.5
    noise = rng.standard_normal((n, 6)) * np.sqrt(noise_variance(one, 0))
    design, ivar = DesignStack.from_sparse(csr_matrix(x)), np.repeat(one.ivar, n, axis=0)
    many = LinearProblem(design, truth @ x.T + noise, ivar, one.prior)
    missed = BlockSolver().solve(many).mean - truth
    np.testing.assert_allclose(np.cov(missed.T), covariance, atol=0.03 * covariance.max())


def test_noise_that_is_the_weights_changes_nothing(problem):
    same = replace(problem, noise_ratio=np.ones_like(problem.ivar))
    found, plain = choose_solver(same).solve(same), BlockSolver().solve(replace(problem, noise_ratio=None))
    np.testing.assert_allclose(found.std, plain.std, rtol=1e-12)
    np.testing.assert_array_equal(found.log_evidence, plain.log_evidence)
    scores = [leave_one_out(same, found), leave_one_out(replace(problem, noise_ratio=None), plain)]
    np.testing.assert_allclose(scores[0].log_density, scores[1].log_density, rtol=1e-9)
