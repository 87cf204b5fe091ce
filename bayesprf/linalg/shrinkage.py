"""Coefficients of many rows under priors whose widths are learned from all of them."""

import numpy as np

from bayesprf.arrays import FloatArray

# Derived: a coefficient whose width is a tenth of its error, of which data decide a hundredth, is held at zero.
_LEAST_DECIDED = 0.01
# Derived: motion by more than a pixel, or bending by its square, is not linear: no width is larger.
MOST_MOTION = 1.0
# Accuracy: most steps of the widths, and the relative change at which they have settled.
_N_WIDTH, _SETTLED = 100, 1e-2


def shrink(
    normal: FloatArray, score: FloatArray, *, start: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean and covariance of coefficients at every cadence under priors of one width each, which are learned.

    Parameters
    ----------
    normal : ndarray of float64, shape (n_time, n_free, n_free)
        Normal matrices.
    score : ndarray of float64, shape (n_time, n_free)
        Right sides.
    start : ndarray of float64, shape (n_free,), optional
        Widths that are tried first, where they are not zero.

    Returns
    -------
    mean : ndarray of float64, shape (n_time, n_free)
        Zero for coefficients of which the pixels tell nothing.
    covariance : ndarray of float64, shape (n_time, n_free, n_free)
    sigma : ndarray of float64, shape (n_free,)
        The widths, zero where there is nothing to tell.
    """
    n_time, n_free = score.shape
    told = np.einsum("tii->ti", normal).mean(axis=0) if n_time else np.zeros(n_free)
    alive = np.flatnonzero(told > 0)
    sigma = np.sqrt(1.0 / told[alive]) + np.sqrt(np.mean(score[:, alive] ** 2, axis=0)) / told[alive]
    if start is not None:
        sigma = np.where(start[alive] > 0, start[alive], sigma)
    sigma = np.minimum(sigma, MOST_MOTION)
    mean, covariance = np.zeros((n_time, 0)), np.zeros((n_time, 0, 0))
    for _ in range(_N_WIDTH):
        precision = normal[:, alive[:, None], alive] + np.diag(sigma**-2.0)
        covariance = np.linalg.solve(precision, np.broadcast_to(np.eye(alive.size), precision.shape))
        mean = np.einsum("tij,tj->ti", covariance, score[:, alive])
        decided = np.sum(1.0 - np.einsum("tii->ti", covariance) / sigma**2, axis=0)
        kept = decided > _LEAST_DECIDED * n_time
        before, sigma = sigma, np.sqrt(np.sum(mean**2, axis=0) / np.maximum(decided, 1e-300))
        sigma = np.minimum(sigma, MOST_MOTION)
        if not kept.all():
            alive, sigma, mean, covariance = alive[kept], sigma[kept], mean[:, kept], covariance[:, kept][:, :, kept]
        elif np.all(np.abs(np.log(sigma / before)) < _SETTLED):
            break
    full_mean, full, widths = np.zeros((n_time, n_free)), np.zeros((n_time, n_free, n_free)), np.zeros(n_free)
    widths[alive] = sigma
    full_mean[:, alive] = mean
    full[:, alive[:, None], alive] = covariance
    return full_mean, full, widths
