"""Rounds of levels, fit, noise and clipping that turn binned pixels into the coefficients of the time model."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.linalg.centred import CentredDesign, GroupMeans
from bayesprf.linalg.dense import DenseSolver
from bayesprf.linalg.kronecker import KroneckerDesign
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.models.time_options import PerturbationOptions
from bayesprf.models.training_pixels import TrainingPixels

# Median of |x| / sigma for a normal x.
_NORMAL_MEDIAN = 0.6744897501960817
# Numbers looked at to learn the scatter, the share of the most precise of them that speaks, and halvings.
_N_SCATTER_SAMPLES, _PRECISE_SHARE, _N_HALVING = 50_000, 0.25, 40
# Sweeps between the pixels' means and the stars' brightness.
_N_LEVEL_SWEEP = 2
# The rounds end, after this many at the earliest, when clipping changes less than this share of the pixel-bins.
_N_ROUND_MIN, _SETTLED_SHARE = 3, 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Rounds:
    """State after a round.

    Parameters
    ----------
    weights, weights_err : ndarray of float64, shape (n_vector, n_column)
        Coefficients and their posterior standard deviation.
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

    Returns
    -------
    Rounds
        The last.
    """
    state = _start(training, time_columns.shape[1], columns.shape[1])
    if training.n_train == 0 or time_columns.shape[1] == 0:
        return state
    design = KroneckerDesign(time_columns, columns)
    prior = GaussianPrior.from_sigma(np.zeros(design.n_coeff), np.full(design.n_coeff, options.prior_sigma))
    for number in range(options.n_round):
        state = _find_levels(training, state)
        before = state.used
        state = _solve(training, design, plane, prior, state=state, clip_sigma=options.clip_sigma)
        if number + 1 >= _N_ROUND_MIN and np.mean(before != state.used) < _SETTLED_SHARE:
            break
    return state


def _start(training: TrainingPixels, n_vector: int, n_column: int) -> Rounds:
    n_bin, n_train = training.flux.shape
    used = training.ivar > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        template = (training.count @ np.where(used, training.flux, 0.0)) / (training.count @ used)
    used = used & (template > 0)
    zeros = np.zeros((n_vector, n_column))
    n_group = int(training.group.max(initial=-1)) + 1
    safe = np.where(template > 0, template, 1.0)
    ratio = np.where(used, training.flux / safe, 1.0)
    return Rounds(zeros, zeros, safe, np.ones((n_bin, n_group)), ratio, np.zeros((n_bin, n_train)), used, 0.0)


def _find_levels(training: TrainingPixels, state: Rounds) -> Rounds:
    """Return the state with the pixels' means and the stars' brightness found again under the present change."""
    amplitude, template, factor = state.amplitude, state.template, 1.0 + state.change
    count = training.count[:, None] * state.used
    for _ in range(_N_LEVEL_SWEEP):
        bright = amplitude[:, training.group]
        seen = np.sum(count * factor, axis=0)
        template = np.where(seen > 0, np.sum(count * training.flux / bright, axis=0) / np.where(seen > 0, seen, 1), 1.0)
        ivar = _relative_ivar(training, template * factor, state)
        amplitude = GroupMeans(training.group, ivar).mean(training.flux / (template * factor), empty=1.0)
        amplitude = amplitude / ((training.count @ amplitude) / training.count.sum())
    ratio = np.where(state.used, training.flux / (template * amplitude[:, training.group]), 1.0)
    return replace(state, template=template, amplitude=amplitude, ratio=ratio)


def _relative_ivar(training: TrainingPixels, level: FloatArray, state: Rounds) -> FloatArray:
    """Return the inverse variance of light / level, scatter included; 0 where not used."""
    known = state.used & (training.ivar > 0)
    noise = 1.0 / np.where(known, training.ivar * level**2, 1.0)
    return np.where(known, 1.0 / (noise + state.scatter**2), 0.0)


def _solve(
    training: TrainingPixels,
    design: KroneckerDesign,
    plane: FloatArray,
    prior: GaussianPrior,
    *,
    state: Rounds,
    clip_sigma: float,
) -> Rounds:
    """Return the state after one fit, with its scatter and clipping."""
    level = state.template * state.amplitude[:, training.group]
    ivar = _relative_ivar(training, level, state)
    centred = CentredDesign(design, GroupMeans(training.group, ivar))
    data = np.where(ivar > 0, state.ratio - 1.0, 0.0)
    posterior = DenseSolver().solve(LinearProblem(centred, data.reshape(1, -1), ivar.reshape(1, -1), prior))
    weights = posterior.mean[0].reshape(state.weights.shape)
    change = design.time_vectors @ (weights @ design.space.T - weights @ plane.T)
    residual = centred.groups.centre(data - change)
    noise = 1.0 / np.where(training.ivar > 0, training.ivar * level**2, np.inf)
    scatter = _learn_scatter(residual[ivar > 0], noise[ivar > 0])
    kept = np.abs(residual) <= clip_sigma * np.sqrt(noise + scatter**2)
    return replace(
        state,
        weights=weights,
        weights_err=posterior.std[0].reshape(weights.shape),
        change=change,
        scatter=scatter,
        used=(training.ivar > 0) & (state.template > 0) & kept,
    )


def _learn_scatter(residual: FloatArray, noise: FloatArray) -> float:
    """Return the s for which the median of |residual| / sqrt(noise + s^2) of the most precise pixels is normal."""
    if residual.size == 0:
        return 0.0
    step = max(1, residual.size // _N_SCATTER_SAMPLES)
    residual, noise = np.abs(residual[::step]), noise[::step]
    precise = noise <= np.quantile(noise, _PRECISE_SHARE)
    residual, noise = residual[precise], noise[precise]
    low, high = 0.0, float(residual.max()) / _NORMAL_MEDIAN
    for _ in range(_N_HALVING):
        middle = 0.5 * (low + high)
        too_small = np.median(residual / np.sqrt(noise + middle**2)) > _NORMAL_MEDIAN
        low, high = (middle, high) if too_small else (low, middle)
    return low
