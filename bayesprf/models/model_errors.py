"""How the model of some pixels may err at all cadences alike: shape, positions, second moments, relative errors."""

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.models.nuisance import NuisanceWidths
from bayesprf.models.prf import round_coordinates
from bayesprf.models.profile import LN10
from bayesprf.models.shape import ShapeFit
from bayesprf.models.star_moments import prf_gradients
from bayesprf.scene.pairs import PairTable


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
        Prior widths: those of positions, second moments and the relative model error are used; the posterior of the
        PRF's weights comes with `shape`.

    Returns
    -------
    ndarray of float64, shape (n_pixel, n_error)
        R; the errors have the covariance R R', electron / s.
    """
    pairs = shape.pairs.select(np.isin(shape.pairs.pixel, pixel))
    values, own = shape.values[np.isin(shape.pairs.pixel, pixel)], flux[pairs.source]
    row = np.searchsorted(pixel, pairs.pixel)
    star, column = np.unique(pairs.source, return_inverse=True)
    patterns = [_shape_patterns(shape, pairs, own * values, row=row, n_pixel=pixel.size)]
    for name, gradient in prf_gradients(shape.prf, pairs.dx, pairs.dy).items():
        width = widths.position[pairs.source] if name in ("east", "north") else widths.moments
        pattern = np.zeros((pixel.size, star.size))
        pattern[row, column] = own * gradient * width
        patterns.append(pattern)
    variance = (LN10 * widths.model) ** 2 * np.abs(values) * own**2 * shape.prf.peak
    patterns.append(np.diag(np.sqrt(np.bincount(row, weights=variance, minlength=pixel.size))))
    factor = np.concatenate(patterns, axis=1)
    return factor[:, np.abs(factor).max(axis=0) > 0]


def _shape_patterns(shape: ShapeFit, pairs: PairTable, light: FloatArray, *, row: IntArray, n_pixel: int) -> FloatArray:
    """Return the posterior of the weights of log10 PRF, whose area stays one, as patterns in the pixels."""
    columns = shape.prf.basis.matrix(*round_coordinates(pairs.dx, pairs.dy, shape.prf.shear))
    spread = csr_matrix((light, (row, np.arange(pairs.n_pair))), shape=(n_pixel, pairs.n_pair))
    level = np.asarray(spread.sum(axis=1)).ravel()
    response = LN10 * ((spread @ columns).toarray() - np.outer(level, shape.prf.area_gradient()))
    scale, axes = np.linalg.eigh(shape.weights_cov)
    return np.asarray(response @ (axes * np.sqrt(np.maximum(scale, 0.0))))
