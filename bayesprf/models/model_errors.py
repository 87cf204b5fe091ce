"""How the model of some pixels may err at all cadences alike: positions, second moments, relative errors."""

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.models.nuisance import NuisanceWidths
from bayesprf.models.profile import LN10
from bayesprf.models.shape import ShapeFit
from bayesprf.models.star_moments import prf_gradients


def model_errors(shape: ShapeFit, pixel: IntArray, flux: FloatArray, widths: NuisanceWidths) -> FloatArray:
    """Return how the model of some pixels may err at all cadences alike, as independent patterns.

    Parameters
    ----------
    shape : ShapeFit
        The PRF.
    pixel : ndarray of int64, shape (n_pixel,)
        Pixels, ascending.
    flux : ndarray of float64, shape (n_source,)
        Mean fluxes, electron / s.
    widths : NuisanceWidths
        Prior widths: those of positions, second moments and the relative model error are used.

    Returns
    -------
    ndarray of float64, shape (n_pixel, n_error)
        R; the errors have the covariance R R', electron / s.
    """
    pairs = shape.pairs.select(np.isin(shape.pairs.pixel, pixel))
    values, own = shape.values[np.isin(shape.pairs.pixel, pixel)], flux[pairs.source]
    row = np.searchsorted(pixel, pairs.pixel)
    star, column = np.unique(pairs.source, return_inverse=True)
    patterns = []
    for name, gradient in prf_gradients(shape.prf, pairs.dx, pairs.dy).items():
        width = widths.position[pairs.source] if name in ("east", "north") else widths.moments
        pattern = np.zeros((pixel.size, star.size))
        pattern[row, column] = own * gradient * width
        patterns.append(pattern)
    variance = (LN10 * widths.model) ** 2 * np.abs(values) * own**2 * shape.prf.peak
    patterns.append(np.diag(np.sqrt(np.bincount(row, weights=variance, minlength=pixel.size))))
    factor = np.concatenate(patterns, axis=1)
    return factor[:, np.abs(factor).max(axis=0) > 0]
