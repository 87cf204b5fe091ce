"""How the model of some pixels may err equally at all cadences."""

import numpy as np
from scipy.sparse import csr_matrix, hstack

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.singular import semidefinite_factor
from bayesprf.prf.fit import PrfFit
from bayesprf.uncertainty.systematics import NuisanceWidths, carry


def model_errors(shape: PrfFit, pixel: IntArray, flux: FloatArray, widths: NuisanceWidths) -> FloatArray:
    """Return how the model of some pixels may err equally at all cadences, as independent patterns.

    Parameters
    ----------
    shape : PrfFit
        The PRF.
    pixel : ndarray of int64, shape (n_pixel,)
        Pixels, ascending.
    flux : ndarray of float64, shape (n_source,)
        Mean fluxes, electron / s.
    widths : NuisanceWidths
        Prior widths, as in `fit_common_errors`; the posterior of the PRF's weights comes with `shape`.

    Returns
    -------
    ndarray of float64, shape (n_pixel, n_pixel)
        R; the errors have the covariance R R', electron / s.

    Notes
    -----
    The errors that `fit_common_errors` carries into the fluxes, seen in the pixels themselves. All fluxes together
    are free here, so that the slope of the wing, which sets their scale, does not matter.
    """
    here = np.isin(shape.pairs.pixel, pixel)
    nearby = np.isin(shape.pairs.source, shape.pairs.source[here])
    select = csr_matrix((np.ones(pixel.size), (np.arange(pixel.size), pixel)), (pixel.size, shape.pairs.n_pixel))
    patterns = carry(shape, shape.matrix.select(nearby), select, flux=flux, widths=widths)
    factor = hstack(list(patterns.values()), format="csr")
    return semidefinite_factor((factor @ factor.T).toarray())
