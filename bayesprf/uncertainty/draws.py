"""Exact draws from the Gaussian posterior of a group of sources, with their densities and what they predict."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.problem import GaussianPosterior
from bayesprf.photometry.groups import SourceGroup

_LOG_2_PI = float(np.log(2.0 * np.pi))
# Numbers coloured at a time, so that they stay in cache.
_CHUNK_ELEMENTS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class ExactDraws:
    """Draws of some sources of a group.

    Parameters
    ----------
    flux : ndarray of float64, shape (n_draw, n_time, n_source)
        electron / s.
    log_density : ndarray of float64, shape (n_draw,)
        Log posterior density of the draw, over all its cadences and sources.
    """

    flux: FloatArray
    log_density: FloatArray


def draw_fluxes(
    posterior: GaussianPosterior, members: IntArray, n_draw: int, rng: np.random.Generator, *, n_scored: int
) -> ExactDraws:
    """Draw fluxes from their exact joint posterior, all other sources marginalised.

    Parameters
    ----------
    posterior : GaussianPosterior
        Answer to the problem of a group.
    members : ndarray of int64, shape (n_source,)
        Coefficients to draw.
    n_draw : int
        Number of independent draws.
    rng : numpy.random.Generator
        Source of randomness.
    n_scored : int
        The log density is that of the first so many members.

    Returns
    -------
    ExactDraws

    Notes
    -----
    w = mean + L z, z ~ N(0, 1), with L L' the covariance of the members at each cadence. L is lower triangular, so
    the first members need the first z alone: their density is N(0, 1) in these, divided by |L| of their block.
    """
    n_time = posterior.mean.shape[0]
    lower = np.linalg.cholesky(posterior.covariances(np.arange(n_time), members))
    flux = rng.standard_normal((n_draw, n_time, members.size))
    scored = flux[:, :, :n_scored]
    squares = np.einsum("dts,dts->d", scored, scored)
    diagonal = np.einsum("tss->ts", lower)[:, :n_scored]
    constant = np.log(diagonal).sum() + 0.5 * _LOG_2_PI * diagonal.size
    mean = posterior.mean[:, members]
    step = max(1, _CHUNK_ELEMENTS // max(1, n_draw * members.size))
    for start in range(0, n_time, step):
        part = slice(start, start + step)
        coloured = np.matmul(flux[:, part].transpose(1, 0, 2), lower[part].transpose(0, 2, 1))
        flux[:, part] = coloured.transpose(1, 0, 2) + mean[part]
    return ExactDraws(flux, -0.5 * squares - constant)


def predict_draws(group: SourceGroup, flux: FloatArray) -> FloatArray:
    """Return the noise-free pixels of draws of all sources of a group.

    Parameters
    ----------
    group : SourceGroup
        The group.
    flux : ndarray of float64, shape (n_draw, n_time, n_source)
        Fluxes in the order of the group, electron / s.

    Returns
    -------
    ndarray of float64, shape (n_draw, n_time, n_pixel)
        electron / s.
    """
    answer = np.empty((*flux.shape[:2], group.pixel.size))
    for time in range(flux.shape[1]):
        answer[:, time] = (group.design.matrix(time) @ flux[:, time].T).T
    return answer + group.problem.known


def log_likelihood(group: SourceGroup, predicted: FloatArray) -> FloatArray:
    """Return log N(y; predicted, noise) of every datum, 0 where ivar is 0.

    Parameters
    ----------
    group : SourceGroup
        The group.
    predicted : ndarray of float64, shape (n_draw, n_time, n_pixel)
        Noise-free pixels, electron / s.

    Returns
    -------
    ndarray of float64, shape (n_draw, n_time, n_pixel)
    """
    ivar = group.problem.noise_ivar
    used = ivar > 0
    residual = np.where(used, group.problem.data, 0.0) - predicted
    constant = np.where(used, 0.5 * np.log(np.where(used, ivar, 1.0)) - 0.5 * _LOG_2_PI, 0.0)
    return constant - 0.5 * ivar * residual**2


def prior_log_density(group: SourceGroup, members: IntArray, flux: FloatArray) -> FloatArray:
    """Return the log prior density of every flux.

    Parameters
    ----------
    group : SourceGroup
        The group; its prior must be proper.
    members : ndarray of int64, shape (n_source,)
        Which of its sources.
    flux : ndarray of float64, shape (..., n_source)
        electron / s.

    Returns
    -------
    ndarray of float64, shape (..., n_source)
    """
    prior = group.problem.prior
    precision = prior.precision[members]
    return 0.5 * (np.log(precision) - _LOG_2_PI) - 0.5 * precision * (flux - prior.mean[members]) ** 2
