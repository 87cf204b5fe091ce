"""One image out of the stack: the mean over time, or a single frame."""

from dataclasses import dataclass, field

import numpy as np

from bayesprf.arrays import LARGEST, BoolArray, FloatArray, IntArray
from bayesprf.checks import check_shape, shown
from bayesprf.errors import InputError
from bayesprf.scene.garbage import PixelSums, find_garbage
from bayesprf.scene.pixels import PixelTable


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Flux and inverse variance of each pixel; a pixel without data has `ivar` 0 and flux 0.

    Parameters
    ----------
    flux : ndarray of float64, shape (n_pixel,)
        electron / s.
    ivar : ndarray of float64, shape (n_pixel,)
        (electron / s)**-2.
    cadence_error : float
        Median error of a pixel in one cadence, electron / s.
    left_out : ndarray of int64, shape (n_left_out, 2)
        Cadence and pixel of the values that are not in the mean, because no star can have made them.
    """

    flux: FloatArray
    ivar: FloatArray
    cadence_error: float
    left_out: IntArray = field(default_factory=lambda: np.empty((0, 2), np.int64))


def reduce_image(pixels: PixelTable, frame_index: object = "mean", time_mask: BoolArray | None = None) -> Image:
    """Average the stack over time, or pick one frame.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    frame_index : "mean" or int
        Which image.
    time_mask : ndarray of bool, shape (n_time,), optional
        Only cadences where it is True enter the mean.

    Returns
    -------
    Image
        The plain mean over the cadences in which a pixel has data (weights that follow the light would
        bend the PRF of variable stars), with the variance of that mean. Single values that no star can have made, such
        as a flipped bit, are left out of it and listed in `left_out`; all other pixels keep their exact mean.

    Raises
    ------
    InputError
        If `frame_index` is neither "mean" nor the index of a cadence, or no cadence is left.
    """
    if isinstance(frame_index, str) and frame_index == "mean":
        return _mean_image(pixels, time_mask)
    refusal = f"frame_index: expected 'mean' or an integer below {pixels.n_time}, got {shown(frame_index)}"
    if not isinstance(frame_index, int | np.integer) or isinstance(frame_index, bool):
        raise InputError(refusal)
    if not -pixels.n_time <= frame_index < pixels.n_time:
        raise InputError(refusal)
    used = pixels.ivar[frame_index]
    flux = np.where(used > 0, pixels.flux[frame_index], 0.0)
    return Image(flux, used.copy(), _median_error(used))


def masked_cadences(time_mask: BoolArray | None, n_time: int) -> IntArray:
    """Return the cadences that a mask leaves for the mean image.

    Parameters
    ----------
    time_mask : ndarray of bool, shape (n_time,), optional
        The mask; None leaves all.
    n_time : int
        Number of cadences.

    Returns
    -------
    ndarray of int64, shape (n_left,)

    Raises
    ------
    InputError
        If it is no mask of the cadences, or leaves none.
    """
    if time_mask is None:
        return np.arange(n_time)
    try:
        mask = np.asarray(time_mask)
    except ValueError as error:
        raise InputError(f"time_mask: expected True or False per cadence, got {shown(time_mask)}") from error
    if mask.dtype != bool:
        raise InputError(f"time_mask: expected True or False per cadence, got an array of {mask.dtype}")
    check_shape(mask, (n_time,), "time_mask", "n_time")
    if not mask.any():
        raise InputError("time_mask: expected at least one True, got none; no cadence is left for the mean image")
    return np.flatnonzero(mask)


def _mean_image(pixels: PixelTable, time_mask: BoolArray | None) -> Image:
    rows = masked_cadences(time_mask, pixels.n_time)
    sums = _add_up(pixels, rows)
    left_out = find_garbage(pixels, rows, sums)
    total, variance, count = sums.total, sums.variance, sums.count
    for pixel in np.unique(left_out[:, 1]):
        kept = np.setdiff1d(rows[pixels.ivar[rows, pixel] > 0], left_out[left_out[:, 1] == pixel, 0])
        total[pixel], count[pixel] = pixels.flux[kept, pixel].sum(), kept.size
        variance[pixel] = np.square(pixels.flux_err[kept, pixel]).sum()
    seen = count > 0
    mean = np.divide(total, count, out=np.zeros_like(total), where=seen)
    _check_unit(mean)
    ivar = np.divide(count**2, variance, out=np.zeros_like(total), where=seen)
    return Image(mean, ivar, _median_error(pixels.ivar[rows[:: max(1, rows.size // 16)]]), left_out)


def _check_unit(mean: FloatArray) -> None:
    """Raise unless the squares of a mean image are numbers."""
    brightest = float(np.abs(mean).max())
    if not brightest <= LARGEST:
        raise InputError(
            f"flux: expected a mean image in electron / s, got pixels of up to {brightest:.3g}; check the unit"
        )


def _add_up(pixels: PixelTable, rows: IntArray) -> PixelSums:
    """Return the sums over the cadences of these rows, chunk by chunk."""
    total, square, variance, count, worst = (np.zeros(pixels.n_pixel) for _ in range(5))
    low, best = np.full((2, pixels.n_pixel), np.inf)
    high = np.full(pixels.n_pixel, -np.inf)
    step = max(1, (1 << 18) // pixels.n_pixel)
    whole = rows.size == pixels.n_time
    for start in range(0, rows.size, step):
        part = slice(start, start + step) if whole else rows[start : start + step]
        good, flux, error = pixels.ivar[part] > 0, pixels.flux[part], pixels.flux_err[part]
        if not good.all():
            np.minimum(low, np.where(good, flux, np.inf).min(axis=0), out=low)
            np.maximum(high, np.where(good, flux, -np.inf).max(axis=0), out=high)
            np.minimum(best, np.where(good, error, np.inf).min(axis=0), out=best)
            flux, error = np.where(good, flux, 0.0), np.where(good, error, 0.0)
        else:
            np.minimum(low, flux.min(axis=0), out=low)
            np.maximum(high, flux.max(axis=0), out=high)
            np.minimum(best, error.min(axis=0), out=best)
        total += flux.sum(axis=0)
        with np.errstate(over="ignore"):
            square += np.einsum("tp,tp->p", flux, flux)
        variance += np.einsum("tp,tp->p", error, error)
        np.maximum(worst, error.max(axis=0), out=worst)
        count += good.sum(axis=0)
    return PixelSums(total, square, variance, count, low=low, high=high, best=best, worst=worst)


def _median_error(ivar: FloatArray) -> float:
    good = ivar > 0
    return float(np.median(ivar[good] ** -0.5)) if good.any() else 1.0
