"""PrfMatrix against dense arrays."""

from dataclasses import dataclass

import numpy as np
import pytest

from bayesprf.errors import ShapeError
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix

N_SOURCE, N_PIXEL, N_TIME = 5, 12, 4


@pytest.fixture
def dense():
    """PRF of every source in every pixel, a third of it zero: not a pair. The last source has no pixel."""
    rng = np.random.default_rng(0)
    prf = rng.uniform(0.1, 1.0, (N_SOURCE, N_PIXEL)) * (rng.uniform(size=(N_SOURCE, N_PIXEL)) > 1 / 3)
    prf[-1] = 0.0
    return prf


@pytest.fixture
def matrix(dense):
    source, pixel = dense.nonzero()
    pairs = PairTable(source, pixel, np.zeros(source.size), np.zeros(source.size), N_SOURCE, N_PIXEL)
    return PrfMatrix.constant(pairs, dense[source, pixel])


@dataclass
class Model:
    """A time model of given parts."""

    parts: np.ndarray
    mix: np.ndarray

    def factors(self, pairs):
        assert pairs.n_pair == self.parts.shape[1]
        return self.parts


@pytest.fixture
def changing(matrix):
    rng = np.random.default_rng(1)
    return matrix.changing(Model(rng.normal(size=(3, matrix.pairs.n_pair)), rng.normal(size=(N_TIME, 3))))


FLUX = np.array([3.0, 1.0, -2.0, np.nan, 7.0])


def test_light_and_image_are_those_of_the_dense_matrix(matrix, dense):
    light = np.nan_to_num(FLUX)[:, None] * dense
    pairs = matrix.pairs
    np.testing.assert_array_equal(matrix.light(FLUX), light[pairs.source, pairs.pixel])
    np.testing.assert_allclose(matrix.image(FLUX), light.sum(axis=0), rtol=1e-14, atol=1e-14)
    neighbors = (light.sum(axis=0) - light)[pairs.source, pairs.pixel]
    np.testing.assert_allclose(matrix.neighbor_light(FLUX), neighbors, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(matrix.at(0).toarray(), dense)
    np.testing.assert_allclose(matrix.caught()[0], dense.sum(axis=1), rtol=1e-14)


def test_a_changing_prf_is_mixed_at_every_cadence(matrix, changing, dense):
    pairs, factors = matrix.pairs, changing.parts / matrix.values
    for cadence, mix in enumerate(changing.mix):
        expected = np.zeros_like(dense)
        expected[pairs.source, pairs.pixel] = matrix.values * (mix @ factors)
        np.testing.assert_allclose(changing.at(cadence).toarray(), expected, rtol=1e-12)
        np.testing.assert_allclose(mix @ changing.caught(), expected.sum(axis=1), rtol=1e-12, atol=1e-13)


def test_images_of_all_cadences_are_those_of_the_design(changing):
    flux = np.random.default_rng(2).normal(size=(N_TIME, N_SOURCE))
    expected = [one @ changing.at(cadence) for cadence, one in enumerate(flux)]
    np.testing.assert_allclose(changing.image(flux), expected, rtol=1e-12, atol=1e-13)
    design = changing.design()
    assert (design.n_obs, design.n_coeff, design.n_batch) == (N_PIXEL, N_SOURCE, N_TIME)
    np.testing.assert_allclose(design.matrix(2).toarray(), changing.at(2).toarray().T, rtol=1e-14)


def test_selected_and_left_out_pairs_add_up(changing, matrix):
    saturated = np.arange(N_PIXEL) % 3 == 0
    rest = changing.without(saturated)
    assert not saturated[rest.pairs.pixel].any()
    out = changing.select(saturated[changing.pairs.pixel])
    np.testing.assert_allclose((rest.at(1) + out.at(1)).toarray(), changing.at(1).toarray(), rtol=1e-14)
    image = matrix.image(FLUX)
    np.testing.assert_array_equal(matrix.without(saturated).image(FLUX), np.where(saturated, 0.0, image))


def test_shapes_are_checked(matrix):
    pairs = matrix.pairs
    with pytest.raises(ShapeError, match=rf"^prf: expected shape \(1, {pairs.n_pair}\) \(n_part, n_pair\)"):
        PrfMatrix.constant(pairs, np.ones(3))
    with pytest.raises(ShapeError, match=r"^prf: expected shape \(1, "):
        PrfMatrix(pairs, np.ones((2, pairs.n_pair)))
    with pytest.raises(ShapeError, match=r"^mix: expected shape \(4, 2\)"):
        PrfMatrix(pairs, np.ones((2, pairs.n_pair)), np.ones((4, 3)))
