"""How fluxes of sources that share pixels depend on each other."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.overlaps import measure_blends, typical_cadences

PATTERN = np.array(
    [[1, 0, 2, 0, 0], [3, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 2, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]], float
)


def make_problem(*, moving=False, seed=0):
    rng = np.random.default_rng(seed)
    design = DesignStack.from_sparse(csr_matrix(PATTERN))
    if moving:
        parts = np.concatenate([design.parts, 0.1 * rng.normal(size=design.parts.shape)])
        design = DesignStack(design.indptr, design.indices, parts, 5, np.stack([np.ones(4), np.arange(4.0)], axis=1))
    ivar = rng.uniform(0.5, 2.0, (4, 6))
    prior = GaussianPrior(rng.normal(size=5), rng.uniform(0.1, 0.5, 5))
    return LinearProblem(design, rng.normal(size=(4, 6)), ivar, prior, rng.normal(size=6))


@pytest.mark.parametrize("moving", [False, True])
def test_blends_equal_the_dense_covariance(moving):
    problem = make_problem(moving=moving)
    table = measure_blends(problem, BlockSolver().solve(problem))
    dense = DenseSolver().solve(problem)
    assert list(zip(table.first, table.second, strict=True)) == [(0, 2), (1, 4)]
    covariance = np.stack([dense.covariance(row) for row in range(4)])
    std = np.sqrt(np.einsum("tii->ti", covariance))
    expected = np.median(covariance[:, 0, 2] / (std[:, 0] * std[:, 2]))
    assert table.correlation[0] == pytest.approx(expected, rel=1e-12)
    share = 1.0 - 1.0 / np.einsum("tii->ti", np.linalg.inv(covariance)) / std**2
    np.testing.assert_allclose(table.variance_from_neighbors, np.median(share, axis=0), atol=1e-12)
    assert table.variance_from_neighbors[3] == pytest.approx(0.0, abs=1e-12)


def test_typical_cadences_span_the_series():
    assert list(typical_cadences(1)) == [0]
    rows = typical_cadences(1000)
    assert (rows[0], rows[-1], rows.size) == (0, 999, 50)
