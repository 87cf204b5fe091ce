"""Singular matrices: the size of pivot that counts as zero, the one error that says so, and factors of any rank."""

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import NotPositiveDefiniteError

PIVOT_EPS = 16.0 * float(np.finfo(np.float64).eps)
"""A pivot below ``PIVOT_EPS * (4 + n_updates)`` times the diagonal it started from is rounding noise.

Each of the `n_updates` subtractions errs by at most eps times the diagonal (Higham 2002, theorem 10.3).
"""


def singular_error(coefficient: int, batch: int) -> NotPositiveDefiniteError:
    """Word the error for a coefficient without a unique value.

    Parameters
    ----------
    coefficient : int
        Which coefficient.
    batch : int
        At which batch row.

    Returns
    -------
    NotPositiveDefiniteError
        To be raised; it carries both numbers.
    """
    return NotPositiveDefiniteError(
        f"coefficient {coefficient} at batch row {batch} is constrained by neither data nor prior:"
        " give it a prior of finite width, or remove it from the design",
        coefficient=coefficient,
        batch=batch,
    )


def semidefinite_factor(covariance: FloatArray) -> FloatArray:
    """Return L with the covariance L L', (..., n, n), of any rank and without what rounding makes negative in it."""
    scale, axes = np.linalg.eigh(covariance)
    return np.asarray(axes * np.sqrt(np.maximum(scale, 0.0))[..., None, :])
