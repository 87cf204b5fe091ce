"""Motion that all stars share from cadence to cadence, learned from what fluxes with a constant PRF leave."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.design.smoothing import count_smooth, smooth_series
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.shrinkage import shrink
from bayesprf.linalg.solvers.solver import Solver
from bayesprf.photometry.background import BackgroundColumns
from bayesprf.photometry.fluxes import FluxFit, default_prior
from bayesprf.photometry.misfit import MIN_CADENCES
from bayesprf.photometry.motion_errors import flux_gain
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import PerturbationOptions
from bayesprf.stats import (
    NORMAL_MEDIAN,
    SIGMA_PER_MAD,
    excess_of_rows,
    likely_width,
    median_over_time,
    telling_rows,
)

# Derived: the two numbers that are learned of each star take two parts in so many of its scatter with them, 5 %; with
# fewer cadences more.
LEAST_CADENCES = 40
# Accuracy: step of the numerical derivatives of the PRF, pixel.
_STEP = 0.05
# Cost: values that are looked at, and cadences that medians are taken over.
_MAX_SERIES, _N_CADENCE = 1 << 20, 64
# Definition: beyond so many errors a value is an outlier, as in the time model (`PerturbationOptions.clip_sigma`).
_OUTLIER = 5.0
# Definition: slower motion, with a knot a day, is drift, as where `build_time_model` measures pointing.
SMOOTH_DAYS = 1.0
# Definition: no star is so many times as bright as usual, or as one electron / s; its pixels tell of no motion then.
_ABSURD = 1e6
# Accuracy: most rounds, which end when the motion changes by less than this share of its error.
_N_ROUND, _SETTLED = 10, 0.1


@dataclass(frozen=True, slots=True, eq=False)
class CommonMotion:
    """How all stars jitter together.

    Parameters
    ----------
    coefficients : ndarray of float64, shape (n_time, 5)
        Of u, v, u**2, u v and v**2, where (u, v) is the motion beyond slow drift, pixel.
    covariance : ndarray of float64, shape (n_time, 2, 2)
        Posterior covariance of (u, v).
    log_ratio : ndarray of float64, shape (n_time,)
        Log of prior over posterior density of the motion that was found: what an evidence that takes it as known lacks.
    flux : ndarray of float64, shape (n_time, n_source)
        Fluxes beside the motion, electron / s.
    response : ndarray of float64, shape (n_source, 2)
        Relative change of each star's flux per pixel of motion that its PRF does not explain.
    """

    coefficients: FloatArray
    covariance: FloatArray
    log_ratio: FloatArray
    flux: FloatArray
    response: FloatArray

    def change(self, matrix: PrfMatrix, derivatives: PrfMatrix) -> PrfMatrix:
        """Return the change of a PRF at every cadence, from the PRF and its `motion_derivatives`."""
        parts = derivatives.parts.copy()
        parts[:2] += self.response.T[:, matrix.pairs.source] * matrix.values
        return PrfMatrix(matrix.pairs, parts, self.coefficients)


def motion_derivatives(
    matrix: PrfMatrix, evaluate: Callable[[IntArray, FloatArray, FloatArray], FloatArray], pixel_scale: float
) -> PrfMatrix:
    """Return the derivatives of a PRF by its motion (u, v), pixel: coefficients of u, v, u**2, u v and v**2.

    Parameters
    ----------
    matrix : PrfMatrix
        The PRF, constant.
    evaluate : callable
        The same as a function of source and offset (arcsec).
    pixel_scale : float
        arcsec per pixel.

    Returns
    -------
    PrfMatrix
        Five parts, with a mix of one row, all ones.
    """
    pairs, step = matrix.pairs, _STEP * pixel_scale

    def at(east: int, north: int) -> FloatArray:
        return evaluate(pairs.source, pairs.dx - step * east, pairs.dy - step * north)

    middle, (ahead, behind), (above, below) = at(0, 0), (at(1, 0), at(-1, 0)), (at(0, 1), at(0, -1))
    both = 0.25 * (at(1, 1) + at(-1, -1) - at(1, -1) - at(-1, 1))
    first = np.stack([ahead - behind, above - below]) / (2.0 * _STEP)
    second = np.stack([0.5 * (ahead + behind) - middle, both, 0.5 * (above + below) - middle]) / _STEP**2
    return PrfMatrix(pairs, np.concatenate([first, second]), np.ones((1, 5)))


def fit_common_motion(
    time: FloatArray, fit: FluxFit, matrix: PrfMatrix, change: PrfMatrix, solver: Solver
) -> CommonMotion | None:
    """Learn the jitter common to all stars from the residuals of their fluxes.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Day; `LEAST_CADENCES` or more.
    fit : FluxFit
        Fluxes with a constant PRF.
    matrix, change : PrfMatrix
        This PRF and its derivatives, with the pixels numbered as in `fit`.
    solver : Solver
        Solves fluxes.

    Returns
    -------
    CommonMotion or None
        None where the pixels tell of none, or of more than is linear, or the times do not increase.

    Notes
    -----
    At cadence t the residuals are r = sum_s F_ts (u_t dP_s/du + v_t dP_s/dv + ...) + misfit + noise, less what the
    fluxes absorb of it, which is marginalised. (u_t, v_t) ~ N(slow drift, diag(s**2)), and the two widths s maximise
    the evidence (MacKay 1992, Neural Computation 4, 415). There is jitter if this raises the log evidence of all
    cadences by more than log n_time (Schwarz 1978, Annals of Statistics 6, 461, for two numbers). The usual misfit of
    each pixel, which grows and falls with its light, is subtracted. The slope of a PRF is not exact: what a flux does
    with the jitter beyond it is learned from the differences of successive cadences.
    """
    if matrix.pairs.n_pair == 0 or not np.all(np.diff(time) > 0):
        return None
    scene = _telling_scene(fit, matrix, change, solver)
    state, n_slow = _Round.start(scene), 2 * count_smooth(time, SMOOTH_DAYS)
    for _ in range(_N_ROUND):
        before = state.motion
        jitter, used = _find_jitter(scene, state, smooth_series(time, before, SMOOTH_DAYS), n_slow)
        if jitter.gain <= np.log(time.size):
            return None
        state = _follow(scene, state, jitter, used)
        error = float(np.sqrt(np.median(jitter.covariance.max(axis=(1, 2)))))
        if float(np.sqrt(np.mean((state.motion - before) ** 2))) < _SETTLED * error:
            break
    if np.ptp(jitter.mean - jitter.slow, axis=0).max() > PerturbationOptions().shift_limit:
        return None
    coefficients = _with_squares(state.motion) - _with_squares(jitter.slow)
    flux = scene.still_flux(coefficients, state.flux, np.arange(fit.n_source))
    responses = _responses(flux, fit.flux_err, coefficients[:, :2])
    return CommonMotion(coefficients, jitter.covariance, jitter.log_ratio, flux, responses)


def _responses(flux: FloatArray, flux_err: FloatArray, motion: FloatArray) -> FloatArray:
    """Return the relative change of each flux per pixel of motion, shape (n_source, 2).

    From differences of successive cadences, which no slow variability enters. The prior is N(0, width**2), its width
    the likeliest for all stars.
    """
    known = np.isfinite(flux_err)
    mean = np.where(known, flux, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    moves, both = np.diff(motion, axis=0), known[1:] & known[:-1]
    axes, good = np.flatnonzero(np.any(moves != 0, axis=0)), (mean > 0) & (both.sum(axis=0) >= MIN_CADENCES)
    moves, both = moves[:, axes], both[:, good]
    steps = np.where(both, np.diff(flux[:, good] / mean[good], axis=0), np.nan)
    variance = np.where(known[:, good], flux_err[:, good] / mean[good], np.nan) ** 2
    variance = variance[1:] + variance[:-1]
    variance *= np.maximum(median_over_time(steps**2 / variance) / NORMAL_MEDIAN**2, 1.0)
    used = both & (steps**2 <= _OUTLIER**2 * variance)
    weight = np.divide(1.0, variance, out=np.zeros(steps.shape), where=used)
    normal = np.einsum("ts,ti,tj->sij", weight, moves, moves)
    score = np.einsum("ts,ti->si", np.where(used, weight * steps, 0.0), moves)
    free = np.linalg.inv(normal)
    found = np.einsum("sij,sj->si", free, score)
    width = likely_width(found.ravel(), np.einsum("sii->si", free).ravel()) if found.size else 0.0
    answer = np.zeros((mean.size, 2))
    if width > 0:
        posterior = np.linalg.solve(normal + np.eye(axes.size) / width**2, score[:, :, None])
        answer[np.ix_(np.flatnonzero(good), axes)] = posterior[:, :, 0]
    return answer


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """Pixels that tell of motion.

    Parameters
    ----------
    residual, light : ndarray of float64, shape (n_time, n_pixel)
        What the fluxes leave, and their model, electron / s.
    known : ndarray of bool, shape (n_time, n_pixel)
        Values that have data.
    noise : ndarray of float64, shape (n_pixel,)
        Usual variance, (electron / s)**2.
    flux : ndarray of float64, shape (n_time, n_source)
        The fluxes, electron / s.
    lit_by : ndarray of int64, shape (n_lit_by,)
        The sources that light these pixels.
    matrix, change : PrfMatrix
        Their PRF and its derivatives.
    background : BackgroundColumns or None
        Surfaces fitted along.
    response : tuple of csr_matrix of float64, shape (n_source, n_source)
        Fluxes that take up each derivative, per flux.
    solver : Solver
        Solves fluxes.
    """

    residual: FloatArray
    light: FloatArray
    known: BoolArray
    noise: FloatArray
    flux: FloatArray
    lit_by: IntArray
    matrix: PrfMatrix
    change: PrfMatrix
    background: BackgroundColumns | None
    response: tuple[csr_matrix, ...]
    solver: Solver

    def left(self, light: FloatArray, variance: FloatArray) -> FloatArray:
        """Return what fluxes and background leave of light, shape (n, n_pixel)."""
        mean = self.flux[:, self.lit_by].mean(axis=0)
        design, prior = self.matrix.design(), default_prior(mean, float(np.sqrt(variance.min())))
        if self.background is not None:
            design, prior = self.background.extend(design), self.background.extend_prior(prior)
        prior = replace(prior, mean=np.zeros_like(prior.mean))
        ivar = np.broadcast_to(1.0 / variance, light.shape).copy()
        found = self.solver.solve(LinearProblem(design, light, ivar, prior)).mean
        return light - design.predict(found)

    def still_flux(self, coefficients: FloatArray, flux: FloatArray, some: IntArray) -> FloatArray:
        """Return the fluxes (n_time, n_source), some without what they took up of the motion of `flux`."""
        still = self.flux.copy()
        for one, number in zip(self.response, coefficients.T, strict=True):
            still[:, some] -= (one[some] @ flux.T).T * number[:, None]
        return still

    def moved(self, motion: FloatArray, flux: FloatArray) -> FloatArray:
        """Return the light that motion (n_time, 2) adds for fluxes (n_time, n_source), shape (n_time, n_pixel)."""
        return replace(self.change, mix=_with_squares(motion)).image(flux[:, self.lit_by])

    def columns(self, flux: FloatArray) -> list[FloatArray]:
        """Return the change of the light per pixel of motion along both axes, shape (n, n_pixel) each."""
        return [
            PrfMatrix.constant(self.change.pairs, part).image(flux[:, self.lit_by]) for part in self.change.parts[:2]
        ]


def _telling_scene(fit: FluxFit, matrix: PrfMatrix, change: PrfMatrix, solver: Solver) -> _Scene:
    """Return the pixels that tell nearly all of a small common motion."""
    problem, (flux, absurd) = fit.problem, _without_absurd(np.nan_to_num(fit.flux))
    some = problem.ivar[:: max(1, len(flux) // _N_CADENCE)]
    seen = some > 0
    noise = median_over_time(np.divide(1.0, some, out=np.full(some.shape, np.nan), where=seen), empty=np.inf)
    lit = np.isfinite(noise)
    noise, every = np.where(lit, noise, 1e300), np.arange(flux.shape[1])
    whole = _Scene(some, some, seen, noise, flux, every, matrix, change, fit.background, (), solver)
    mean = flux.mean(axis=0)[None]
    columns = [whole.left(one, noise)[0] for one in whole.columns(mean)]
    told = np.where(lit, np.square(columns) / noise, 0.0).T
    chosen = telling_rows(told, max(1, _MAX_SERIES // len(flux)))
    background = None if fit.background is None else replace(fit.background, matrix=fit.background.matrix[chosen])
    gain = flux_gain(matrix, problem.ivar.mean(axis=0), fit.prior, background=fit.background)
    response = tuple(csr_matrix(gain @ change.pairs.to_sparse(one).T) for one in change.parts)
    lit_by, part = _rows(matrix, chosen)
    light = part.image(flux[:, lit_by])
    model = light if background is None else light + (background.matrix @ fit.background_w.T).T
    spoiled = replace(part, parts=np.ones_like(part.parts)).image(absurd[:, lit_by]) > 0
    known = (problem.ivar[:, chosen] > 0) & ~spoiled
    fixed = np.broadcast_to(problem.known, problem.ivar.shape[1:])[chosen]
    return _Scene(
        np.where(known, problem.data[:, chosen] - fixed - model, 0.0), light, known, noise[chosen], flux, lit_by,
        part, _rows(change, chosen)[1], background, response, solver,
    )  # fmt: skip


def _without_absurd(flux: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return fluxes, the usual ones in place of those that a spoiled value made, and 1 where that is, 0 elsewhere."""
    usual = np.median(flux, axis=0)
    absurd = np.abs(flux) > _ABSURD * np.maximum(np.abs(usual), 1.0)
    return np.where(absurd, usual, flux), absurd.astype(np.float64)


def _rows(prf: PrfMatrix, chosen: IntArray) -> tuple[IntArray, PrfMatrix]:
    """Return the sources that light some pixels, and their PRF there, with sources and pixels numbered anew."""
    number = np.full(prf.pairs.n_pixel, -1)
    number[chosen] = np.arange(chosen.size)
    mask = number[prf.pairs.pixel] >= 0
    pairs = prf.pairs.select(mask)
    sources, source = np.unique(pairs.source, return_inverse=True)
    pairs = PairTable(source, number[pairs.pixel], pairs.dx, pairs.dy, sources.size, chosen.size)
    return sources, replace(prf, pairs=pairs, parts=prf.parts[:, mask])


@dataclass(frozen=True, slots=True, eq=False)
class _Jitter:
    """Motion about a slow drift.

    Parameters
    ----------
    slow, mean : ndarray of float64, shape (n_time, 2)
        The drift, and the motion with it, pixel.
    covariance : ndarray of float64, shape (n_time, 2, 2)
        Of the motion at a known drift.
    log_ratio : ndarray of float64, shape (n_time,)
        As in `CommonMotion`.
    gain, likelihood : float
        Log evidence of all cadences with jitter, over that with the drift alone, and over that of no motion.
    """

    slow: FloatArray
    mean: FloatArray
    covariance: FloatArray
    log_ratio: FloatArray
    gain: float
    likelihood: float

    @classmethod
    def about(cls, normal: FloatArray, score: FloatArray, slow: FloatArray) -> "_Jitter":
        """Learn the width of the jitter about a drift from normal matrices and right sides of all cadences."""
        drawn = np.einsum("tij,tj->ti", normal, slow)
        beyond = score - drawn
        width = shrink(normal, beyond)[2]
        inner = np.linalg.inv(np.eye(2) + normal * width[:, None] * width)
        covariance = width[:, None] * inner * width
        mean = np.einsum("tij,tj->ti", covariance, beyond)
        precision = np.divide(1.0, width**2, out=np.zeros(2), where=width > 0)
        volume = np.linalg.slogdet(np.eye(2) + normal * (width[:, None] * width))[1]
        gain = float(0.5 * np.sum(beyond * mean) - 0.5 * np.sum(volume))
        drift = float(np.sum(slow * (score - 0.5 * drawn)))
        return cls(slow, slow + mean, covariance, -0.5 * (mean**2 @ precision + volume), gain, gain + drift)


@dataclass(frozen=True, slots=True, eq=False)
class _Round:
    """What a round found.

    Parameters
    ----------
    motion : ndarray of float64, shape (n_time, 2)
        Mean zero, pixel.
    flux : ndarray of float64, shape (n_time, n_source)
        Fluxes beside the motion, electron / s.
    left : ndarray of float64, shape (n_time, n_pixel)
        What fluxes and motion leave, without the usual misfit, electron / s.
    rest : ndarray of float64, shape (n_time, n_pixel)
        The same without what each pixel does in proportion to the motion, as slopes of a PRF are not exact.
    variance : ndarray of float64, shape (n_pixel,)
        Variance of noise and misfit, (electron / s)**2.
    """

    motion: FloatArray
    flux: FloatArray
    left: FloatArray
    rest: FloatArray
    variance: FloatArray

    @classmethod
    def start(cls, scene: _Scene) -> "_Round":
        """Return a state without motion."""
        left = _without_usual(scene, scene.residual, scene.known, robust=True)
        return cls(np.zeros((len(left), 2)), scene.flux, left, left, _variance(scene, left))


def _find_jitter(scene: _Scene, state: _Round, slow: FloatArray, n_slow: int) -> tuple[_Jitter, BoolArray]:
    """Return what one more Gauss-Newton step for the motion finds, and the values that it used.

    There is a slow drift, as `slow`, (n_time, 2), has it with `n_slow` numbers, if it raises the log evidence by more
    than half a log n_time for each.
    """
    columns = [scene.left(one, state.variance) for one in scene.columns(state.flux)]
    variance = state.variance * np.maximum(excess_of_rows(state.rest**2 / state.variance, scene.known), 1.0)[:, None]
    used = scene.known & (state.rest**2 <= _OUTLIER**2 * variance)
    weight = np.where(used, 1.0 / variance, 0.0)
    normal = np.empty((len(weight), 2, 2))
    for i, j in ((0, 0), (0, 1), (1, 1)):
        normal[:, i, j] = normal[:, j, i] = np.sum(weight * columns[i] * columns[j], axis=1)
    score = np.stack([np.sum(weight * one * state.left, axis=1) for one in columns], axis=1)
    score += np.einsum("tij,tj->ti", normal, state.motion)
    jitter, drifting = (_Jitter.about(normal, score, one) for one in (np.zeros_like(slow), slow))
    drifts = drifting.likelihood - jitter.likelihood > 0.5 * n_slow * np.log(len(slow))
    return (drifting if drifts else jitter), used


def _follow(scene: _Scene, state: _Round, jitter: _Jitter, used: BoolArray) -> _Round:
    """Return fluxes and residuals beside a motion."""
    motion = jitter.mean - jitter.mean[scene.known.any(axis=1)].mean(axis=0)
    flux = scene.still_flux(_with_squares(motion), state.flux, scene.lit_by)
    left = scene.residual - scene.left(scene.moved(motion, flux), state.variance)
    left = _without_usual(scene, left, used)
    rest = _without_slopes(left, motion)
    return _Round(motion, flux, left, rest, _variance(scene, rest))


def _without_usual(scene: _Scene, left: FloatArray, used: BoolArray, *, robust: bool = False) -> FloatArray:
    """Return what is left without the misfit that each pixel has at all times, in proportion to its light.

    The misfit is the mean over the values used, or a median.
    """
    mean = scene.light.mean(axis=0)
    growth = np.where(mean > 0, scene.light / np.where(mean > 0, mean, 1.0), 1.0)
    if robust:
        usual = median_over_time(np.divide(left, growth, out=np.full(left.shape, np.nan), where=used & (growth > 0)))
        usual = np.nan_to_num(usual)
    else:
        weight = np.where(used, growth, 0.0)
        usual = np.sum(weight * left, axis=0) / np.maximum(np.sum(weight * growth, axis=0), 1e-300)
    return np.where(scene.known, left - usual * growth, 0.0)


def _without_slopes(left: FloatArray, motion: FloatArray) -> FloatArray:
    """Return what is left without what each pixel does in proportion to the motion."""
    return left - motion @ np.linalg.lstsq(motion, left, rcond=None)[0]


def _variance(scene: _Scene, left: FloatArray) -> FloatArray:
    """Return the larger of the noise of each pixel and its robust scatter, squared, shape (n_pixel,)."""
    step = max(1, len(left) // _N_CADENCE)
    scatter = median_over_time(np.where(scene.known, np.abs(left), np.nan)[::step], empty=0.0)
    return np.maximum(scene.noise, (SIGMA_PER_MAD * scatter) ** 2)


def _with_squares(motion: FloatArray) -> FloatArray:
    """Return u, v, and what u**2, u v and v**2 have beyond their means, which the mean PRF has, shape (n_time, 5)."""
    u, v = motion.T
    squares = np.stack([u * u, u * v, v * v], axis=1)
    return np.hstack([motion, squares - squares.mean(axis=0)])
