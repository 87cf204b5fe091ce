"""B-splines, open and periodic, on knots that are fixed numbers: fit and prediction share one basis."""

import numpy as np
from scipy.interpolate import BSpline
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import InputError

# Format: degree of cubic splines, whose curvature is continuous.
CUBIC = 3


def open_knots(breaks: FloatArray, degree: int) -> FloatArray:
    """Return the full knot vector: the breaks with both ends repeated degree + 1 times.

    Parameters
    ----------
    breaks : ndarray of float64, shape (n_break,)
        Increasing break points; the first and the last bound the basis. An inner break may be
        repeated to lower the smoothness there.
    degree : int
        Polynomial degree of the pieces.

    Returns
    -------
    ndarray of float64, shape (n_break + 2 degree,)

    Raises
    ------
    InputError
        If the breaks decrease, or there are fewer than two.
    """
    if breaks.size < 2 or np.any(np.diff(breaks) < 0) or breaks[0] >= breaks[-1]:
        raise InputError(f"breaks: expected at least two increasing numbers, got {breaks}")
    return np.concatenate([[breaks[0]] * degree, breaks, [breaks[-1]] * degree])


def open_splines(x: FloatArray, knots: FloatArray, degree: int) -> csr_matrix:
    """Evaluate the B-splines of a full knot vector; they sum to one inside the bounds and are zero outside.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
        Where to evaluate, in the unit of the knots.
    knots : ndarray of float64, shape (n_knot,)
        Full knot vector, as `open_knots` makes it.
    degree : int
        Polynomial degree.

    Returns
    -------
    csr_matrix of float64, shape (n, n_knot - degree - 1)

    Notes
    -----
    de Boor (1978), A Practical Guide to Splines.
    """
    inside = (x >= knots[0]) & (x <= knots[-1])
    safe = np.where(inside, x, knots[0])
    matrix = csr_matrix(BSpline.design_matrix(safe, knots, degree))
    matrix.data *= np.repeat(inside.astype(np.float64), np.diff(matrix.indptr))
    return matrix


def local_splines(x: FloatArray, knots: FloatArray, degree: int) -> tuple[IntArray, FloatArray]:
    """Return index and value of the degree + 1 B-splines that are not zero at each place.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
        Where to evaluate, inside the bounds of the knots.
    knots : ndarray of float64, shape (n_knot,)
        Full knot vector.
    degree : int
        Polynomial degree.

    Returns
    -------
    index : ndarray of int64, shape (n, degree + 1)
    value : ndarray of float64, shape (n, degree + 1)

    Notes
    -----
    The recursion of Cox and de Boor over the functions alive at each place (de Boor 1978, chapter X), for all
    places at once.
    """
    span = np.clip(np.searchsorted(knots, x, side="right") - 1, degree, knots.size - degree - 2)
    value = np.zeros((degree + 1, x.size))
    value[0] = 1.0
    for order in range(1, degree + 1):
        carried = np.zeros(x.size)
        for k in range(order):
            right, left = knots[span + k + 1], knots[span + k + 1 - order]
            share = value[k] / (right - left)
            value[k] = carried + (right - x) * share
            carried = (x - left) * share
        value[order] = carried
    return span[:, None] + np.arange(-degree, 1), np.ascontiguousarray(value.T)


def local_periodic_splines(phi: FloatArray, n_knots: int, degree: int = 3) -> tuple[IntArray, FloatArray]:
    """Return index and value of the periodic B-splines, on equal knots over the circle, that are not zero.

    Parameters
    ----------
    phi : ndarray of float64, shape (n,)
        Angles, radian; any multiple of 2 pi is the same.
    n_knots : int
        Number of knots, and of functions, on the circle; at least degree + 1.
    degree : int
        Polynomial degree.

    Returns
    -------
    index : ndarray of int64, shape (n, degree + 1)
    value : ndarray of float64, shape (n, degree + 1)
        The values of a row sum to one.

    Raises
    ------
    InputError
        If there are too few knots for the degree.
    """
    if n_knots <= degree:
        raise InputError(f"n_phi_knots: expected at least {degree + 1}, got {n_knots}")
    knots = np.arange(-degree, n_knots + degree + 1, dtype=np.float64) * (2.0 * np.pi / n_knots)
    angle = np.clip(np.mod(phi, 2.0 * np.pi), 0.0, knots[n_knots + degree])
    index, value = local_splines(angle, knots, degree)
    return index % n_knots, value
