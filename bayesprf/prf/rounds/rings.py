"""Pixels of many stars together: by rings, and in cells of radius and angle."""

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.scene.prf import PrfModel, round_coordinates
from bayesprf.stats import mad_sigma

# Rounding: the errors of a ring's pixels are made no smaller than this share of what they are, as where all its
# residuals are nearly the same.
_MIN_RING_SCALE = 0.1
# Derived: where fewer than this share of the residuals lie below zero, the model is too low as a whole, by 0.8 of their
# scatter, and all count.
_MIN_BELOW = 0.2


def ring_scale(residual: FloatArray, ring: IntArray) -> FloatArray:
    """Return how far the pixels of a ring scatter, in units of their errors.

    Parameters
    ----------
    residual : ndarray of float64, shape (n,)
        (data - model) / error.
    ring : ndarray of int64, shape (n,)
        Ring of each pixel.

    Returns
    -------
    ndarray of float64, shape (n,)
        1.48 times the median of the residuals below zero: stars that no catalogue holds only add light. Where
        fewer than one in five lie below, the model is too low as a whole, and all residuals count.
    """
    scale = np.full(residual.size, _MIN_RING_SCALE)
    for one in np.unique(ring):
        here = ring == one
        below = residual[here & (residual < 0)]
        counted = below if below.size > _MIN_BELOW * np.count_nonzero(here) else residual[here]
        scale[here] = max(_MIN_RING_SCALE, float(mad_sigma(counted)))
    return scale


def bin_star_pixels(pixels: StarPixels, prf: PrfModel) -> StarPixels:
    """Average the pixels in cells of radius and angle, half a knot spacing wide.

    Parameters
    ----------
    pixels : StarPixels
        The pixels.
    prf : PrfModel
        Gives the knots, and the coordinates in which the core is round.

    Returns
    -------
    StarPixels
        One entry per cell that holds a pixel, of a star of unit flux: the inverse-variance mean of
        the share of its star's light that each pixel holds, at the mean offset.
    """
    basis, bounds = prf.basis, np.unique(prf.basis.knots)
    r, phi = round_coordinates(pixels.dx, pixels.dy, prf.shear)
    edges = np.sort(np.concatenate([bounds, 0.5 * (bounds[1:] + bounds[:-1])]))
    ring = np.digitize(r, edges)
    sector = np.floor((phi / (2 * np.pi)) % 1.0 * 2 * basis.n_phi_knots)
    _, cell = np.unique(ring * 2 * basis.n_phi_knots + sector, return_inverse=True)
    weight = pixels.flux**2 / pixels.variance
    total = np.bincount(cell, weights=weight)

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(cell, weights=weight * values) / total

    n_cell = total.size
    return StarPixels(
        source=np.zeros(n_cell, np.int64),
        dx=mean(pixels.dx),
        dy=mean(pixels.dy),
        light=mean(pixels.light / pixels.flux),
        variance=1.0 / total,
        flux=np.ones(n_cell),
    )
