"""The log evidence of a linear problem, from its residuals at the posterior mean."""

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import InputError
from bayesprf.linalg.problem import LinearProblem


def log_evidence(problem: LinearProblem, mean: FloatArray, log_det: FloatArray) -> FloatArray:
    """Return log N(y; X m, C + X P^-1 X') of every batch row over the observations with ivar > 0.

    Parameters
    ----------
    problem : LinearProblem
        Data, noise, design and prior.
    mean : ndarray of float64, shape (n_batch, n_coeff)
        Posterior mean w.
    log_det : ndarray of float64, shape (n_batch,)
        log |Lambda|, Lambda = X' C^-1 X + P.

    Returns
    -------
    ndarray of float64, shape (n_batch,)
        NaN under a flat prior, where the evidence does not exist.

    Notes
    -----
    -1/2 [sum log(2 pi / ivar) + r' C^-1 r + (w - m)' P (w - m) + log |Lambda| - log |P|] with r = y - X w - known: the
    sum of squares is smallest at w, so an error of w enters it only in second order, and nothing large cancels.
    """
    prior = problem.prior
    if not prior.is_proper:
        return np.full(problem.n_batch, np.nan)
    used = problem.ivar > 0
    residual = np.where(used, problem.data, 0.0) - np.where(used, problem.predict(mean), 0.0)
    log_noise = np.sum(np.log(np.where(used, 2.0 * np.pi / np.where(used, problem.ivar, 1.0), 1.0)), axis=1)
    chi2 = np.sum(problem.ivar * residual**2, axis=1)
    shrinkage = (mean - prior.mean) ** 2 @ prior.precision
    return -0.5 * (log_noise + chi2 + shrinkage + log_det - np.sum(np.log(prior.precision)))


def check_observations(problem: LinearProblem) -> None:
    """Raise if an ivar is negative or not finite, or a datum in use is not finite.

    BlockSolver calls this only when something went wrong: good data are not read twice.

    Parameters
    ----------
    problem : LinearProblem
        `ivar` and `data` are read.

    Raises
    ------
    InputError
        Naming the first such observation.
    """
    bad = ~((problem.ivar >= 0) & np.isfinite(problem.ivar))
    if bad.any():
        batch, obs = (int(k) for k in np.argwhere(bad)[0])
        raise InputError(
            f"ivar: expected finite numbers of 0 or more, got {problem.ivar[batch, obs]} at batch row {batch},"
            f" observation {obs}; set it to 0 to drop the observation"
        )
    bad = (problem.ivar > 0) & ~np.isfinite(problem.data)
    if bad.any():
        batch, obs = (int(k) for k in np.argwhere(bad)[0])
        raise InputError(
            f"data: expected finite numbers wherever ivar is above 0, got {problem.data[batch, obs]} at batch row"
            f" {batch}, observation {obs}; set ivar to 0 there to drop the observation"
        )
