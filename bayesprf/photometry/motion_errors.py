"""What errors of the PRF's motion do to fluxes, and how fluxes respond to their pixels."""

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix, diags

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.photometry.background import BackgroundColumns, marginal_gain
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.scene.prf_matrix import PrfMatrix, count_by_home

# Cost: responses of fluxes that are held at once.
_CHUNK_ELEMENTS = 1 << 22


def flux_gain(
    prf: PrfMatrix,
    ivar: FloatArray,
    prior: GaussianPrior,
    *,
    background: BackgroundColumns | None = None,
    home: IntArray | None = None,
) -> csr_matrix:
    """Return how the fluxes of one image respond to its pixels.

    Parameters
    ----------
    prf : PrfMatrix
        PRF of the flux fit, constant.
    ivar : ndarray of float64, shape (n_pixel,)
        Inverse variances.
    prior : GaussianPrior
        Prior of the fluxes.
    background : BackgroundColumns, optional
        Surfaces fitted along.
    home : ndarray of int64, shape (n_pixel,), optional
        Pixel under whose number the fit counts each, as its weights and background do.

    Returns
    -------
    csr_matrix of float64, shape (n_source, n_pixel)
        K = Lambda^-1 X' C^-1, on the pairs of sources that share a pixel.
    """
    from bayesprf.linalg.solvers.blocks import sparse_covariance

    prf = count_by_home(prf, home)
    problem = LinearProblem(prf.design(), np.zeros((1, ivar.size)), ivar[None], prior)
    covariance = sparse_covariance(choose_solver(problem).solve(problem))
    values = prf.pairs.to_sparse(prf.values)
    gain = csr_matrix(covariance @ values @ diags(ivar))
    if background is not None:
        gain = marginal_gain(gain, values.T.tocsr(), background, ivar)
    return gain if home is None else csr_matrix(gain.tocsc()[:, home])


def add_motion_errors(fit: FluxFit, parts: FloatArray, prf: PrfMatrix, covariance: FloatArray) -> FluxFit:
    """Add to the errors of fluxes what is left open of the PRF's motion at each cadence.

    Parameters
    ----------
    fit : FluxFit
        Fluxes with the PRF of every cadence.
    parts : ndarray of float64, shape (n_free, n_pair)
        Change of the PRF per unit of each coefficient of motion, 1 / pixel.
    prf : PrfMatrix
        The PRF, constant.
    covariance : ndarray of float64, shape (n_time, n_free, n_free)
        Covariance of these coefficients.

    Returns
    -------
    FluxFit
        With larger `flux_err`; the posterior is that at known motion.

    Notes
    -----
    With the change D of the PRF by a coefficient, the fluxes F of a cadence answer by K D F, K = Lambda^-1 X' C^-1: to
    their variance comes (K D F) Cov(theta_t) (K D F)', as for the nuisances of `fit_common_errors`.
    """
    n_free, (n_time, n_source) = parts.shape[0], fit.flux.shape
    if n_free == 0:
        return fit
    ivar = fit.problem.ivar.mean(axis=0)
    gain = flux_gain(prf, ivar, fit.prior, background=fit.background, home=fit.home)
    responses = [csr_matrix(gain @ prf.pairs.to_sparse(one).T) for one in parts]
    flux, variance = np.nan_to_num(fit.flux), np.empty(fit.flux.shape)
    step = max(1, _CHUNK_ELEMENTS // (n_free * n_source))
    for start in range(0, n_time, step):
        part = slice(start, start + step)
        answer = np.stack([(one @ flux[part].T).T for one in responses], axis=1)
        variance[part] = np.sum(answer * (covariance[part] @ answer), axis=1)
    return replace(fit, flux_err=np.sqrt(fit.flux_err**2 + variance))
