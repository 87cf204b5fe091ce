"""Every solver gives the answer of the data-space formula, with which it shares nothing."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array

from bayesprf.errors import InputError, NotPositiveDefiniteError
from bayesprf.linalg.kronecker import KroneckerDesign
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.linalg.stack import DesignStack
from bayesprf.testing import assert_posterior_close, dense_twin, make_problem

SOLVERS = [DenseSolver(), BlockSolver(n_threads=1), BlockSolver(n_threads=3)]
SOLVER_NAMES = ["dense", "block", "block-threads"]
N_DRAW = 20000


@dataclass(frozen=True)
class Case:
    label: str
    value: LinearProblem


def chain(n_coeff, n_batch, seed):
    """One component: coefficient j shares data with j + 1 only, so L stays sparse."""
    rng = np.random.default_rng(seed)
    pixels = np.arange(3 * n_coeff)
    first = np.minimum(pixels // 3, n_coeff - 2)
    indices = np.stack([first, first + 1], axis=1).ravel()
    design = DesignStack(2 * np.arange(pixels.size + 1), indices, rng.uniform(0.2, 1, (1, indices.size)), n_coeff)
    ivar = rng.uniform(0.1, 10, (n_batch, pixels.size))
    prior = GaussianPrior.from_sigma(rng.normal(size=n_coeff), np.full(n_coeff, 5.0))
    return LinearProblem(design, rng.normal(size=ivar.shape), ivar, prior)


def many_components(n_batch, seed):
    """Blocks of one to four coefficients, their observations interleaved in memory, and some that see nothing."""
    rng = np.random.default_rng(seed)
    block = np.concatenate([np.full(size, k) for k, size in enumerate(rng.integers(1, 5, 12))])
    owner = rng.integers(-1, 12, 150)
    dense = (owner[:, None] == block) * rng.uniform(0.1, 1, (150, block.size)) * (rng.uniform(size=(150, 1)) < 0.9)
    design = DesignStack.from_sparse(csr_matrix(dense[:, rng.permutation(block.size)]))
    ivar = rng.uniform(0.1, 10, (n_batch, 150))
    prior = GaussianPrior.from_sigma(rng.normal(size=block.size), rng.uniform(1, 10, block.size))
    return LinearProblem(design, rng.normal(size=ivar.shape), ivar, prior)


def with_unobserved(problem):
    """Add a coefficient without a single entry."""
    design = problem.design
    wider = DesignStack(design.indptr, design.indices, design.parts, design.n_coeff + 1, design.mix)
    prior = GaussianPrior(np.append(problem.prior.mean, 3.0), np.append(problem.prior.precision, 0.25))
    return replace(problem, design=wider, prior=prior)


def random(**options):
    return make_problem(np.random.default_rng(len(str(options))), **options)


PROBLEMS = [
    Case("one-coefficient", random(n_coeff=1, density=1.0)),
    Case("one-component", random(n_obs=40, n_coeff=9, density=0.5, n_batch=3)),
    Case("chain", chain(30, 5, 1)),
    Case("long-chain-many-rows", chain(7, 37, 2)),
    Case("many-components", many_components(19, 3)),
    Case("unobserved-coefficient", with_unobserved(random(n_batch=3))),
    Case("no-entry-at-all", random(density=0.0, n_batch=2)),
    Case("dropped", random(n_obs=60, n_coeff=6, n_batch=37, dropped=0.3)),
    Case("all-dropped", random(n_batch=3, dropped=1.0)),
    Case("varying", random(n_obs=60, n_coeff=6, n_part=4, n_batch=37, dropped=0.1)),
    Case("varying-one-row", random(n_part=3, n_batch=1)),
    Case("narrow-prior", random(n_obs=30, prior_sigma=1e-3, n_batch=17)),
    Case("wide-prior", random(n_obs=30, density=0.9, prior_sigma=1e3, n_batch=3)),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=SOLVER_NAMES)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.label)
def test_solver_agrees_with_dense_twin(solver, problem):
    actual, expected = solver.solve(problem.value), dense_twin(problem.value)
    assert_posterior_close(actual, expected, rtol=1e-9)
    wanted = expected.prediction_variance()
    np.testing.assert_allclose(actual.prediction_variance(), wanted, rtol=1e-9, atol=1e-12 * wanted.max())
    np.testing.assert_allclose(actual.prediction_variance(batches=[-1]), wanted[-1:], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS[:2], ids=SOLVER_NAMES[:2])
@pytest.mark.parametrize("label", ["many-components", "varying", "dropped"])
def test_draws_have_the_moments_of_the_posterior(solver, label):
    problem = next(p.value for p in PROBLEMS if p.label == label)
    posterior, batch = solver.solve(problem), 16
    draws = posterior.draws(N_DRAW, np.random.default_rng(0), batches=[batch])[:, 0]
    white = np.linalg.solve(np.linalg.cholesky(posterior.covariance(batch)), (draws - posterior.mean[batch]).T)
    # means of N draws scatter by 1 / sqrt(N), their covariances by sqrt(1 / N), variances by sqrt(2 / N)
    assert np.abs(white.mean(axis=1)).max() < 5.0 / np.sqrt(N_DRAW)
    assert np.abs(np.cov(white) - np.eye(white.shape[0])).max() < 5.0 * np.sqrt(2.0 / N_DRAW)


@pytest.mark.parametrize("solver", SOLVERS[:2], ids=SOLVER_NAMES[:2])
def test_draws_of_some_coefficients_have_their_joint_moments(solver):
    problem = many_components(19, 3)
    posterior, rows, chosen = solver.solve(problem), [17, 2], [8, 0, 5]
    draws = posterior.draws(N_DRAW, np.random.default_rng(0), batches=rows, coefficients=chosen)
    assert draws.shape == (N_DRAW, 2, 3)
    for k, row in enumerate(rows):
        root = np.linalg.cholesky(posterior.covariance(row, chosen))
        white = np.linalg.solve(root, (draws[:, k] - posterior.mean[row, chosen]).T)
        assert np.abs(white.mean(axis=1)).max() < 5.0 / np.sqrt(N_DRAW)
        assert np.abs(np.cov(white) - np.eye(3)).max() < 5.0 * np.sqrt(2.0 / N_DRAW)


@pytest.mark.parametrize("solver", SOLVERS, ids=SOLVER_NAMES)
def test_covariance_of_selected_coefficients_is_the_block_in_their_order(solver):
    posterior = solver.solve(many_components(19, 3))
    chosen = [7, 2, -1]
    full = posterior.covariances([18, 0])
    np.testing.assert_allclose(posterior.covariances([18, 0], chosen), full[:, chosen][:, :, chosen], rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS, ids=SOLVER_NAMES)
def test_dropped_data_are_never_read(solver):
    problem = random(n_obs=60, n_coeff=6, n_batch=20, dropped=0.3)
    filled = replace(problem, data=np.where(problem.ivar > 0, problem.data, np.inf))
    one, two = solver.solve(problem), solver.solve(filled)
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.log_evidence, two.log_evidence)


@pytest.mark.parametrize("solver", SOLVERS, ids=SOLVER_NAMES)
def test_flat_prior_gives_least_squares_and_no_evidence(solver):
    problem = random(n_obs=30, n_coeff=4, density=0.9, n_batch=3)
    flat = replace(problem, prior=GaussianPrior(np.zeros(4), np.zeros(4)))
    posterior = solver.solve(flat)
    for row in range(3):
        root = np.sqrt(problem.ivar[row])
        matrix = problem.design.matrix().toarray() * root[:, None]
        wanted = np.linalg.lstsq(matrix, (problem.data[row] - problem.known) * root)[0]
        np.testing.assert_allclose(posterior.mean[row], wanted, rtol=1e-10)
        np.testing.assert_allclose(posterior.covariance(row), np.linalg.inv(matrix.T @ matrix), rtol=1e-9)
    assert np.isnan(posterior.log_evidence).all()


@pytest.mark.parametrize("solver", SOLVERS, ids=SOLVER_NAMES)
def test_coefficient_without_data_or_prior_is_named(solver):
    problem = random(n_obs=30, n_coeff=6, density=0.5, n_batch=20)
    touched = problem.design.matrix()[:, 4].nonzero()[0]
    ivar = problem.ivar.copy()
    ivar[18, touched] = 0.0
    precision = problem.prior.precision.copy()
    precision[4] = 0.0
    singular = replace(problem, ivar=ivar, prior=GaussianPrior(problem.prior.mean, precision))
    with pytest.raises(
        NotPositiveDefiniteError, match=r"coefficient 4 at batch row 18 .* prior of finite width"
    ) as info:
        solver.solve(singular)
    assert (info.value.coefficient, info.value.batch) == (4, 18)


@pytest.mark.parametrize("solver", SOLVERS, ids=SOLVER_NAMES)
def test_two_equal_columns_without_prior_are_singular(solver):
    column = np.random.default_rng(0).uniform(size=(20, 1))
    design = DesignStack.from_sparse(csr_matrix(np.hstack([column, 3.0 * column])))
    prior = GaussianPrior(np.zeros(2), np.zeros(2))
    problem = LinearProblem(design, np.ones((3, 20)), np.full((3, 20), 0.37), prior)
    with pytest.raises(NotPositiveDefiniteError, match="constrained by neither data nor prior"):
        solver.solve(problem)


@pytest.mark.parametrize("solver", SOLVERS, ids=SOLVER_NAMES)
@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_unusable_ivar_is_refused(solver, value):
    problem = random(n_batch=20)
    problem.ivar[13, 5] = value
    with pytest.raises(
        InputError, match=r"ivar: expected finite numbers of 0 or more, got .* batch row 13, observation 5"
    ):
        solver.solve(problem)


@pytest.mark.parametrize("solver", SOLVERS, ids=SOLVER_NAMES)
def test_nan_data_in_use_are_refused(solver):
    problem = random(n_batch=20, density=0.9)
    problem.data[13, 5] = np.nan
    with pytest.raises(InputError, match=r"data: expected finite numbers .* nan at batch row 13, observation 5"):
        solver.solve(problem)


def test_kronecker_design_agrees_with_dense_twin():
    rng = np.random.default_rng(0)
    space = csr_matrix(random_array((8, 3), density=0.6, rng=rng))
    design = KroneckerDesign(rng.normal(size=(5, 2)), space)
    ivar = rng.uniform(0.1, 2, (2, 40)) * (rng.uniform(size=(2, 40)) < 0.8)
    data = np.where(ivar > 0, rng.normal(size=(2, 40)), np.nan)
    problem = LinearProblem(design, data, ivar, GaussianPrior.from_sigma(np.ones(6), np.full(6, 3.0)))
    assert_posterior_close(DenseSolver().solve(problem), dense_twin(problem), rtol=1e-9)
