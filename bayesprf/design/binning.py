"""Time binning as one sparse operator, so that data, errors and time columns are binned in the same way."""

from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_choice
from bayesprf.errors import InputError

BIN_METHODS = ("bin", "downsample")


def choose_resolution(n_time: int, resolution: int, n_bin_min: int) -> int:
    """Return the cadences per bin: at most `resolution`, and few enough to leave `n_bin_min` bins.

    Parameters
    ----------
    n_time : int
        Number of cadences.
    resolution : int
        Largest number of cadences per bin.
    n_bin_min : int
        Smallest number of bins; a series with fewer cadences is not binned at all.

    Returns
    -------
    int
        1 or more.

    Raises
    ------
    InputError
        If `resolution` is below 1.
    """
    if resolution < 1:
        raise InputError(f"time_resolution: expected at least 1 cadence per bin, got {resolution}")
    return max(1, min(int(resolution), n_time // max(1, n_bin_min)))


def build_binning(n_time: int, resolution: int, *, breaks: IntArray, method: str = "bin") -> csr_matrix:
    """Build the operator that takes n_time cadences to n_bin bins, by a matrix product.

    Parameters
    ----------
    n_time : int
        Number of cadences.
    resolution : int
        Cadences per bin; the last bin of a segment may hold fewer.
    breaks : ndarray of int64, shape (n_break,)
        First cadence of every segment but the first: no bin crosses one.
    method : {"bin", "downsample"}
        Mean of the cadences of a bin, or its first cadence alone (and the last of the series).

    Returns
    -------
    csr_matrix of float64, shape (n_bin, n_time)
        Rows sum to one.

    Raises
    ------
    InputError
        If the method is unknown.

    Notes
    -----
    A single cadence left at the end of the series joins the bin before it.
    """
    check_choice(method, BIN_METHODS, "bin_method")
    edges = np.concatenate([[0], breaks, [n_time]])
    starts = np.concatenate([np.arange(a, b, resolution) for a, b in pairwise(edges)])
    if method == "downsample":
        return _pick(np.union1d(starts, [n_time - 1]), n_time)
    if resolution > 1 and starts.size > 1 and starts[-1] == n_time - 1 and n_time - 1 not in breaks:
        starts = starts[:-1]
    counts = np.diff(np.append(starts, n_time))
    return csr_matrix((np.repeat(1.0 / counts, counts), np.arange(n_time), np.append(starts, n_time)))


def bin_mean(operator: csr_matrix, values: FloatArray) -> FloatArray:
    """Return the mean of the finite values of each bin, NaN where there is none.

    Parameters
    ----------
    operator : csr_matrix of float64, shape (n_bin, n_time)
        From `build_binning`.
    values : ndarray of float64, shape (n_time, ...)

    Returns
    -------
    ndarray of float64, shape (n_bin, ...)
    """
    flat = values.reshape(values.shape[0], -1)
    finite = np.isfinite(flat)
    if finite.all():
        return np.asarray(operator @ flat).reshape(operator.shape[0], *values.shape[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (operator @ np.where(finite, flat, 0.0)) / (operator @ finite.astype(np.float64))
    return np.asarray(mean).reshape(operator.shape[0], *values.shape[1:])


def bin_error(operator: csr_matrix, errors: FloatArray) -> FloatArray:
    """Return the error of the mean of independent values, sqrt(sum e^2) / n, NaN where no error is finite.

    Parameters
    ----------
    operator : csr_matrix of float64, shape (n_bin, n_time)
        From `build_binning`.
    errors : ndarray of float64, shape (n_time, ...)
        Standard deviations.

    Returns
    -------
    ndarray of float64, shape (n_bin, ...)
    """
    flat = errors.reshape(errors.shape[0], -1)
    finite = np.isfinite(flat)
    squares = operator.multiply(operator) @ np.where(finite, flat, 0.0) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        result = np.sqrt(squares) / (operator @ finite.astype(np.float64))
    return np.asarray(result).reshape(operator.shape[0], *errors.shape[1:])


def _pick(points: IntArray, n_time: int) -> csr_matrix:
    return csr_matrix((np.ones(points.size), points, np.arange(points.size + 1)), shape=(points.size, n_time))
