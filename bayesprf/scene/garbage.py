"""Single values of a stack that no star can have made: flipped bits, cosmic rays on one pixel, broken errors."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammainccinv, ndtri

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.scene.pixels import PixelTable
from bayesprf.stats import SIGMA_PER_MAD, median_over_time

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
# Cost: pixels that are looked at together.
_TOGETHER = 256
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
        around = _pixels_around(pixels, doubtful)
        for start in range(0, doubtful.size, _TOGETHER):
            part = slice(start, start + _TOGETHER)
            found += _lone_values(pixels, rows, doubtful[part], around[part], level=level, limit=limit)
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
    known = pixels.ivar[np.ix_(rows, doubtful)] > 0
    typical[doubtful] = median_over_time(np.where(known, pixels.flux[np.ix_(rows, doubtful)], np.nan))
    return float(np.abs(typical).max())


def _pixels_around(pixels: PixelTable, chosen: IntArray) -> IntArray:
    """Return the eight pixels around each of some pixels, -1 where there is none, shape (n_chosen, 8)."""
    column, row = np.rint(pixels.column).astype(np.int64), np.rint(pixels.row).astype(np.int64)
    width = int(np.ptp(row)) + 3  # with a margin, so that no row runs into the next column
    key = (column - column.min()) * width + row - row.min()
    order = np.argsort(key)
    wanted = key[chosen][:, None] + np.array([dx * width + dy for dx, dy in _AROUND])
    place = np.minimum(np.searchsorted(key[order], wanted), key.size - 1)
    return np.where(key[order][place] == wanted, order[place], -1)


def _lone_values(
    pixels: PixelTable, rows: IntArray, chosen: IntArray, around: IntArray, *, level: float, limit: float
) -> list[tuple[int, int]]:
    """Return cadence and pixel of the values of some pixels that stand out alone, or beyond all stars."""
    needed = np.unique(np.concatenate([chosen, around[around >= 0]]))
    change, noise = _changes(pixels, rows, needed)
    own, near = np.searchsorted(needed, chosen), np.where(around >= 0, np.searchsorted(needed, around), -1)
    with np.errstate(invalid="ignore"):
        stands = np.abs(change[:, own]) > level * noise[own]
    stands[:, stands.sum(axis=0) > rows.size // 4] = False
    cadence, star = np.nonzero(stands)
    value, sigma = change[cadence, own[star]], noise[own[star]]
    known = near[star] >= 0
    others = np.where(known, change[cadence[:, None], near[star]], np.nan) * np.sign(value)[:, None]
    size, far = np.abs(value), np.abs(value) > _SIGMA * sigma
    with np.errstate(over="ignore", invalid="ignore"):
        alone = far & (np.nansum(others, axis=1) < _SHARE * size) & known.any(axis=1)
        alone |= _is_alone(size, others, np.where(known, noise[near[star]], np.inf))
    out = far & (size > limit) | alone
    return list(zip(rows[cadence[out]].tolist(), chosen[star[out]].tolist(), strict=True))


def _is_alone(size: FloatArray, others: FloatArray, sigma: FloatArray) -> BoolArray:
    """Return where the pixels around neither change nor follow a change as those around a star do, (n_value,).

    Parameters
    ----------
    size : ndarray of float64, shape (n_value,)
        The change.
    others : ndarray of float64, shape (n_value, 8)
        Changes of the pixels around, in its direction; NaN where there are none.
    sigma : ndarray of float64, shape (n_value, 8)
        Their noise.
    """
    known = np.isfinite(others)
    n_known, noise = known.sum(axis=1), np.where(known, sigma, 0.0)
    least = _FOLLOWED * n_known / len(_AROUND) * size + ndtri(_CHANCE) * np.sqrt(np.square(noise).sum(axis=1))
    quiet = np.nansum((others / sigma) ** 2, axis=1) < 2.0 * gammainccinv(0.5 * n_known, _CHANCE)
    return np.asarray((np.nansum(others, axis=1) < least) & quiet, bool)


def _changes(pixels: PixelTable, rows: IntArray, chosen: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return how far values lie from the median of their pixel, (n_used, n_chosen), NaN for none, and their scatter."""
    part = np.ix_(rows, chosen)
    usable = pixels.ivar[part] > 0
    values, errors = (np.where(usable, one[part], np.nan) for one in (pixels.flux, pixels.flux_err))
    with np.errstate(over="ignore"):
        change = values - median_over_time(values)
        scatter = SIGMA_PER_MAD * median_over_time(np.abs(change), empty=np.inf)
    return change, np.maximum(scatter, median_over_time(errors, empty=np.inf))


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
        change, sigma = (one[..., 0] for one in _changes(pixels, rows, np.array([pixel])))
        errors = np.where(np.isfinite(change), pixels.flux_err[rows, pixel], np.inf)
        small = errors < _SMALL_ERROR * np.median(errors[np.isfinite(errors)])
        if np.count_nonzero(small) <= rows.size // 4:
            found += [(int(rows[i]), pixel) for i in np.flatnonzero(small & (np.abs(change) < _SIGMA * sigma))]
    return found
