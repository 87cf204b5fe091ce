"""A restricted problem has the posterior of the whole."""

import numpy as np
import pytest
from scipy.sparse import block_diag, csr_matrix

from bayesprf.errors import InputError, UnsupportedError
from bayesprf.linalg.blocks import BlockSolver
from bayesprf.linalg.kronecker import KroneckerDesign
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.restrict import components, restrict
from bayesprf.linalg.stack import DesignStack


@pytest.fixture
def problem():
    """Three groups of 3, 2 and 1 coefficients that share no observation, four rows, two parts."""
    rng = np.random.default_rng(5)
    blocks = [csr_matrix(rng.uniform(0.1, 1.0, (8, k))) for k in (3, 2, 1)]
    static = DesignStack.from_sparse(block_diag(blocks).tocsr())
    parts = np.vstack([static.parts, 0.1 * rng.standard_normal(static.parts.shape)])
    mix = np.column_stack([np.ones(4), rng.standard_normal(4)])
    design = DesignStack(static.indptr, static.indices, parts, static.n_coeff, mix)
    prior = GaussianPrior.from_sigma(rng.standard_normal(6), rng.uniform(1.0, 2.0, 6))
    ivar = rng.uniform(0.5, 2.0, (4, 24))
    return LinearProblem(design, rng.standard_normal((4, 24)), ivar, prior, rng.standard_normal(24))


def test_widens_to_the_group_and_keeps_the_posterior(problem):
    part = restrict(problem, [1], [2, 0])
    np.testing.assert_array_equal(part.coefficients, [0, 1, 2])
    np.testing.assert_array_equal(part.observations, np.arange(8))
    whole, small = BlockSolver().solve(problem), BlockSolver().solve(part.problem)
    np.testing.assert_allclose(small.mean, whole.mean[np.ix_([2, 0], [0, 1, 2])], rtol=1e-12)
    np.testing.assert_allclose(small.covariance(1), whole.covariance(0, [0, 1, 2]), rtol=1e-11, atol=1e-14)


def test_evidences_of_the_groups_add_up(problem):
    parts = [BlockSolver().solve(restrict(problem, [first]).problem).log_evidence for first in (0, 3, 5)]
    np.testing.assert_allclose(np.sum(parts, axis=0), BlockSolver().solve(problem).log_evidence, rtol=1e-12)


def test_observations_without_weight_link_nothing(problem):
    matrix = problem.design.matrix().tolil()
    matrix[7, 3] = 0.5
    ivar = problem.ivar.copy()
    linked = LinearProblem(DesignStack.from_sparse(matrix.tocsr()), problem.data, ivar, problem.prior)
    assert restrict(linked, [0]).coefficients.size == 5
    ivar[:, 7] = 0.0
    assert restrict(linked, [0]).coefficients.size == 3
    assert 7 not in restrict(linked, [0]).observations


def test_components_of_the_pattern(problem):
    label = components(problem.design)
    assert len({*label}) == 3
    assert label[0] == label[1] == label[2] != label[3] == label[4] != label[5]


def test_refuses_what_it_cannot_cut(problem):
    with pytest.raises(InputError, match="coefficients: expected indices from 0 to 5, got 9"):
        restrict(problem, [9])
    with pytest.raises(InputError, match="batches: expected at least one index"):
        restrict(problem, [0], [])
    kron = KroneckerDesign(np.ones((2, 1)), csr_matrix(np.ones((3, 1))))
    other = LinearProblem(kron, np.ones((1, 6)), np.ones((1, 6)), GaussianPrior(np.zeros(1), np.ones(1)))
    with pytest.raises(UnsupportedError, match="expected a DesignStack"):
        restrict(other, [0])
