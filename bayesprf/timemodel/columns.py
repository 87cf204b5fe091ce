"""Time columns measured from the data: image motion and principal components of the pixels."""

import numpy as np
from scipy.linalg import eigh

from bayesprf.arrays import LARGEST, FloatArray, IntArray, shape_of
from bayesprf.checks import as_float, check_choice, shown
from bayesprf.design.smoothing import smooth_series
from bayesprf.errors import InputError, ShapeError
from bayesprf.linalg.centred import GroupMeans
from bayesprf.scene.pixels import PixelTable
from bayesprf.settings import PerturbationOptions
from bayesprf.timemodel.training import TrainingPairs

POSITIONS = ("poscorr", "centroid")
# Knot distance of smoothed position vectors, day, as in PSFMachine (Hedges et al. 2021): pointing drifts slowly on
# missions without roll.
SMOOTH_DAYS = 1.0
# Cadences times pixels handled at once, and most pixels that enter the principal components.
_CHUNK_ELEMENTS, _MAX_PCA_PIXELS = 1 << 19, 1000
# A component that is one pixel's own is not common: pixels with a larger loading are left out, in this many
# passes: PSFMachine's (Hedges et al. 2021).
_MAX_LOADING, _N_PCA_PASSES = 0.5, 3


def check_vectors(vectors: object, n_time: int) -> FloatArray:
    """Return given time columns as shape (n_time, n_vector); NaN becomes 0.

    Parameters
    ----------
    vectors : array-like, shape (n_vector, n_time) or (n_time, n_vector) or (n_time,)
        Given columns; if the array is square, its rows are the columns.
    n_time : int
        Number of cadences.

    Returns
    -------
    ndarray of float64, shape (n_time, n_vector)

    Raises
    ------
    ShapeError
        If no axis has n_time entries.
    """
    array = np.atleast_2d(as_float(vectors, "other_vectors"))
    if np.any(np.abs(array) > LARGEST):
        raise InputError(f"other_vectors: expected finite numbers up to {LARGEST:g}, got {shown(vectors)}; scale them")
    if array.ndim != 2 or n_time not in array.shape:
        raise ShapeError(f"other_vectors: expected shape (n_vector, {n_time}), got {shape_of(vectors)}")
    return np.nan_to_num(array.T if array.shape[1] == n_time else array)


def position_vectors(positions: str, pixels: PixelTable, pairs: TrainingPairs) -> FloatArray:
    """Return image motion as time columns x, y, x^2, x y, y^2, shape (n_time, 5).

    Parameters
    ----------
    positions : {"poscorr", "centroid"}
        The mission's own motion vectors, or the motion measured from the pixels.
    pixels : PixelTable
        Data; `pos_corr` is needed for "poscorr".
    pairs : TrainingPairs
        The training pixels.

    Returns
    -------
    ndarray of float64, shape (n_time, 5)
        Smoothed with a knot a day where the pointing is stable, as it is where the instrument rolls.

    Raises
    ------
    InputError
        If `positions` is unknown, or "poscorr" is asked for and the pixels have none.
    """
    motion = image_motion(positions, pixels, pairs)
    motion = np.nan_to_num(motion - np.nanmean(motion, axis=0))
    x, y = (motion / max(float(np.abs(motion).max()), 1e-300)).T
    return np.stack([x, y, x * x, x * y, y * y], axis=1)


def image_motion(positions: str, pixels: PixelTable, pairs: TrainingPairs) -> FloatArray:
    """Return the image motion, smoothed where the pointing is stable.

    Parameters
    ----------
    positions : {"poscorr", "centroid"}
        The mission's own motion vectors (column and row), or the motion measured from the pixels (east and north).
    pixels : PixelTable
        Data; `pos_corr` is needed for "poscorr".
    pairs : TrainingPairs
        The training pixels.

    Returns
    -------
    ndarray of float64, shape (n_time, 2)
        pixel; NaN where unknown.

    Raises
    ------
    InputError
        If `positions` is unknown, or "poscorr" is asked for and the pixels have none.
    """
    check_choice(positions, POSITIONS, "positions")
    check_motion(positions, pixels)
    if positions == "poscorr" and pixels.pos_corr is not None:
        motion = np.where(np.isfinite(pixels.pos_corr), pixels.pos_corr, np.nan)
    else:
        motion = measure_motion(pixels, pairs)
    return motion if pixels.instrument.roll_hours > 0 else smooth_series(pixels.time, motion, SMOOTH_DAYS)


def check_motion(positions: str | None, pixels: PixelTable) -> None:
    """Raise if the mission's own motion is asked for and the pixels have none."""
    if positions == "poscorr" and (pixels.pos_corr is None or not np.isfinite(pixels.pos_corr).any()):
        raise InputError('positions: expected pixels with pos_corr for "poscorr", got none; use "centroid"')


def measure_motion(pixels: PixelTable, pairs: TrainingPairs) -> FloatArray:
    """Measure the motion common to all stars at every cadence.

    Parameters
    ----------
    pixels : PixelTable
        Data: float64, shape (n_time, n_pixel), electron / s.
    pairs : TrainingPairs
        The training pixels.

    Returns
    -------
    ndarray of float64, shape (n_time, 2)
        Towards east and north, pixel, about the mean; NaN without data.

    Notes
    -----
    Least squares of y / mean y - 1 on the gradient of ln PRF, with a free brightness per star and cadence.
    """
    pixel, group, columns = pairs.pixel, pairs.group, pairs.motion
    mean = _mean_light(pixels, pixel)
    motion = np.full((pixels.n_time, 2), np.nan)
    step = max(1, _CHUNK_ELEMENTS // max(1, pixel.size))
    for start in range(0, pixels.n_time, step):
        part = slice(start, start + step)
        ivar = pixels.ivar[part, pixel] * np.maximum(mean, 0.0) ** 2
        ratio = np.where(ivar > 0, pixels.flux[part, pixel] / np.where(mean > 0, mean, 1.0) - 1.0, 0.0)
        motion[part] = _solve_motion(GroupMeans(group, ivar), columns, ratio)
    return motion


def pca_vectors(
    pixels: PixelTable, pairs: TrainingPairs, *, trends: FloatArray, options: PerturbationOptions
) -> FloatArray:
    """Return the first principal components of what the trends leave of the pixels' time series.

    Parameters
    ----------
    pixels : PixelTable
        Data.
    pairs : TrainingPairs
        The training pixels; the thousand brightest are used.
    trends : ndarray of float64, shape (n_time, n_vector)
        Time columns already in the model.
    options : PerturbationOptions
        `pca_ncomponents` and `pca_smooth_time_scale`.

    Returns
    -------
    ndarray of float64, shape (n_time, n)
        Orthonormal; fewer than asked if the series have fewer.
    """
    pairs = pairs.select(np.sort(np.argsort(-_mean_light(pixels, pairs.pixel), kind="stable")[:_MAX_PCA_PIXELS]))
    pixel, group = pairs.pixel, pairs.group
    mean = _mean_light(pixels, pixel)
    ivar = pixels.ivar[:, pixel] * np.maximum(mean, 0.0) ** 2
    ratio = np.where(ivar > 0, pixels.flux[:, pixel] / np.where(mean > 0, mean, 1.0) - 1.0, 0.0)
    series = np.where(ivar > 0, GroupMeans(group, ivar).centre(ratio), 0.0)
    if options.pca_smooth_time_scale > 0:
        series = smooth_series(pixels.time, series, options.pca_smooth_time_scale)
    series = series - trends @ np.linalg.lstsq(trends, series, rcond=None)[0]
    return common_components(series, options.pca_ncomponents)


def common_components(series: FloatArray, n_component: int) -> FloatArray:
    """Return the first left singular vectors of series, shape (n_time, n_series), that are not one series' own.

    Parameters
    ----------
    series : ndarray of float64, shape (n_time, n_series)
        Finite numbers.
    n_component : int
        Number of components.

    Returns
    -------
    ndarray of float64, shape (n_time, n)
        Each with its largest entry positive.
    """
    keep = np.flatnonzero(np.any(series != 0, axis=0))
    vectors = np.zeros((series.shape[0], 0))
    for _ in range(_N_PCA_PASSES):
        count = min(n_component, keep.size, series.shape[0])
        if count == 0:
            break
        values, loadings = eigh(series[:, keep].T @ series[:, keep])
        good = values[::-1][:count] > 1e-24 * max(float(values[-1]), 1e-300)
        loadings = loadings[:, ::-1][:, :count][:, good]
        vectors = series[:, keep] @ loadings
        own = np.any(np.abs(loadings) > _MAX_LOADING, axis=1)
        if not own.any() or own.all() or keep.size - own.sum() < n_component:
            break
        keep = keep[~own]
    norm = np.sqrt(np.sum(vectors**2, axis=0))
    vectors = vectors / np.where(norm > 0, norm, 1.0)
    largest = np.take_along_axis(vectors, np.argmax(np.abs(vectors), axis=0)[None], axis=0)
    return vectors * np.sign(largest)


def _solve_motion(groups: GroupMeans, columns: FloatArray, ratio: FloatArray) -> FloatArray:
    """Return the two coefficients of each cadence, shape (n_time, 2), with the groups' means subtracted."""
    ivar = groups.ivar
    data = groups.centre(ratio)
    parts = [groups.centre(np.broadcast_to(one, ivar.shape)) for one in columns.T]
    a, b, c = (np.sum(ivar * parts[i] * parts[j], axis=1) for i, j in ((0, 0), (0, 1), (1, 1)))
    u, v = (np.sum(ivar * part * data, axis=1) for part in parts)
    determinant = a * c - b * b
    safe = determinant > 1e-12 * a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        both = np.stack([c * u - b * v, a * v - b * u], axis=1) / determinant[:, None]
    return np.where(safe[:, None], both, np.nan)


def _mean_light(pixels: PixelTable, pixel: IntArray) -> FloatArray:
    """Return the mean flux over time of some pixels, weighted by inverse variance, electron / s."""
    from bayesprf.linalg.compiled.sums import bin_columns  # compiled on first use

    sums = np.zeros((2, 1, pixel.size))
    bin_columns(np.array([0, pixels.n_time]), np.arange(pixels.n_time), pixel, pixels.flux, pixels.ivar, sums)
    return sums[1, 0] / np.where(sums[0, 0] > 0, sums[0, 0], 1.0)
