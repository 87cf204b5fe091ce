"""Stars whose light the data cannot tell apart from that of a neighbour."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.prf.star_residuals import StarResiduals
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.stats import SIGMA_PER_MAD

# Definition: a flux whose variance is this many times what it would be with all neighbours known is shared; two fluxes
# whose errors are correlated by more than this go together.
_SHARED, _TIED = 2.0, 0.7


@dataclass(frozen=True, slots=True, eq=False)
class SplitTest:
    """How well each flux is told from those of its neighbours.

    Parameters
    ----------
    error : ndarray of float64, shape (n_source,)
        Error of the mean flux, with that of positions, electron / s.
    shared : ndarray of bool, shape (n_source,)
        Whether at least half of the variance of the noise is due to not knowing the neighbours' fluxes.
    tied : csr_matrix of bool, shape (n_source, n_source)
        Pairs of shared sources whose errors go together.
    twice : ndarray of bool, shape (n_source,)
        Rows that are one star listed twice: what tells them is the error of their places.
    """

    error: FloatArray
    shared: BoolArray
    tied: csr_matrix
    twice: BoolArray


def measure_splits(left: MeanResiduals, stars: StarResiduals, *, twice: BoolArray) -> SplitTest:
    """Measure how well each flux is told from those of its neighbours.

    Parameters
    ----------
    left : MeanResiduals
        Residuals of the mean image.
    stars : StarResiduals
        Offsets of single stars: no position is known better than these scatter.
    twice : ndarray of bool, shape (n_source,)
        Rows that are one star listed twice.

    Returns
    -------
    SplitTest
    """
    pairs, flux = left.pairs, left.flux[left.pairs.source]
    noisy = left.gain @ diags(np.sqrt(left.noise_variance))
    covariance = csr_matrix(noisy @ noisy.T)
    std = np.sqrt(covariance.diagonal())
    shared = std**2 * (left.ivar @ left.design.power(2)) > _SHARED
    scale = diags(np.divide(shared, std, out=np.zeros_like(std), where=std > 0))
    width = _position_floor(stars)
    total = left.error**2
    for one in (left.gradients["east"], left.gradients["north"]):
        moved = left.gain @ csr_matrix((flux * one, (pairs.pixel, pairs.source)), (pairs.n_pixel, pairs.n_source))
        total = total + np.asarray(moved.power(2).sum(axis=1)).ravel() * width**2
    return SplitTest(np.sqrt(total), shared, abs(csr_matrix(scale @ covariance @ scale)) > _TIED, twice)


def _position_floor(stars: StarResiduals) -> float:
    """Return the robust scatter of the offsets of single stars, arcsec; 0 for too few."""
    offsets = stars.value[:, :2]
    return float(SIGMA_PER_MAD * np.median(np.abs(offsets))) if len(offsets) > 2 else 0.0
