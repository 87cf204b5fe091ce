"""Errors of the fitted positions, those of blends together."""

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.prf.nominal import nominal_prf
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import prf_gradients
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.uncertainty.position_errors import fit_position_errors

SIDE, FLUX = 3.98, 1e5


def two_stars(apart):
    """Return PRF, pairs and errors of two stars some pixels apart, on pixels of unit noise."""
    column, row = (one.ravel() * SIDE for one in np.meshgrid(np.arange(-10.0, 30.0), np.arange(-10.0, 11.0)))
    prf, n = nominal_prf(PolarBasis(), SIDE**2), column.size
    dx, dy = np.concatenate([column - 0.8, column - 0.8 - apart * SIDE]), np.tile(row + 0.4, 2)
    pairs = PairTable(np.repeat([0, 1], n), np.tile(np.arange(n), 2), dx, dy, 2, n)
    matrix = PrfMatrix.constant(pairs, prf.evaluate(dx, dy))
    image = Image(matrix.image(np.full(2, FLUX)), np.ones(n), 1.0)
    factor = fit_position_errors(
        matrix, (prf, 1e-4), flux=np.full(2, FLUX), image=image, shift=np.array([[0.3, -0.3], [0.3, -0.3]])
    )
    return prf, matrix, (factor @ factor.T).toarray()


def test_errors_of_positions_are_the_posterior_of_one_star():
    prf, matrix, covariance = two_stars(apart=20.0)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-12)
    pairs = matrix.pairs
    gradient = prf_gradients(prf, pairs.dx, pairs.dy, names=("east",))["east"]
    own = pairs.source == 0
    light, slope = matrix.light(np.full(2, FLUX))[own], FLUX * gradient[own]
    variance = 1.0 + (np.log(10.0) * 1e-4) ** 2 * prf.peak * light * FLUX
    assert np.sqrt(covariance[0, 0]) == pytest.approx(1.0 / np.sqrt(np.sum(slope**2 / variance)), rel=0.05)


def test_stars_of_a_blend_err_against_each_other():
    """Along the line that joins them."""
    covariance = two_stars(apart=1.0)[2]
    std = np.sqrt(np.diag(covariance))
    assert abs(covariance[0, 1]) > 0.2 * std[0] * std[1]
    assert std[0] > 1.5 * std[2]
