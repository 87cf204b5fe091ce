"""Rounds of levels, fit, noise and clipping that turn binned pixels into the coefficients of the time model."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.errors import ConvergenceWarning, warn
from bayesprf.linalg.centred import CentredDesign, GroupMeans
from bayesprf.linalg.kronecker import KroneckerDesign
from bayesprf.linalg.problem import GaussianPosterior, GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.settings import PerturbationOptions
from bayesprf.stats import NORMAL_MEDIAN, median_scatter, weighted_median
from bayesprf.timemodel.training import TrainingPixels

# Derived: a pixel deviates by itself if its excess variance is this many times the error of that variance, as one in
# 740 does by chance.
_EVIDENT = 3.0
# Rounding: the precision of a prior that holds a coefficient at zero.
_NARROW = 1e30
# Accuracy: sweeps between the pixels' means and the stars' brightness.
_N_LEVEL_SWEEP = 2
# Derived: levels are found by dividing by the model's factor, held at this share where it would have pixels or stars go
# dark: so near zero a change is no longer linear, and noise would grow more than twenty times.
_LEAST_FACTOR = 0.05
# Definition: the number of coefficients that pixels decide at least, so that there is one whose size they tell.
_LEAST_DECIDED = 1.0
# Rounding: the prior width that holds coefficients at zero.
_HELD = 1e-12
# Rounding: smallest prior width, of a relative change.
_LEAST_WIDTH = 1e-6
# Accuracy: the rounds end, after this many at the earliest, when clipping changes less than this share of the
# pixel-bins.
_N_ROUND_MIN, _SETTLED_SHARE = 3, 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Rounds:
    """State after a round.

    Parameters
    ----------
    weights, weights_err : ndarray of float64, shape (n_vector, n_column)
        Coefficients and their posterior standard deviation.
    prior_sigma : ndarray of float64, shape (n_vector, n_column)
        Prior standard deviation of the coefficients in the next round.
    pixel_weights : ndarray of float64, shape (n_vector, n_train)
        What each pixel does beyond the common change.
    template : ndarray of float64, shape (n_train,)
        Mean light of each pixel, electron / s.
    amplitude : ndarray of float64, shape (n_bin, n_group)
        Brightness of each star in each bin, mean one.
    ratio, change : ndarray of float64, shape (n_bin, n_train)
        Light over template and amplitude, and the fitted change.
    used : ndarray of bool, shape (n_bin, n_train)
        What was fitted.
    scatter : float
        Relative scatter beyond the errors.
    """

    weights: FloatArray
    weights_err: FloatArray
    prior_sigma: FloatArray
    pixel_weights: FloatArray
    template: FloatArray
    amplitude: FloatArray
    ratio: FloatArray
    change: FloatArray
    used: BoolArray
    scatter: float


def fit_rounds(
    training: TrainingPixels,
    time_columns: FloatArray,
    columns: csr_matrix,
    plane: FloatArray,
    options: PerturbationOptions,
    *,
    kind: IntArray,
) -> Rounds:
    """Fit the coefficients c_km of y = a_s(t) m_p (1 + sum_km c_km v_k(t) (g_m - mean_m)).

    Parameters
    ----------
    training : TrainingPixels
        Binned pixels.
    time_columns : ndarray of float64, shape (n_bin, n_vector)
        Binned v_k, without the constant.
    columns : csr_matrix of float64, shape (n_train, n_column)
        g_m.
    plane : ndarray of float64, shape (n_train, n_column)
        mean_m of the pixel's source.
    options : PerturbationOptions
        Settings.
    kind : ndarray of int64, shape (n_column,)
        Columns of a kind have coefficients of one size, which is learned.

    Returns
    -------
    Rounds
        The last.
    """
    sigma = np.where((kind > 0) | bool(options.splines), options.prior_sigma, _HELD)
    state = start(training, np.tile(sigma, (time_columns.shape[1], 1)))
    if training.n_train == 0 or time_columns.shape[1] == 0:
        return state
    common = _Common(time_columns, columns, plane, kind, options)
    for number in range(options.n_round):
        state = find_levels(training, state)
        before, state = state, _solve(training, common, state, first=number == 0)
        if number and _diverges(before, state):
            warn(
                f"build_time_model: its rounds diverge, as the PRF of a training pixel would turn negative in the one"
                f" after {number}, which is the last that counts; where the image moves far or jumps, follow it with"
                ' positions="centroid" and the default shift_limit, or take fewer terms',
                ConvergenceWarning,
            )
            return before
        if number + 1 >= _N_ROUND_MIN and np.mean(before.used != state.used) < _SETTLED_SHARE:
            break
    return state


def _diverges(before: Rounds, state: Rounds) -> bool:
    """Whether a round leaves more of the pixels than the one before, and lets one go dark that was fitted in it."""
    return state.scatter > before.scatter and bool(np.any(state.change[before.used] < -1.0))


def start(training: TrainingPixels, prior_sigma: FloatArray) -> Rounds:
    """Return the state before the first round: no change, each pixel at its mean."""
    n_bin, n_train = training.flux.shape
    used = training.ivar > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        template = (training.count @ np.where(used, training.flux, 0.0)) / (training.count @ used)
    used = used & (template > 0)
    zeros = np.zeros_like(prior_sigma)
    n_group = int(training.group.max(initial=-1)) + 1
    safe = np.where(template > 0, template, 1.0)
    ratio = np.where(used, training.flux / safe, 1.0)
    return Rounds(
        weights=zeros,
        weights_err=zeros,
        prior_sigma=prior_sigma,
        pixel_weights=np.zeros((prior_sigma.shape[0], n_train)),
        template=safe,
        amplitude=np.ones((n_bin, n_group)),
        ratio=ratio,
        change=np.zeros((n_bin, n_train)),
        used=used,
        scatter=0.0,
    )


def find_levels(training: TrainingPixels, state: Rounds) -> Rounds:
    """Return the state with the pixels' means and the stars' brightness found again under the present change."""
    amplitude, template, factor = state.amplitude, state.template, np.maximum(1.0 + state.change, _LEAST_FACTOR)
    count = training.count[:, None] * state.used
    for _ in range(_N_LEVEL_SWEEP):
        shape = amplitude[:, training.group] * factor
        seen = np.sum(count * shape**2, axis=0)
        template = np.where(seen > 0, np.sum(count * training.flux * shape, axis=0) / np.where(seen > 0, seen, 1), 1.0)
        ivar = relative_ivar(training, template * factor, state)
        amplitude = GroupMeans(training.group, ivar).mean(training.flux / (template * factor), empty=1.0)
        amplitude = np.maximum(amplitude, _LEAST_FACTOR)
        amplitude = amplitude / ((training.count @ amplitude) / training.count.sum())
    known = (training.ivar > 0) & (template > 0)
    ratio = np.where(known, training.flux / np.where(known, template * amplitude[:, training.group], 1.0), 1.0)
    return replace(state, template=template, amplitude=amplitude, ratio=ratio)


def relative_ivar(training: TrainingPixels, level: FloatArray, state: Rounds) -> FloatArray:
    """Return the inverse variance of light / level, scatter included; 0 where not used."""
    known = state.used & (training.ivar > 0)
    noise = 1.0 / np.where(known, training.ivar * level**2, 1.0)
    return np.where(known, 1.0 / (noise + state.scatter**2), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Common:
    """What all stars share: time columns (n_bin, n_vector), position columns and their means (n_train, n_column)."""

    time: FloatArray
    space: csr_matrix
    plane: FloatArray
    kind: IntArray
    options: PerturbationOptions

    def fit(self, data: FloatArray, ivar: FloatArray, training: TrainingPixels, sigma: FloatArray) -> GaussianPosterior:
        """Return the posterior of the coefficients from the pixels inside, with a free amplitude per star and bin."""
        inside = training.inside
        design = KroneckerDesign(self.time, self.space[inside])
        prior = GaussianPrior.from_sigma(np.zeros(design.n_coeff), sigma.ravel())
        weight = np.ascontiguousarray(ivar[:, inside])
        centred = CentredDesign(design, GroupMeans(training.group[inside], weight))
        return DenseSolver().solve(LinearProblem(centred, data[:, inside].reshape(1, -1), weight.reshape(1, -1), prior))

    def change(self, weights: FloatArray) -> FloatArray:
        """Return the change of all pixels, shape (n_bin, n_train)."""
        return np.asarray(self.time @ (weights @ self.space.T - weights @ self.plane.T))


def _solve(training: TrainingPixels, common: _Common, state: Rounds, *, first: bool) -> Rounds:
    """Return the state after one fit, with its scatter and clipping; the first round clips gross outliers alone."""
    level = state.template * state.amplitude[:, training.group]
    ivar = relative_ivar(training, level, state)
    noise = 1.0 / np.where(training.ivar > 0, training.ivar * level**2, np.inf)
    data = state.ratio - 1.0
    posterior = common.fit(data - common.time @ state.pixel_weights, ivar, training, state.prior_sigma)
    weights, error = (one[0].reshape(state.weights.shape) for one in (posterior.mean, posterior.std))
    groups = GroupMeans(training.group, ivar * training.inside)
    change, pixel_weights = common.change(weights), state.pixel_weights
    residual = groups.centre(data - change)
    if common.options.fix_pixels and not first:
        pixel_weights = _fit_pixels(common.time, residual, ivar, _pixel_widths(residual, noise, ivar > 0))
        change = change + common.time @ pixel_weights
        residual = groups.centre(data - change)
    scatter = median_scatter(residual[ivar > 0], noise[ivar > 0])
    limit = common.options.clip_sigma * np.sqrt(noise + scatter**2)
    if first:
        limit = np.maximum(limit, common.options.clip_sigma / NORMAL_MEDIAN * np.median(np.abs(residual), axis=0))
    residual = centre_robustly(residual, limit, training)
    return replace(
        state,
        weights=weights,
        weights_err=error,
        prior_sigma=_learn_widths(weights, error, state.prior_sigma, common.kind),
        pixel_weights=pixel_weights,
        change=change,
        scatter=scatter,
        used=(training.ivar > 0) & (state.template > 0) & (np.abs(residual) <= limit),
    )


def _learn_widths(weights: FloatArray, error: FloatArray, sigma: FloatArray, kind: IntArray) -> FloatArray:
    """Return the prior width of each time column's coefficients, kind by kind, (n_vector, n_column).

    One step of MacKay (1992) up the evidence: the sum of squares over the number of coefficients that the pixels
    decide, which a mean square under the posterior reaches in very many steps where that are few.
    """
    decided, widths = np.clip(1.0 - (error / sigma) ** 2, 0.0, 1.0), np.empty_like(weights)
    for one in np.unique(kind):
        part = kind == one
        number = np.maximum(decided[:, part].sum(axis=1), _LEAST_DECIDED)
        widths[:, part] = np.sqrt(np.sum(weights[:, part] ** 2, axis=1) / number)[:, None]
    return np.where(sigma > _HELD, np.maximum(widths, _LEAST_WIDTH), _HELD)


def centre_robustly(residual: FloatArray, limit: FloatArray, training: TrainingPixels) -> FloatArray:
    """Return residuals less the weighted median of their star, then of their pixel, where something exceeds its limit.

    One bad value moves the mean of its star in that bin and of its pixel in all bins, and would have good ones clipped.
    """
    outlier = (np.abs(residual) > limit) & (training.ivar > 0)
    centred = residual.copy()
    for star in np.unique(training.group[outlier.any(axis=0)]):
        members = np.flatnonzero(training.group == star)
        bins = np.flatnonzero(outlier[:, members].any(axis=1))
        cell = np.ix_(bins, members)
        weight = np.where(training.ivar[cell] > 0, 1.0 / limit[cell], 0.0) * training.inside[members]
        centred[cell] -= weighted_median(residual[cell], weight)[:, None]
    hit = outlier.any(axis=0)
    weight = np.where(training.ivar[:, hit] > 0, 1.0 / limit[:, hit], 0.0)
    centred[:, hit] -= weighted_median(centred[:, hit].T, weight.T)
    return centred


def _fit_pixels(vectors: FloatArray, residual: FloatArray, ivar: FloatArray, width: FloatArray) -> FloatArray:
    """Return what each pixel does beyond the common change, shape (n_vector, n_train), by ridge regression."""
    n_vector = vectors.shape[1]
    products = (vectors[:, :, None] * vectors[:, None, :]).reshape(vectors.shape[0], -1)
    precision = np.where(width > 0, 1.0 / np.where(width > 0, width, 1.0) ** 2, _NARROW)
    gram = (ivar.T @ products).reshape(-1, n_vector, n_vector) + precision[:, None, None] * np.eye(n_vector)
    return np.linalg.solve(gram, ((ivar * residual).T @ vectors)[:, :, None])[:, :, 0].T


def _pixel_widths(residual: FloatArray, noise: FloatArray, used: BoolArray) -> FloatArray:
    """Return how far each pixel deviates beyond its noise, shape (n_train,): at least what the precise ones do."""
    count = np.maximum(used.sum(axis=0), 1)
    level = np.where(used, noise, 0.0).sum(axis=0) / count
    excess = np.where(used, residual**2 - noise, 0.0).sum(axis=0) / count
    evident = excess > _EVIDENT * level * np.sqrt(2.0 / count)
    common = median_scatter(residual[used], noise[used])
    return np.sqrt(np.maximum(np.where(evident, excess, 0.0), common**2))
