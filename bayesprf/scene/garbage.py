"""Single values of a stack that no star can have made: flipped bits, cosmic rays on one pixel, broken errors."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import gammainccinv, ndtri

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.scene.pixels import PixelTable
from bayesprf.stats import SIGMA_PER_MAD

# Derived: a value this many sigma from its pixel's median is no noise, whatever the noise is like.
_SIGMA = 20.0
# Derived: a star that changes in its brightest pixel changes in the eight around it, by at least 0.45 of that in all
# for the sharpest PRF of the missions (Kepler, 0.69 of the light in one pixel); a third of it is still a star.
_FOLLOWED = 0.45
_SHARE = _FOLLOWED / 3.0
# Definition: chance that noise alone holds such a value in a stack, or hides that the pixels around follow it.
_CHANCE = 0.01
# Derived: no star makes a pixel a thousand times brighter than the brightest of the stack.
_IMPOSSIBLE = 1e3
# Derived: errors of a pixel follow the root of its light and sky: one a third of the usual at the usual flux is broken.
_SMALL_ERROR = 1.0 / 3.0
# Derived: fewer cadences have no median to stand out from.
_FEWEST = 4
_AROUND = [(column, row) for column in (-1, 0, 1) for row in (-1, 0, 1) if (column, row) != (0, 0)]


@dataclass(frozen=True, slots=True, eq=False)
class PixelSums:
    """Sums over the usable cadences of each pixel, shape (n_pixel,).

    Parameters
    ----------
    total, square : ndarray of float64
        Of flux and its square.
    variance : ndarray of float64
        Of the squared errors.
    count : ndarray of float64
        Cadences.
    low, high, best, worst : ndarray of float64
        Least and largest flux, and least and largest error.
    """

    total: FloatArray
    square: FloatArray
    variance: FloatArray
    count: FloatArray
    low: FloatArray
    high: FloatArray
    best: FloatArray
    worst: FloatArray


def find_garbage(pixels: PixelTable, rows: IntArray, sums: PixelSums) -> IntArray:
    """Return cadence and pixel of the values that no star can have made.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    rows : ndarray of int64, shape (n_used,)
        The cadences that count.
    sums : PixelSums
        Their sums.

    Returns
    -------
    ndarray of int64, shape (n_found, 2)
        A flux stands out from its pixel's median by more than noise does in one stack of a hundred, and the eight
        pixels around do not change, nor follow it as those around a star do; or it does so by 20 sigma, and they do
        not follow; or it is a thousand times the brightest pixel; or its error outweighs all others of the pixel
        together, or is less than a third of the usual.
    """
    found = [*_broken_errors(pixels, rows, sums)]
    level = min(_SIGMA, -float(ndtri(0.5 * _CHANCE / max(sums.count.sum(), 1.0))))
    doubtful = np.flatnonzero(_stands_out(sums, level))
    if doubtful.size:
        limit = _IMPOSSIBLE * _brightest(pixels, rows, sums, doubtful)
        place = _places(pixels)
        changes = cache(lambda pixel: _changes(pixels, rows, pixel))
        for pixel in doubtful.tolist():
            around = _around(pixels, pixel, place)
            found += [(int(rows[i]), pixel) for i in _lone_values(changes, pixel, around, level=level, limit=limit)]
    return np.array(sorted(set(found)), np.int64).reshape(-1, 2)


def drop_values(pixels: PixelTable, values: IntArray) -> PixelTable:
    """Return the stack without some values.

    Parameters
    ----------
    pixels : PixelTable
        The stack; itself if there is nothing to drop.
    values : ndarray of int64, shape (n_value, 2)
        Cadence and pixel of each.

    Returns
    -------
    PixelTable
    """
    if not len(values):
        return pixels
    flux = pixels.flux.copy()
    flux[values[:, 0], values[:, 1]] = np.nan
    return replace(pixels, flux=flux)


def _stands_out(sums: PixelSums, level: float) -> BoolArray:
    """Return which pixels may hold a value of so many errors and sigma, from sums alone.

    One value at distance d in n with scatter s lies (1 - 1/n) d from the mean, and adds d**2 / n (1 - 1/n) to s**2.
    """
    n = np.maximum(sums.count, 1.0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mean = sums.total / n
        away = np.maximum(sums.high - mean, mean - sums.low)
        scatter = np.sqrt(np.maximum(sums.square / n - mean**2, 0.0))
        inner = 1.0 - 1.0 / n
        least = 0.7 * level * inner / np.sqrt(1.0 + level**2 / n * inner)
        quiet = (away <= level * inner * np.sqrt(sums.variance / n)) | (away <= least * scatter)
    return np.asarray((sums.count >= _FEWEST) & ~quiet, bool)


def _brightest(pixels: PixelTable, rows: IntArray, sums: PixelSums, doubtful: IntArray) -> float:
    """Return the largest flux of a pixel, electron / s: its mean over time, or its median where it is in doubt."""
    with np.errstate(invalid="ignore", divide="ignore"):
        typical = np.where(sums.count > 0, sums.total / sums.count, 0.0)
    for pixel in doubtful.tolist():
        typical[pixel] = np.median(pixels.flux[rows[pixels.ivar[rows, pixel] > 0], pixel])
    return float(np.abs(typical).max())


def _places(pixels: PixelTable) -> dict[tuple[int, int], int]:
    keys = zip(np.rint(pixels.column).astype(int).tolist(), np.rint(pixels.row).astype(int).tolist(), strict=True)
    return {key: i for i, key in enumerate(keys)}


def _around(pixels: PixelTable, pixel: int, place: dict[tuple[int, int], int]) -> list[int]:
    """Return the pixels around one, eight at most."""
    column, row = round(pixels.column[pixel]), round(pixels.row[pixel])
    return [place[key] for dx, dy in _AROUND if (key := (column + dx, row + dy)) in place]


def _lone_values(
    changes: Callable[[int], tuple[FloatArray, float]], pixel: int, around: list[int], *, level: float, limit: float
) -> list[int]:
    """Return which of a pixel's values, by index, stand out alone, or beyond all stars."""
    change, sigma = changes(pixel)
    with np.errstate(invalid="ignore"):
        out = np.flatnonzero(np.abs(change) > level * sigma)
    if out.size == 0 or out.size > change.size // 4:
        return []
    size, far = np.abs(change[out]), np.abs(change[out]) > _SIGMA * sigma
    if not around:
        return out[far & (size > limit)].tolist()
    others = np.sign(change[out]) * np.stack([changes(one)[0][out] for one in around])
    with np.errstate(over="ignore", invalid="ignore"):
        alone = (far & (np.nansum(others, axis=0) < _SHARE * size)) | _is_alone(
            size, others, np.array([changes(one)[1] for one in around])
        )
    return out[far & (size > limit) | alone].tolist()


def _is_alone(size: FloatArray, others: FloatArray, sigma: FloatArray) -> BoolArray:
    """Return where the pixels around neither change nor follow a change as those around a star do, (n_value,).

    Parameters
    ----------
    size : ndarray of float64, shape (n_value,)
        The change.
    others : ndarray of float64, shape (n_around, n_value)
        Changes of the pixels around, in its direction; NaN where there are none.
    sigma : ndarray of float64, shape (n_around,)
        Their noise.
    """
    noise = np.where(np.isfinite(others), sigma[:, None], 0.0)
    n_known = np.isfinite(others).sum(axis=0)
    least = _FOLLOWED * n_known / len(_AROUND) * size + ndtri(_CHANCE) * np.sqrt(np.square(noise).sum(axis=0))
    quiet = np.nansum((others / sigma[:, None]) ** 2, axis=0) < 2.0 * gammainccinv(0.5 * n_known, _CHANCE)
    return np.asarray((np.nansum(others, axis=0) < least) & quiet, bool)


def _changes(pixels: PixelTable, rows: IntArray, pixel: int) -> tuple[FloatArray, float]:
    """Return how far a pixel's values lie from their median, NaN where there is none, and their scatter."""
    usable = pixels.ivar[rows, pixel] > 0
    values = np.where(usable, pixels.flux[rows, pixel], np.nan)
    if not usable.any():
        return values, np.inf
    change = values - np.median(values[usable])
    scatter = SIGMA_PER_MAD * float(np.median(np.abs(change[usable])))
    return change, max(scatter, float(np.median(pixels.flux_err[rows, pixel][usable])))


def _broken_errors(pixels: PixelTable, rows: IntArray, sums: PixelSums) -> list[tuple[int, int]]:
    """Return the values whose squared error is more than half of their pixel's sum, or far below its median."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        usual = np.where(sums.count >= _FEWEST, sums.variance / sums.count, 0.0)
        heavy = np.flatnonzero((usual > 0) & (sums.worst**2 > 0.5 * sums.variance))
        light = np.flatnonzero((usual > 0) & (sums.best**2 < _SMALL_ERROR**2 * usual))
    found = []
    for pixel in heavy.tolist():
        errors = np.where(pixels.ivar[rows, pixel] > 0, pixels.flux_err[rows, pixel], 0.0)
        found.append((int(rows[np.argmax(errors)]), pixel))
    for pixel in light.tolist():
        change, sigma = _changes(pixels, rows, pixel)
        errors = np.where(np.isfinite(change), pixels.flux_err[rows, pixel], np.inf)
        small = errors < _SMALL_ERROR * np.median(errors[np.isfinite(errors)])
        if np.count_nonzero(small) <= rows.size // 4:
            found += [(int(rows[i]), pixel) for i in np.flatnonzero(small & (np.abs(change) < _SIGMA * sigma))]
    return found
