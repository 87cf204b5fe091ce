"""Exact leave-one-out densities of a solved problem, from the leverages: no observation is ever really left out."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.linalg.solvers.weighted import WeightedFactors

# Batch rows times observations handled at once by `total_densities`: 8 MB an array.
_CHUNK_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class LeaveOneOut:
    """What each observation looks like from all others of its batch row.

    Parameters
    ----------
    leverage : ndarray of float64, shape (n_batch, n_obs)
        Share h of the observation in its own fitted value; 0 where ivar is 0.
    log_density : ndarray of float64, shape (n_batch, n_obs)
        log p(y_i | all y but y_i); 0 where ivar is 0.
    """

    leverage: FloatArray
    log_density: FloatArray


def leave_one_out(problem: LinearProblem, posterior: GaussianPosterior) -> LeaveOneOut:
    """Return the exact leave-one-out density of every observation.

    Parameters
    ----------
    problem : LinearProblem
        Any problem.
    posterior : GaussianPosterior
        Its answer.

    Returns
    -------
    LeaveOneOut

    Raises
    ------
    UnsupportedError
        If the solver kept no factorisation.

    Notes
    -----
    With v = 1 / ivar, h = x' Lambda^-1 x / v and r = y - x' w, taking an observation away leaves
    y_i ~ N(x' w_(-i), v / (1 - h)) with y_i - x' w_(-i) = r / (1 - h), so that
    log p(y_i | y_(-i)) = -1/2 log(2 pi v / (1 - h)) - r^2 / (2 v (1 - h)) (Sundararajan & Keerthi 2001). Where the
    weights are not those of the noise, of variance c, and S is the covariance of w, the variance of y_i - x' w_(-i) is
    c + (x' S x - c h^2) / (1 - h)^2.
    """
    return _densities(problem, posterior, problem.predict(posterior.mean), slice(None))


def total_densities(problem: LinearProblem, posterior: GaussianPosterior) -> tuple[FloatArray, FloatArray]:
    """Return sums of the exact leave-one-out densities, some batch rows at a time, so that memory stays small.

    Parameters
    ----------
    problem : LinearProblem
        Any problem.
    posterior : GaussianPosterior
        Its answer.

    Returns
    -------
    by_batch : ndarray of float64, shape (n_batch,)
        Summed over observations.
    by_obs : ndarray of float64, shape (n_obs,)
        Summed over batch rows.

    Raises
    ------
    UnsupportedError
        If the solver kept no factorisation.
    """
    n_batch, n_obs = problem.data.shape
    by_batch, by_obs = np.empty(n_batch), np.zeros(n_obs)
    predicted = problem.predict(posterior.mean)
    step = max(1, _CHUNK_ELEMENTS // max(n_obs, 1))
    for start in range(0, n_batch, step):
        rows = slice(start, start + step)
        density = _densities(problem, posterior, predicted, rows).log_density
        by_batch[rows] = density.sum(axis=1)
        by_obs += density.sum(axis=0)
    return by_batch, by_obs


def _densities(problem: LinearProblem, posterior: GaussianPosterior, predicted: FloatArray, rows: slice) -> LeaveOneOut:
    """Return leverages and densities of some batch rows."""
    ivar, batches = problem.ivar[rows], np.arange(problem.n_batch)[rows]
    used = ivar > 0
    residual = np.where(used, problem.data[rows], 0.0) - np.where(used, predicted[rows], 0.0)
    leverage = ivar * _inner_variance(posterior, batches)
    rest = 1.0 - leverage
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = ivar * rest
        if problem.noise_ratio is not None:
            noise = 1.0 / problem.noise_ivar[rows]
            spread = posterior.prediction_variance(batches=batches)
            precision = 1.0 / (noise + (spread - noise * leverage**2) / rest**2)
        density = 0.5 * np.log(precision / (2.0 * np.pi)) - 0.5 * precision * (residual / rest) ** 2
    return LeaveOneOut(leverage, np.where(used, density, 0.0))


def _inner_variance(posterior: GaussianPosterior, batches: IntArray) -> FloatArray:
    """Return x' A^-1 x of every observation, where A is by the weights of the fit."""
    if isinstance(posterior.factors, WeightedFactors):
        return posterior.factors.inner.prediction_variance(batches)
    return posterior.prediction_variance(batches=batches)
