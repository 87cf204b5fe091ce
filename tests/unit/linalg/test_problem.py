from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.errors import InputError, ShapeError, UnsupportedError
from bayesprf.linalg.kronecker import KroneckerDesign
from bayesprf.linalg.problem import GaussianPosterior, GaussianPrior, LinearProblem
from bayesprf.linalg.residuals import residual_sums
from bayesprf.linalg.solvers.blocks import BlockSolver, pair_covariance
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.testing import dense_twin, make_problem


@pytest.fixture
def problem():
    return make_problem(np.random.default_rng(0), n_batch=3)


@pytest.fixture
def kronecker():
    design = KroneckerDesign(np.ones((2, 1)), csr_matrix(np.eye(2)))
    return LinearProblem(design, np.ones((1, 4)), np.ones((1, 4)), GaussianPrior(np.zeros(2), np.ones(2)))


def test_solver_is_chosen_by_design(problem, kronecker):
    assert isinstance(choose_solver(problem), BlockSolver)
    assert isinstance(choose_solver(kronecker), DenseSolver)


def test_block_solver_refuses_other_designs(kronecker):
    with pytest.raises(
        UnsupportedError, match="expected a DesignStack as design, got KroneckerDesign; use DenseSolver"
    ):
        BlockSolver().solve(kronecker)
    with pytest.raises(UnsupportedError, match="expected a DesignStack as design, got KroneckerDesign"):
        residual_sums(kronecker, np.zeros((1, 2)))
    with pytest.raises(UnsupportedError, match="expected an answer of BlockSolver"):
        pair_covariance(DenseSolver().solve(kronecker))


def test_number_of_threads_must_be_positive():
    with pytest.raises(InputError, match="n_threads: expected a whole number from 1 up, got 0"):
        BlockSolver(0)


def test_a_varying_design_needs_one_mix_per_row():
    varying = make_problem(np.random.default_rng(0), n_batch=3, n_part=2)
    with pytest.raises(ShapeError, match="design: expected values for 2 batch rows, as data, got 3"):
        replace(varying, data=varying.data[:2], ivar=varying.ivar[:2])


def test_take_solves_to_the_same_rows():
    varying = make_problem(np.random.default_rng(0), n_batch=5, n_part=2)
    whole, part = (BlockSolver().solve(x) for x in (varying, varying.take(np.array([4, 0]))))
    np.testing.assert_array_equal(part.mean, whole.mean[[4, 0]])


@pytest.mark.parametrize("bad", [7, -6])
def test_indices_out_of_range_are_refused(problem, bad):
    posterior = BlockSolver().solve(problem)
    with pytest.raises(InputError, match=f"coefficients: expected indices from 0 to 4, got {bad}"):
        posterior.covariance(0, [0, bad])
    with pytest.raises(InputError, match=f"batches: expected indices from 0 to 2, got {bad}"):
        posterior.draws(1, np.random.default_rng(0), batches=[bad])


def test_a_posterior_without_factors_says_so(problem):
    bare = GaussianPosterior(np.zeros((1, 2)), np.ones((1, 2)), np.zeros(1))
    with pytest.raises(UnsupportedError, match="no factorisation"):
        bare.covariance()


def test_same_seed_gives_the_same_draws(problem):
    posterior = BlockSolver().solve(problem)
    one, two = (posterior.draws(4, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_the_twin_refuses_a_flat_prior(problem):
    flat = replace(problem, prior=GaussianPrior(problem.prior.mean, np.zeros(5)))
    with pytest.raises(InputError, match="expected a proper prior"):
        dense_twin(flat)


def test_priors_are_checked():
    with pytest.raises(InputError, match=r"precision: expected 0 or more, got -1.0 at index 1"):
        GaussianPrior(np.zeros(2), np.array([1.0, -1.0]))
    with pytest.raises(InputError, match="sigma: expected numbers above 0, got nan at index 0"):
        GaussianPrior.from_sigma(np.zeros(1), np.array([np.nan]))
    assert GaussianPrior.from_sigma(np.zeros(2), np.array([2.0, np.inf])).precision.tolist() == [0.25, 0.0]
