"""Motion, size and shear of the PRF at every cadence, beyond the time columns: jitter and changes of focus."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix, identity

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.linalg.centred import GroupMeans
from bayesprf.linalg.shrinkage import MOST_MOTION, shrink
from bayesprf.scene.pixels import PixelTable
from bayesprf.settings import PerturbationOptions
from bayesprf.stats import excess_of_rows, median_scatter, telling_rows
from bayesprf.timemodel.rounds import Rounds, centre_robustly, find_levels, relative_ivar, start
from bayesprf.timemodel.training import TrainingPairs, TrainingPixels, bin_training

# Cost: numbers of unbinned training pixels that are held at once (a few such arrays are).
_MAX_SERIES = 1 << 22
# Rounding: share of a column that is left beside others where it is one of them.
_ROUNDING = 1e-9
# Accuracy: the rounds end when coefficients change by less than this share of their errors.
_SETTLED_CHANGE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class FreeMotion:
    """Coefficients of the PRF's columns at every cadence.

    Parameters
    ----------
    column : ndarray of int64, shape (n_free,)
        Numbers of the columns of `PrfChange` that are free.
    coefficient : ndarray of float64, shape (n_time, n_free)
        Posterior mean of their coefficients, whose mean over time is zero: pixels, or squared pixels.
    covariance : ndarray of float64, shape (n_time, n_free, n_free)
        Posterior covariance.
    """

    column: IntArray
    coefficient: FloatArray
    covariance: FloatArray


def fit_free_motion(
    pixels: PixelTable,
    pairs: TrainingPairs,
    columns: csr_matrix,
    slow: tuple[FloatArray, FloatArray],
    time_columns: FloatArray,
    *,
    options: PerturbationOptions,
    fixed_light: FloatArray | None = None,
) -> FreeMotion:
    """Fit motion, how it differs over the field, and changes of size and shear, at every cadence.

    Parameters
    ----------
    pixels : PixelTable
        Data: float64, shape (n_time, n_pixel), electron / s.
    pairs : TrainingPairs
        The training pixels.
    columns : csr_matrix of float64, shape (n_train, n_column)
        g_m in these pixels.
    slow : tuple of ndarray of float64, shapes (n_part, n_column) and (n_part, n_train)
        Coefficients of the columns and relative change of each pixel, per time column.
    time_columns : ndarray of float64, shape (n_time, n_part)
        These columns.
    options : PerturbationOptions
        `clip_sigma` and `n_round`; `shift_limit`: motion over more than this is not linear, and none of it is returned.
    fixed_light : ndarray of float64, shape (n_pixel,), optional
        Light of each pixel that belongs to no pair, electron / s.

    Returns
    -------
    FreeMotion

    Notes
    -----
    At cadence t the pixels of star s are y = a_s(t) m_p (1 + slow + sum_m theta_m(t) g_m) + noise. The brightness
    a_s(t) is marginalised as in `fit_rounds`; theta_m(t) ~ N(mu_m(t), s_m**2), s_m the same at all cadences, and
    the s_m maximise the evidence (MacKay 1992, Neural Computation 4, 415): where pixels tell of no motion there is
    none. The mean mu is zero, but for the second derivatives of the PRF: motion by (u, v) comes with u**2, u v and
    v**2, and only what is beyond them, as smear within an exposure, has a width.
    """
    free = np.flatnonzero(pairs.change.kind > 0)
    space = columns[:, free].toarray()
    told, apart = _telling_pixels(pixels, pairs, space)
    free, space, pairs = free[apart], space[np.ix_(told, apart)], pairs.select(told)
    training = bin_training(
        pixels, pairs, csr_matrix(identity(pixels.n_time)), radius=options.basis.radius, fixed_light=fixed_light
    )
    change, motion = time_columns @ slow[1][:, told], time_columns @ slow[0][:, free]
    frame = _Frame(training, space, change, motion, pairs.change.kind[free])
    state = replace(start(training, np.zeros((0, 0))), change=frame.slow)
    found = _Found(state, training.ivar, np.zeros((pixels.n_time, free.size)), np.zeros((0, 0, 0)))
    for number in range(options.n_round):
        before = found.mean
        found = _improve(frame, found, options.clip_sigma)
        if frame.extent(found.mean) > MOST_MOTION:  # its squares would run away
            break
        if number and _differ(before, found) < _SETTLED_CHANGE:
            break
    alive = np.any(found.mean != 0.0, axis=0)
    if frame.extent(found.mean) > min(options.shift_limit, MOST_MOTION):
        alive[:] = False
    mean = found.mean[:, alive]
    return FreeMotion(free[alive], mean - mean.mean(axis=0), found.covariance[:, alive][:, :, alive])


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """State after a round, inverse variances with the misfit in them (n_time, n_train), coefficients, their widths."""

    state: Rounds
    ivar: FloatArray
    mean: FloatArray
    covariance: FloatArray
    sigma: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """Training pixels, their columns (n_train, n_free), their slow change, its coefficients, and the columns' kinds."""

    training: TrainingPixels
    space: FloatArray
    slow: FloatArray
    slow_motion: FloatArray
    kind: IntArray

    def extent(self, mean: FloatArray) -> float:
        """Return the range of the motion of all stars along either axis, pixel."""
        return float(np.ptp(mean[:, self.kind == 1], axis=0).max(initial=0.0))

    def bent(self, mean: FloatArray) -> FloatArray:
        """Return the coefficients that motion at each cadence comes with, shape (n_time, n_free)."""
        motion, bending = self.kind == 1, self.kind == 3
        expected = np.zeros_like(mean)
        if motion.sum() == 2 and bending.sum() == 3:
            u, v = (self.slow_motion + mean)[:, np.flatnonzero(motion)[:2]].T
            squares = np.stack([u * u, u * v, v * v], axis=1)
            expected[:, bending] = squares - squares.mean(axis=0) - self.slow_motion[:, bending]
        return expected


def _improve(frame: _Frame, found: _Found, clip_sigma: float) -> _Found:
    """Return what one more round of levels, coefficients, misfit and clipping finds.

    Where all pixels of a cadence miss the model by more than usual, as when the image moves by more than is linear,
    its errors are larger; only what stands out among them is clipped.
    """
    training, space, slow = frame.training, frame.space, frame.slow
    weighed = replace(training, ivar=found.ivar)
    state = find_levels(weighed, found.state)
    level = state.template * state.amplitude[:, training.group]
    groups = GroupMeans(training.group, relative_ivar(weighed, level, state) * (state.template > 0))
    known = groups.ivar > 0
    data = np.where(known, state.ratio - 1.0 - slow, 0.0)
    expected = frame.bent(found.mean)
    mean, covariance, sigma = shrink(*normal_equations(groups, data - expected @ space.T, space), start=found.sigma)
    mean += expected
    residual = groups.centre(data - mean @ space.T)
    noise = np.full(residual.shape, np.inf)
    np.divide(1.0, training.ivar * level**2, out=noise, where=(training.ivar > 0) & (level > 0))
    variance = noise + _misfit(training, state.template, residual, noise, known)
    variance = variance * np.maximum(excess_of_rows(residual**2 / variance, known), 1.0)[:, None]
    limit = clip_sigma * np.sqrt(variance)
    residual = centre_robustly(residual, limit, training)
    used = (training.ivar > 0) & (state.template > 0) & (np.abs(residual) <= limit)
    ivar = np.divide(1.0, variance * level**2, out=np.zeros(level.shape), where=level > 0)
    return _Found(replace(state, change=slow + mean @ space.T, used=used), ivar, mean, covariance, sigma)


def _differ(before: FloatArray, found: _Found) -> float:
    """Return the root mean square change of the coefficients over their errors, of the one that changes most."""
    variance = np.einsum("tii->ti", found.covariance).mean(axis=0)
    change = np.mean((found.mean - before) ** 2, axis=0)
    return float(np.sqrt(np.max(change / np.where(variance > 0, variance, np.inf), initial=0.0)))


def _misfit(
    training: TrainingPixels, template: FloatArray, residual: FloatArray, noise: FloatArray, known: BoolArray
) -> FloatArray:
    """Return the relative variance of the model in each pixel beyond noise, one over its light as in the PRF's fit."""
    brightest = np.zeros(int(training.group.max(initial=-1)) + 1)
    np.maximum.at(brightest, training.group, template)
    light = np.where(template > 0, template, brightest[training.group])
    growth = np.broadcast_to(brightest[training.group] / light, residual.shape)
    scatter = median_scatter((residual / np.sqrt(growth))[known], (noise / growth)[known])
    return np.asarray(scatter**2 * growth)


def normal_equations(groups: GroupMeans, data: FloatArray, space: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the normal matrix and the right side of every cadence, the brightness of each star marginalised.

    Parameters
    ----------
    groups : GroupMeans
        Star of each pixel, and inverse variances, shape (n_time, n_pixel).
    data : ndarray of float64, shape (n_time, n_pixel)
        Relative deviations.
    space : ndarray of float64, shape (n_pixel, n_free)
        Columns.

    Returns
    -------
    normal : ndarray of float64, shape (n_time, n_free, n_free)
    score : ndarray of float64, shape (n_time, n_free)
    """
    n_time, n_free = groups.ivar.shape[0], space.shape[1]
    normal, score = np.empty((n_time, n_free, n_free)), np.empty((n_time, n_free))
    step = max(1, _MAX_SERIES // max(groups.n_group * n_free, 1))
    for first in range(0, n_time, step):
        part = slice(first, first + step)
        some = GroupMeans(groups.group, groups.ivar[part])
        normal[part], score[part] = _equations_together(some, data[part], space)
    return normal, score


def _equations_together(groups: GroupMeans, data: FloatArray, space: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return `normal_equations` of so few cadences that the means of all columns fit in memory."""
    weight, n_free = groups.ivar, space.shape[1]
    products = (space[:, :, None] * space[:, None, :]).reshape(-1, n_free**2)
    normal = (weight @ products).reshape(-1, n_free, n_free)
    means = np.stack([groups.mean(np.broadcast_to(one, weight.shape)) for one in space.T], axis=2)
    weighted = means * groups.total[:, :, None]
    normal -= weighted.transpose(0, 2, 1) @ means
    score = (weight * data) @ space - np.einsum("tgi,tg->ti", weighted, groups.mean(data))
    return normal, score


def _telling_pixels(pixels: PixelTable, pairs: TrainingPairs, space: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the training pixels that together tell nearly all of every column, and the columns that differ."""
    weight = pixels.ivar.mean(axis=0)[pairs.pixel] * pairs.light[pairs.chosen] ** 2
    groups = GroupMeans(pairs.group, weight[None])
    centred = np.stack([groups.centre(one[None])[0] for one in space.T], axis=1) * np.sqrt(weight)[:, None]
    apart = _apart(centred.T @ centred)
    most = max(1, _MAX_SERIES // max(pixels.n_time, 1))
    return telling_rows(centred[:, apart] ** 2, most), apart


def _apart(gram: FloatArray) -> IntArray:
    """Return the columns of which something is left beside those before them: one star tells of no field."""
    kept: list[int] = []
    for one in range(gram.shape[0]):
        left = gram[one, one]
        if kept:
            left -= gram[one, kept] @ np.linalg.solve(gram[np.ix_(kept, kept)], gram[kept, one])
        if left > _ROUNDING * gram[one, one]:
            kept.append(one)
    return np.array(kept, np.int64)
