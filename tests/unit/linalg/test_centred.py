"""CentredDesign beside a problem with the amplitudes written out."""

import numpy as np
import pytest
from scipy.sparse import random_array

from bayesprf.errors import ShapeError
from bayesprf.linalg.centred import CentredDesign, GroupMeans
from bayesprf.linalg.kronecker import KroneckerDesign
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.dense import DenseSolver

N_BIN, N_POS, N_VEC, N_BASIS, N_GROUP = 5, 12, 2, 4, 3


@pytest.fixture
def parts():
    rng = np.random.default_rng(1)
    space = random_array((N_POS, N_BASIS), density=0.6, rng=rng, format="csr")
    design = KroneckerDesign(rng.normal(size=(N_BIN, N_VEC)), space)
    ivar = rng.uniform(0.5, 2.0, size=(N_BIN, N_POS))
    ivar[1, 3] = ivar[2, 4:8] = 0.0
    group = np.repeat(np.arange(N_GROUP), 4)
    return design, GroupMeans(group, ivar), rng.normal(size=(N_BIN, N_POS))


def written_out(design, groups):
    """Return the whole matrix: the Kronecker columns and one column for every bin and group."""
    columns = np.kron(design.time_vectors, design.space.toarray())
    amplitudes = np.kron(np.eye(N_BIN), np.eye(N_GROUP)[groups.group])
    return np.hstack([columns, amplitudes])


def test_posterior_equals_that_with_the_amplitudes_written_out(parts):
    design, groups, data = parts
    sigma = 0.7
    prior = GaussianPrior.from_sigma(np.full(design.n_coeff, 0.1), np.full(design.n_coeff, sigma))
    problem = LinearProblem(CentredDesign(design, groups), data.reshape(1, -1), groups.ivar.reshape(1, -1), prior)
    posterior = DenseSolver().solve(problem)
    whole, weight = written_out(design, groups), groups.ivar.ravel()
    precision = np.concatenate([np.full(design.n_coeff, sigma**-2), np.full(N_BIN * N_GROUP, 1e-12)])
    inverse = np.linalg.inv(whole.T @ (weight[:, None] * whole) + np.diag(precision))
    rhs = whole.T @ (weight * data.ravel())
    rhs[: design.n_coeff] += 0.1 * sigma**-2
    np.testing.assert_allclose(posterior.mean[0], (inverse @ rhs)[: design.n_coeff], rtol=1e-8)
    np.testing.assert_allclose(posterior.std[0], np.sqrt(np.diag(inverse))[: design.n_coeff], rtol=1e-8)


def test_amplitudes_in_the_data_change_nothing(parts):
    design, groups, data = parts
    centred = CentredDesign(design, groups)
    added = data + np.random.default_rng(2).normal(size=(N_BIN, N_GROUP))[:, groups.group]
    for one, other in zip(
        centred.normal_equations(data.ravel(), groups.ivar.ravel(), 0),
        centred.normal_equations(added.ravel(), groups.ivar.ravel(), 0),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_predict_and_normal_equations_are_of_one_matrix(parts):
    design, groups, data = parts
    centred = CentredDesign(design, groups)
    matrix = centred.predict(np.eye(design.n_coeff)).T
    gram, rhs = centred.normal_equations(data.ravel(), groups.ivar.ravel(), 0)
    weighted = matrix * groups.ivar.reshape(-1, 1)
    np.testing.assert_allclose(gram, matrix.T @ weighted, atol=1e-12)
    np.testing.assert_allclose(rhs, weighted.T @ data.ravel(), atol=1e-12)


def test_values_without_weight_are_not_read(parts):
    _, groups, data = parts
    holes = np.where(groups.ivar > 0, data, np.nan)
    np.testing.assert_array_equal(groups.mean(holes), groups.mean(data))
    assert groups.mean(holes, empty=7.0)[2, 1] == 7.0  # the second group has no weight in that bin


def test_shapes_are_checked(parts):
    design, groups, _ = parts
    with pytest.raises(ShapeError, match="groups: expected shape"):
        CentredDesign(design, GroupMeans(groups.group, groups.ivar[1:]))
    with pytest.raises(ShapeError, match="ivar: expected shape"):
        GroupMeans(groups.group[1:], groups.ivar)
