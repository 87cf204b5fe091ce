"""Compiled answer of fluxes to errors of the stars' light in rings, star by star."""

from typing import NamedTuple

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import inlined, kernel

# Format: harmonics of the angle: 1, cosine and sine, and those of its double.
N_PART = 5


class RowsOfStars(NamedTuple):
    """A sparse matrix of stars by parameters of stars, row by row.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_source + 1,)
        Row s holds ``parameter[indptr[s]:indptr[s + 1]]``, ascending.
    parameter : ndarray of int64, shape (n_entry,)
        Parameters: n_own for each star.
    value : ndarray of float64, shape (n_entry,)
        Entries.
    """

    indptr: IntArray
    parameter: IntArray
    value: FloatArray


class StarColumns(NamedTuple):
    """The columns of the stars' own parameters, star by star.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_source + 1,)
        Star s holds the entries from ``indptr[s]`` to ``indptr[s + 1]``.
    pixel : ndarray of int64, shape (n_near,)
        Pixels.
    parts : ndarray of float64, shape (n_near, n_own)
        Derivatives of the image.
    """

    indptr: IntArray
    pixel: IntArray
    parts: FloatArray


class RingLight(NamedTuple):
    """The light of the stars in the rings about them, and by how much it errs farther out, pixel by pixel.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_pixel + 1,)
        Pixel p holds the entries from ``indptr[p]`` to ``indptr[p + 1]``.
    source, ring : ndarray of int64, shape (n_pair,)
        Star, and ring.
    light : ndarray of float64, shape (n_pair,)
        Light, electron / s.
    direction : ndarray of float64, shape (n_pair, 2)
        Cosine and sine of the angle of the pixel about the star; 0 at the star itself.
    wing : ndarray of int64, shape (n_pair,)
        Ring of the wing from 1 on, 0 nearer.
    error : ndarray of float64, shape (n_pair,)
        Standard deviation of the light of the wing, electron / s.
    """

    indptr: IntArray
    source: IntArray
    ring: IntArray
    light: FloatArray
    direction: FloatArray
    wing: IntArray
    error: FloatArray


@inlined
def _add_gain(
    s: int, rows: RowsOfStars, columns: StarColumns, weight: FloatArray, gain: FloatArray, pixels: IntArray
) -> int:
    """Fill the answer of one flux to each pixel; list the pixels that it answers to, and return their number."""
    n_own, n_pixel = columns.parts.shape[1], 0
    own = np.empty(n_own)
    at = rows.indptr[s]
    while at < rows.indptr[s + 1]:
        star = rows.parameter[at] // n_own
        own[:] = 0.0
        while at < rows.indptr[s + 1] and rows.parameter[at] // n_own == star:
            own[rows.parameter[at] - star * n_own] = rows.value[at]
            at += 1
        for entry in range(columns.indptr[star], columns.indptr[star + 1]):
            p = columns.pixel[entry]
            if weight[p] == 0.0:
                continue
            if gain[p] == 0.0:
                pixels[n_pixel] = p
                n_pixel += 1
                gain[p] = 1e-300
            for j in range(n_own):
                gain[p] += weight[p] * own[j] * columns.parts[entry, j]
    return n_pixel


@inlined
def _add_harmonics(answer: FloatArray, ring: int, n_order: int, light: float, direction: FloatArray) -> None:
    """Add light to the answer of a ring, times each harmonic of the angle of the orders that err."""
    first, root = N_PART * ring, np.sqrt(2.0) * light
    if n_order > 0:
        answer[first] += light
    if n_order > 1:
        x, y = direction[0], direction[1]
        answer[first + 1] += root * x
        answer[first + 2] += root * y
        if n_order > 2:
            answer[first + 3] += root * (x * x - y * y)
            answer[first + 4] += root * 2.0 * x * y


@inlined
def _count_orders(factors: FloatArray) -> int:
    """Return the number of orders up to the last one of which something errs."""
    n_order = 0
    for order in range(factors.shape[0]):
        if np.any(factors[order] != 0.0):
            n_order = order + 1
    return n_order


@inlined
def _square_of_errors(answer: FloatArray, own: FloatArray, factors: FloatArray, n_order: int, other: int) -> float:
    """Return the variance of a flux from errors of the rings of its star, or of the rings and wings of an `other`."""
    n_ring, total = own.shape[0], 0.0
    if other == 0:
        for j in range(n_ring):
            for part in range(N_PART):
                answer[N_PART * j + part] -= own[j, part]
    else:
        for k in range(N_PART * n_ring, answer.size):
            total += answer[k] ** 2
    for part in range(max(2 * n_order - 1, 0)):
        order = (part + 1) // 2
        for k in range(n_ring):
            error = 0.0
            for j in range(n_ring):
                error += answer[N_PART * j + part] * factors[order, j, k]
            total += error * error
    return total


@kernel
def ring_variances(
    rows: RowsOfStars,
    columns: StarColumns,
    weight: FloatArray,
    light: RingLight,
    n_wing: int,
    own: FloatArray,
    factors: FloatArray,
    least: float,
    variance: FloatArray,
) -> None:
    """Find the variance of each flux from errors of the stars' rings and of other stars' wings.

    Parameters
    ----------
    rows : RowsOfStars
        Covariance of each flux with the parameters of the stars.
    columns : StarColumns
        Their columns.
    weight : ndarray of float64, shape (n_pixel,)
        Weights of the pixels.
    light : RingLight
        Light of the stars.
    n_wing : int
        Rings of the wing.
    own : ndarray of float64, shape (n_source, n_ring, 5)
        What an error of each harmonic of a ring adds to the light of its star, electron / s.
    factors : ndarray of float64, shape (3, n_ring, n_ring)
        L with the covariances L L' of the relative errors of rings as a whole, of dipoles and of ellipses, each with
        two harmonics.
    least : float
        Pixels whose noise is a smaller share of the error of a flux are left out.
    variance : ndarray of float64, shape (n_source,)
        Filled.
    """
    n_source, n_part, n_order = own.shape[0], own.shape[1] * N_PART, _count_orders(factors)
    gain, pixels = np.zeros(weight.size), np.empty(weight.size, np.int64)
    answer, stars = np.zeros((n_source, n_part + n_wing)), np.empty(n_source, np.int64)
    met = np.zeros(n_source, np.bool_)
    for s in range(n_source):
        n_pixel, n_star = _add_gain(s, rows, columns, weight, gain, pixels), 0
        error = 0.0
        for k in range(n_pixel):
            error += gain[pixels[k]] ** 2 / weight[pixels[k]]
        for k in range(n_pixel):
            p = pixels[k]
            if gain[p] ** 2 < least**2 * error * weight[p]:
                gain[p] = 0.0
                continue
            for entry in range(light.indptr[p], light.indptr[p + 1]):
                star = light.source[entry]
                if not met[star]:
                    met[star] = True
                    stars[n_star] = star
                    n_star += 1
                one = gain[p] * light.light[entry]
                _add_harmonics(answer[star], light.ring[entry], n_order, one, light.direction[entry])
                if light.wing[entry] > 0:
                    answer[star, n_part + light.wing[entry] - 1] += gain[p] * light.error[entry]
            gain[p] = 0.0
        variance[s] = 0.0
        if not met[s]:
            met[s] = True
            stars[n_star] = s
            n_star += 1
        for k in range(n_star):
            star = stars[k]
            variance[s] += _square_of_errors(answer[star], own[star], factors, n_order, int(star != s))
            answer[star] = 0.0
            met[star] = False
