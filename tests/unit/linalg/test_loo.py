"""Exact leave-one-out densities against really leaving each observation out."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import random as random_sparse
from scipy.stats import norm

from bayesprf.linalg import loo
from bayesprf.linalg.loo import leave_one_out, total_densities
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.stack import DesignStack


def make_problem(n_part):
    rng = np.random.default_rng(n_part)
    pattern = random_sparse(14, 5, density=0.4, random_state=3, format="csr")
    parts = rng.uniform(0.2, 1.0, (n_part, pattern.nnz))
    mix = None if n_part == 1 else rng.uniform(0.5, 1.5, (3, n_part))
    design = DesignStack(pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64), parts, 5, mix)
    ivar = rng.uniform(0.5, 2.0, (3, 14))
    ivar[1, 4] = 0.0
    prior = GaussianPrior(rng.normal(size=5), rng.uniform(0.1, 1.0, 5))
    return LinearProblem(design, rng.normal(size=(3, 14)), ivar, prior, rng.normal(size=14))


@pytest.mark.parametrize("n_part", [1, 3])
def test_loo_equals_refitting_without_the_observation(n_part):
    problem = make_problem(n_part)
    out = leave_one_out(problem, BlockSolver().solve(problem))
    for obs in range(14):
        ivar = problem.ivar.copy()
        ivar[:, obs] = 0.0
        rest = BlockSolver().solve(replace(problem, ivar=ivar))
        for batch in range(3):
            row = problem.design.matrix(batch)[obs].toarray()[0]
            if problem.ivar[batch, obs] == 0:
                assert out.log_density[batch, obs] == 0.0
                assert out.leverage[batch, obs] == 0.0
                continue
            variance = 1.0 / problem.ivar[batch, obs] + row @ rest.covariance(batch) @ row
            mean = row @ rest.mean[batch] + problem.known[obs]
            expected = norm.logpdf(problem.data[batch, obs], mean, np.sqrt(variance))
            assert out.log_density[batch, obs] == pytest.approx(expected, abs=1e-10)


def test_leverages_add_up_to_the_degrees_of_freedom():
    problem = make_problem(1)
    posterior = BlockSolver().solve(problem)
    leverage = leave_one_out(problem, posterior).leverage.sum(axis=1)
    used = 5 - posterior.std**2 @ problem.prior.precision
    np.testing.assert_allclose(leverage, used, rtol=1e-12)


@pytest.mark.parametrize("chunk", [1, 30, 10_000])
def test_sums_do_not_depend_on_how_many_rows_are_handled_at_once(chunk, monkeypatch):
    problem = make_problem(3)
    posterior = BlockSolver().solve(problem)
    density = leave_one_out(problem, posterior).log_density
    monkeypatch.setattr(loo, "_CHUNK_ELEMENTS", chunk)
    by_batch, by_obs = total_densities(problem, posterior)
    np.testing.assert_allclose(by_batch, density.sum(axis=1), rtol=1e-13)
    np.testing.assert_allclose(by_obs, density.sum(axis=0), rtol=1e-13)
