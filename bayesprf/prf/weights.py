"""Weights of log10 PRF from pixels whose stars' fluxes are not quite known."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.stack import DesignStack

# How far a star's flux may be from what it is taken for, dex: what the catalogue leaves open.
_FLUX_SIGMA = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class WeightsFit:
    """Weights and what their covariance follows from.

    Parameters
    ----------
    mean : ndarray of float64, shape (n_basis,)
        dex.
    lower : ndarray of float64, shape (n_basis, n_basis)
        Cholesky factor of the precision, in its lower triangle.
    """

    mean: FloatArray
    lower: FloatArray

    def covariance(self) -> FloatArray:
        """Return the posterior covariance of the weights, shape (n_basis, n_basis), dex**2."""
        with one_blas_thread():
            return np.asarray(cho_solve((self.lower, True), np.eye(self.mean.size)))


def solve_weights(
    design: DesignStack, data: FloatArray, ivar: FloatArray, prior: GaussianPrior, *, source: IntArray
) -> WeightsFit:
    """Solve for the weights, each star's flux free.

    Parameters
    ----------
    design : DesignStack
        Rows of the training pixels, then of anything else that is known of the weights.
    data, ivar : ndarray of float64, shape (n_row,)
        log10 of the training pixels over the flux of their star, then the rest, dex, and inverse variances.
    prior : GaussianPrior
        Prior of the weights.
    source : ndarray of int64, shape (n_pixel,)
        Star of each training pixel.

    Returns
    -------
    WeightsFit

    Notes
    -----
    z = A w + c_s + noise in the pixels of star s, with c_s ~ N(0, 0.05**2) dex integrated out: with the sums over a
    star's pixels a_s = sum ivar A, z_s = sum ivar z and d_s = sum ivar, the normal equations lose
    a_s a_s' / (d_s + 0.05**-2) on the left and a_s z_s / (d_s + 0.05**-2) on the right. Were the fluxes held, fluxes
    and PRF, fitted in turns, would hold each other where only both together can move.
    """
    gram, rhs = design.normal_equations(data, ivar, 0)
    star, row = np.unique(source, return_inverse=True)
    per_star = csr_matrix((ivar[: row.size], (row, np.arange(row.size))), shape=(star.size, design.n_obs))
    sums = (per_star @ design.matrix()).toarray()
    share = 1.0 / (np.asarray(per_star.sum(axis=1)).ravel() + _FLUX_SIGMA**-2.0)
    with one_blas_thread():
        gram -= sums.T @ (share[:, None] * sums)
        gram[np.diag_indices_from(gram)] += prior.precision
        rhs -= sums.T @ (share * (per_star @ np.where(ivar > 0, data, 0.0)))
        lower, _ = cho_factor(gram, lower=True)
        mean = cho_solve((lower, True), rhs + prior.precision * prior.mean)
    return WeightsFit(np.asarray(mean), lower)
