"""Compiled polar splines: log10 of the PRF, its gradient, and its columns, pair by pair."""

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import inlined, kernel

_LN10 = float(np.log(10.0))


@inlined
def cubic_splines(x: float, knots: FloatArray, value: FloatArray, slope: FloatArray) -> int:
    """Fill the four cubic B-splines alive at x and their derivatives; return the index of the first.

    Parameters
    ----------
    x : float
        Where to evaluate, inside the bounds of the knots.
    knots : ndarray of float64, shape (n_knot,)
        Full knot vector.
    value, slope : ndarray of float64, shape (4,)
        Filled.

    Returns
    -------
    int
    """
    low, high = 3, knots.size - 5
    while low < high:
        middle = (low + high + 1) // 2
        if knots[middle] <= x:
            low = middle
        else:
            high = middle - 1
    span = low
    value[0] = 1.0
    for order in range(1, 4):
        carried, bent = 0.0, 0.0
        for k in range(order):
            right, left = knots[span + k + 1], knots[span + k + 1 - order]
            share = value[k] / (right - left)
            if order == 3:
                slope[k] = bent - 3.0 * share
                bent = 3.0 * share
            value[k] = carried + (right - x) * share
            carried = (x - left) * share
        value[order] = carried
        if order == 3:
            slope[3] = bent
    return span - 3


@inlined
def periodic_splines(phi: float, n_knot: int, value: FloatArray, slope: FloatArray) -> int:
    """Fill the four periodic cubic B-splines alive at an angle and their derivatives; return the index of the first."""
    scaled = (phi / (2.0 * np.pi)) % 1.0 * n_knot
    first = min(int(scaled), n_knot - 1)
    t = scaled - first
    s = 1.0 - t
    rate = n_knot / (2.0 * np.pi)
    value[0], value[3] = s * s * s / 6.0, t * t * t / 6.0
    value[1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    value[2] = (4.0 - 6.0 * s * s + 3.0 * s * s * s) / 6.0
    slope[0], slope[3] = -0.5 * s * s * rate, 0.5 * t * t * rate
    slope[1] = (-2.0 * t + 1.5 * t * t) * rate
    slope[2] = (2.0 * s - 1.5 * s * s) * rate
    return first


@kernel
def evaluate_pairs(
    source: IntArray,
    place: FloatArray,
    weights: FloatArray,
    wing: FloatArray,
    starts: FloatArray,
    knots: FloatArray,
    shape: tuple[int, int],
    log: FloatArray,
    gradient: FloatArray,
) -> None:
    """Evaluate log10 of the PRF and the gradient of its natural logarithm.

    Parameters
    ----------
    source : ndarray of int64, shape (n_pair,)
        Row of `weights` of each pair.
    place : ndarray of float64, shape (n_pair, 2)
        Offset of the pixel from the star in coordinates in which the core is round, arcsec.
    weights : ndarray of float64, shape (n_source, n_basis)
        Weights of log10 PRF of each source, dex.
    wing : ndarray of float64, shape (n_wing,)
        Power of r beyond the last knot, and its changes.
    starts : ndarray of float64, shape (n_wing,)
        Where these begin, log10 of the radius in units of the last knot.
    knots : ndarray of float64, shape (n_knot,)
        Full radial knot vector.
    shape : tuple of int
        Number of radial functions without angle, and of angular functions.
    log : ndarray of float64, shape (n_pair,)
        Filled: log10 PRF, dex.
    gradient : ndarray of float64, shape (n_pair, 2)
        Filled: d ln PRF / d place, 1 / arcsec.
    """
    n_core, n_phi = shape
    rmax, n_radial = knots[-1], knots.size - 5
    radial, radial_slope, around, around_slope = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    for pair in range(source.size):
        x, y = place[pair, 0], place[pair, 1]
        r = np.hypot(x, y)
        own = weights[source[pair]]
        first = periodic_splines(np.arctan2(y, x), n_phi, around, around_slope)
        inside = r < rmax
        start = cubic_splines(min(r, rmax), knots, radial, radial_slope)
        level, by_r, by_phi = 0.0, 0.0, 0.0
        for i in range(4):
            function = max(start + i - 1, 0)
            if not inside and function < n_radial - 1:
                continue
            if function < n_core:
                level += radial[i] * own[function]
                by_r += radial_slope[i] * own[function]
                continue
            ring, turn, offset = 0.0, 0.0, n_core + (function - n_core) * n_phi
            for j in range(4):
                weight = own[offset + (first + j) % n_phi]
                ring += around[j] * weight
                turn += around_slope[j] * weight
            level += radial[i] * ring
            by_r += radial_slope[i] * ring
            by_phi += radial[i] * turn
        if not inside:
            depth, power = np.log10(r / rmax), 0.0
            for k in range(wing.size):
                if depth > starts[k]:
                    level += wing[k] * (depth - starts[k])
                    power += wing[k]
            by_r = power / (r * _LN10)
        safe = max(r, 1e-12)
        by_r, by_phi = _LN10 * by_r / safe, _LN10 * by_phi / (safe * safe)
        log[pair] = level
        gradient[pair, 0] = by_r * x - by_phi * y
        gradient[pair, 1] = by_r * y + by_phi * x


@kernel
def add_columns(
    indptr: IntArray,
    order: IntArray,
    source: IntArray,
    place: FloatArray,
    light: FloatArray,
    factors: FloatArray,
    starts: FloatArray,
    knots: FloatArray,
    shape: tuple[int, int],
    rows: FloatArray,
) -> None:
    """Add up, pixel by pixel, the derivatives of the image with respect to the weights and the slope of the wing.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_row + 1,)
        Row i holds the pairs ``order[indptr[i]:indptr[i + 1]]``.
    order : ndarray of int64, shape (n_entry,)
        Pairs.
    source : ndarray of int64, shape (n_pair,)
        Source of each pair.
    place : ndarray of float64, shape (n_pair, 2)
        Offset in coordinates in which the core is round, arcsec.
    light : ndarray of float64, shape (n_pair,)
        Light of the pair times ln 10, electron / s.
    factors : ndarray of float64, shape (n_source, n_field)
        Columns over the field.
    starts : ndarray of float64, shape (n_wing,)
        Where slope and bends of the wing begin, log10 of the radius in units of the last knot.
    knots : ndarray of float64, shape (n_knot,)
        Full radial knot vector.
    shape : tuple of int
        Number of radial functions without angle, and of angular functions.
    rows : ndarray of float64, shape (n_row, n_global)
        Added to: the weights of each column over the field, then slope and bends of the wing.
    """
    n_core, n_phi = shape
    n_field = factors.shape[1]
    rmax, n_radial = knots[-1], knots.size - 5
    n_basis = n_core + (n_radial - n_core) * n_phi
    radial, around, unused = np.empty(4), np.empty(4), np.empty(4)
    for row in range(indptr.size - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            pair = order[entry]
            x, y = place[pair, 0], place[pair, 1]
            r = np.hypot(x, y)
            first = periodic_splines(np.arctan2(y, x), n_phi, around, unused)
            inside = r < rmax
            start = cubic_splines(min(r, rmax), knots, radial, unused)
            for i in range(4):
                function = max(start + i - 1, 0)
                if not inside and function < n_radial - 1:
                    continue
                own = light[pair] * radial[i]
                for k in range(n_field):
                    part = own * factors[source[pair], k]
                    if function < n_core:
                        rows[row, k * n_basis + function] += part
                        continue
                    offset = k * n_basis + n_core + (function - n_core) * n_phi
                    for j in range(4):
                        rows[row, offset + (first + j) % n_phi] += part * around[j]
            if not inside:
                depth = np.log10(r / rmax)
                for k in range(starts.size):
                    if depth > starts[k]:
                        rows[row, n_field * n_basis + k] += light[pair] * (depth - starts[k])
