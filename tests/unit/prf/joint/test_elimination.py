"""Stars eliminated front by front: the same numbers as by dense algebra."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.errors import NotPositiveDefiniteError
from bayesprf.prf.joint.elimination import EliminationTree, StarFactor


@pytest.fixture(params=[1, 3])
def system(request):
    """Return tree, tiles, prior precision and dense normal matrix of 300 stars on 20 x 15 tiles."""
    rng, n_own, n_star = np.random.default_rng(8), request.param, 300
    place = rng.uniform(size=(n_star, 2)) * [20.0, 15.0]
    middle = np.stack(np.meshgrid(np.arange(20) + 0.5, np.arange(15) + 0.5, indexing="ij"), axis=-1).reshape(-1, 2)
    lit = np.hypot(*(middle[:, None] - place).transpose(2, 0, 1)) < 1.6
    # A star that lights no tile.
    lit[:, 7] = False
    tree = EliminationTree.of(place, csr_matrix(lit))
    ivar = rng.uniform(0.5, 1.5, size=(n_star, n_own))
    dense, tiles = np.diag(ivar.ravel()), []
    for row in lit:
        stars = np.flatnonzero(row)
        stars = stars[np.argsort(tree.rank[stars])]
        columns = rng.normal(size=(11, stars.size * n_own))
        tiles.append(columns)
        index = (stars[:, None] * n_own + np.arange(n_own)).ravel()
        dense[np.ix_(index, index)] += columns.T @ columns
    return tree, tiles, ivar, dense


def test_every_star_is_eliminated_once_and_fronts_stay_small(system):
    tree = system[0]
    own = np.concatenate([front.own for front in tree.fronts])
    np.testing.assert_array_equal(np.sort(own), np.arange(300))
    np.testing.assert_array_equal(tree.rank[own], np.arange(300))
    # All stars of a strip of two radii are 300 x 3.2 / 20 = 48; fronts hold a cut and what was cut before.
    assert max(front.stars.size for front in tree.fronts) < 150


def test_solution_and_covariances_are_those_of_dense_algebra(system):
    tree, tiles, ivar, dense = system
    n_own = ivar.shape[1]
    factor = StarFactor.of(tree, tiles, ivar)
    inverse = np.linalg.inv(dense)
    right = np.random.default_rng(9).normal(size=dense.shape[0])
    np.testing.assert_allclose(factor.solve(right), inverse @ right, atol=1e-11)
    np.testing.assert_allclose(factor.dense(), inverse, atol=1e-11)
    for front, covariance in factor.covariances():
        index = factor.index(front.stars)
        np.testing.assert_allclose(covariance, inverse[np.ix_(index, index)], atol=1e-11)
    for parameter in range(n_own):
        rows = factor.rows(parameter)[0].tocoo()
        np.testing.assert_allclose(rows.data, inverse[parameter::n_own][rows.row, rows.col], atol=1e-11)
    # Every pair of stars in one tile is there, but those that hardly correlate.
    apart = inverse[n_own - 1 :: n_own] * (dense[n_own - 1 :: n_own] != 0.0)
    apart[rows.row, rows.col] = 0.0
    std = np.sqrt(np.diag(inverse))
    assert np.all(np.abs(apart) <= 1e-4 * std[n_own - 1 :: n_own, None] * std)


def test_the_same_bits_twice(system):
    tree, tiles, ivar, _ = system
    right = np.ones(ivar.size)
    one, two = (StarFactor.of(tree, tiles, ivar).solve(right) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_refuses_a_matrix_that_is_not_positive_definite(system):
    tree, tiles, ivar, _ = system
    with pytest.raises(NotPositiveDefiniteError, match="normal equations of the stars"):
        StarFactor.of(tree, tiles, -100.0 * np.ones_like(ivar))
