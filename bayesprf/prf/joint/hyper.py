"""Hyperparameters of the joint fit of the PRF, learned as it goes on: evidence, REML, and the share of outliers."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import log_ndtr, logsumexp

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.prf.nominal import STAR_WINGS


@dataclass(frozen=True, slots=True)
class JointHyper:
    """Widths that the data decide.

    Parameters
    ----------
    eps : float
        Relative error of the model at the peak of a star; it grows outwards as one over the square root of the light.
    eps_field : float
        The same, beside, of a star at the edge of the field, where a quadratic surface leaves it: `field_growth`.
    wings : tuple of float
        Relative error of the light of a star in `WING_RINGS`, beside.
    tau, turn : float
        Standard deviation of a bend of the weights along the radius and around the circle, dex.
    tau_field, turn_field, level_field : float
        The same of the columns over the field, and the standard deviation of their weights themselves, dex.
    tau_color, turn_color, level_color : float
        The same of the column of the colour.
    unlisted : float
        Standard deviation of the light that stars which the catalogue lacks give to a pixel, about the mean that is
        part of the sky, electron / s; where no sky is fitted it is not looked at.
    wing : float
        Standard deviation of a change of the wing's slope from ring to ring, where it is small beside `slope`.
    slope : float
        Standard deviation of any of its slopes about the expected one.
    position : float
        Standard deviation of the catalogue's positions per axis, arcsec.
    outlier_share : float
        Share of pixels with light that no star of the catalogue gives.
    outlier_sigma : float
        Standard deviation of that light, electron / s.
    misfit_share, misfit_ratio : float
        Share of pixels in which the model errs by this many times more than in the mean, to either side.
    """

    eps: float = 5e-3
    eps_field: float = 1e-3
    tau: float = 0.2
    turn: float = 0.2
    tau_field: float = 0.02
    turn_field: float = 0.02
    level_field: float = 0.06
    wing: float = 0.3
    slope: float = STAR_WINGS[1]
    position: float = 0.1
    wings: tuple[float, ...] = (1e-3, 1e-3, 1e-3)
    outlier_share: float = 0.0
    outlier_sigma: float = 1.0
    misfit_share: float = 0.0
    misfit_ratio: float = 1.0
    tau_color: float = 0.02
    turn_color: float = 0.02
    level_color: float = 0.06
    unlisted: float = 1.0

    @property
    def field_widths(self) -> tuple[float, float, float]:
        """Widths of bends along the radius and around the circle, and of the weights, of columns over the field."""
        return self.tau_field, self.turn_field, self.level_field

    @property
    def color_widths(self) -> tuple[float, float, float]:
        """The same of the column of the colour."""
        return self.tau_color, self.turn_color, self.level_color

    @property
    def errors(self) -> FloatArray:
        """Relative errors of all kinds, and light of unlisted stars, electron / s, shape (n_kind,)."""
        return np.array([self.eps, self.eps_field, *self.wings, self.unlisted])

    def with_errors(self, errors: FloatArray) -> "JointHyper":
        """Return the record with other relative errors."""
        eps, eps_field, *wings, unlisted = (float(one) for one in errors)
        return replace(self, eps=eps, eps_field=eps_field, wings=tuple(wings), unlisted=unlisted)

    def star_errors(self, growth: FloatArray) -> FloatArray:
        """Return the relative error of the model at the peaks of stars, of some `field_growth`, shape (n_source,)."""
        return np.asarray(np.hypot(self.eps, self.eps_field * np.sqrt(growth)))

    def on_the_way(self, before: "JointHyper", share: float) -> "JointHyper":
        """Return what lies at a share of the way here from the record before, in the logarithms of all widths."""
        found: dict[str, Any] = {}
        for name in (one.name for one in fields(self)):
            old, new = np.array(getattr(before, name)), np.array(getattr(self, name))
            known = (old > 0.0) & (new > 0.0)
            found[name] = np.where(known, np.where(known, old, 1.0) ** (1.0 - share) * new**share, new).tolist()
        return replace(self, **found | {"wings": tuple(found["wings"])})

    def distance(self, other: "JointHyper") -> float:
        """Return the largest relative change of a width."""
        names = ["eps", "tau", "turn", "tau_field", "turn_field", "level_field", "wing", "slope", "position"]
        names += ["tau_color", "turn_color", "level_color"]
        return max(abs(np.log(getattr(self, name) / getattr(other, name))) for name in names)


# Derived: below this the relative error of the model is not told from none by any star of less than 1e10 electrons.
MIN_EPS = 1e-5
# Rounding: no width falls below this, arcsec or dex.
MIN_WIDTH = 1e-4
# Accuracy: no width changes by more than this factor in one step: the residuals of early steps are those of a wrong
# PRF.
_MAX_FACTOR = 3.0
# Derived: what is expected of a catalogue's positions counts as much as two stars: a single one cannot tell its own
# offset from the common one.
_N_EXPECTED = 2
# Derived: normal numbers cut at so many standard deviations have a variance 0.7 % smaller.
_USUAL = 3.0
# Accuracy: share of the model's variance that pixels with larger errors hold at most, square root.
_MOST_MISFIT = 0.99
# Accuracy: turns of the update of a width per step; the steps go on until all has settled.
_N_EM = 10


def pixel_variance(ivar: FloatArray, growth: FloatArray, errors: FloatArray) -> FloatArray:
    """Return sigma**2 + sum_k errors_k**2 growth_k of each pixel; infinite where ivar is 0.

    Parameters
    ----------
    ivar : ndarray of float64, shape (n_pixel,)
        Inverse variances.
    growth : ndarray of float64, shape (n_pixel, n_kind)
        What the square of each relative error is multiplied by, (electron / s)**2.
    errors : ndarray of float64, shape (n_kind,)
        Relative errors.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / ivar + growth @ errors**2)


def fit_errors(
    residual: FloatArray, ivar: FloatArray, growth: FloatArray, *, leverage: FloatArray, share: FloatArray,
    errors: FloatArray,
) -> FloatArray:  # fmt: skip
    """Return the relative errors of the model at which the residuals are as large as expected.

    Notes
    -----
    One after the other, roots of the REML scores sum c (q / V)(r**2 / V - 1 + h) with V = sigma**2 + sum e**2 q,
    leverage h, and c the probability that a pixel is none of the outliers.
    """
    found = errors.copy()
    for k in range(errors.size):
        good = (ivar > 0) & (growth[:, k] > 0)
        rest = found.copy()
        rest[k] = 0.0
        fixed = pixel_variance(ivar[good], growth[good], rest)
        left = residual[good] ** 2, 1.0 - np.minimum(leverage[good], 1.0), share[good]
        found[k] = _fit_error(*left, fixed, growth[good, k], float(errors[k]))
    return found


def _fit_error(
    r2: FloatArray, left: FloatArray, share: FloatArray, fixed: FloatArray, q: FloatArray, error: float
) -> float:
    """Return the root of one score, within the limits of one step."""

    def score(log_error: float) -> float:
        v = fixed + np.exp(2.0 * log_error) * q
        return float(np.sum(share * q / v * (r2 / v - left)))

    low, high = np.log(max(error / _MAX_FACTOR, MIN_EPS)), np.log(error * _MAX_FACTOR)
    if q.size == 0 or score(low) <= 0.0:
        return float(np.exp(low))
    return float(np.exp(high)) if score(high) >= 0.0 else float(np.exp(brentq(score, low, high, xtol=1e-3)))


def slope_rows(n_wing: int, slope: float, change: float) -> FloatArray:
    """Return R, (n_wing, n_wing): R times the wing's slopes less what is expected of them are standard normal numbers.

    Notes
    -----
    Slopes of rings that follow each other are an Ornstein-Uhlenbeck process: each has the standard deviation `slope`,
    however little they differ, and the correlation exp(-change**2 / (2 slope**2)) with the next one.
    """
    kept = np.exp(-0.5 * (change / slope) ** 2)
    rows = np.eye(n_wing) - kept * np.eye(n_wing, k=-1)
    rows[1:] /= np.sqrt(-np.expm1(-((change / slope) ** 2)))
    return np.asarray(rows / slope)


def fit_slope_widths(
    square: FloatArray, inner: float, expected: FloatArray, widths: tuple[float, float]
) -> tuple[float, float]:
    """Return the EM update of `slope` and `wing`, within limits of one step.

    Parameters
    ----------
    square : ndarray of float64, shape (n_wing, n_wing)
        Expectation of the products of slopes, less what is expected of them.
    inner : float
        A change that is known.
    expected : ndarray of float64, shape (n,)
        Slopes less what is expected, as known.
    widths : tuple of float
        The present widths.
    """

    def height(logs: FloatArray) -> float:
        slope, change = np.exp(logs)
        rows = slope_rows(square.shape[0], slope, change)
        told = float(np.sum((rows @ square) * rows)) - 2.0 * float(np.sum(np.log(np.diag(rows))))
        before = float(np.sum((expected / slope) ** 2)) + 2.0 * expected.size * np.log(slope)
        return float(told + before + (inner / change) ** 2 + 2.0 * np.log(change))

    found = np.exp(minimize(height, np.log(widths), method="Nelder-Mead", options={"xatol": 1e-3}).x)
    return limit_width(float(found[0]), widths[0]), limit_width(float(found[1]), widths[1])


def limit_width(found: float, width: float) -> float:
    """Return the width that was found, within the limits of one step from the present one."""
    return float(np.clip(found, max(width / _MAX_FACTOR, MIN_WIDTH), width * _MAX_FACTOR))


def fit_position_width(
    shift: FloatArray, variance: FloatArray, width: float, expected: float, *, once: bool = False
) -> float:
    """Return where the EM updates of the width of the stars' own offsets end, within limits of one step.

    Parameters
    ----------
    shift, variance : ndarray of float64, shape (n,)
        Posterior means and variances of the offsets at the present width, arcsec and arcsec**2.
    width : float
        The present width, arcsec.
    expected : float
        What is expected of a catalogue, arcsec.
    once : bool
        Make a single update: where positions are not linear, as those of few stars that share light, the end of all
        leads to and fro.

    Notes
    -----
    An update is (sum m**2 + v + n e**2) / (N + n) with posterior means m and variances v, and an inverse gamma prior
    worth n = 2 offsets of size e: one star can tell its own offset from the common one by its prior alone. Offsets
    beyond three widths count as three (Huber 1981): they are made by the light of stars that the catalogue lacks.

    Updates crawl where most stars are told worse than they are known. At another width t a variance is
    1 / (1 / v - 1 / width**2 + 1 / t**2), and the mean follows it: so is found the width that an update leaves alone.
    """
    told = np.minimum(variance, width**2)

    def rise(log_width: float) -> float:
        square = np.exp(2.0 * log_width)
        share = 1.0 / (1.0 + told * (1.0 / square - width**-2.0))
        seen = np.minimum((share * shift) ** 2 + share * told, _USUAL**2 * square)
        total = float(np.sum(seen)) + _N_EXPECTED * expected**2
        return total / float((shift.size + _N_EXPECTED) * square) - 1.0

    start = float(np.log(width))
    if once:
        return limit_width(width * float(np.sqrt(1.0 + rise(start))), width)
    limit = start + np.log(_MAX_FACTOR) * (1.0 if rise(start) > 0.0 else -1.0)
    low, high = min(start, limit), max(start, limit)
    if rise(low) <= 0.0 or rise(high) >= 0.0:
        return float(np.exp(limit))
    return float(np.exp(brentq(rise, low, high, xtol=1e-4)))


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """What is known of the light of uncatalogued stars, pixel by pixel.

    Parameters
    ----------
    clean : ndarray of float64, shape (n_pixel,)
        Probability that there is none.
    wide : ndarray of float64, shape (n_pixel,)
        Probability that there is none, and that the model errs by `misfit_ratio` times more.
    light : ndarray of float64, shape (n_pixel,)
        Expectation of that light if there is some, electron / s.
    log_evidence : float
        Log density of the residuals.
    """

    clean: FloatArray
    wide: FloatArray
    light: FloatArray
    log_evidence: float

    @classmethod
    def none(cls, n_pixel: int) -> "Outliers":
        """Return what is known before any pixel is judged."""
        return cls(np.ones(n_pixel), np.zeros(n_pixel), np.zeros(n_pixel), 0.0)

    def spread(self, used: BoolArray) -> "Outliers":
        """Return the record for all pixels, shape (n_pixel,), of which it knows the `used` ones."""
        every = self.none(used.size)
        every.clean[used], every.wide[used], every.light[used] = self.clean, self.wide, self.light
        return replace(every, log_evidence=self.log_evidence)


def _mixed_variances(variance: FloatArray, noise: FloatArray, hyper: JointHyper) -> tuple[FloatArray, FloatArray]:
    """Return the variance of pixels in which the model errs as usual, and by more: their mean is the one given."""
    share, wide = hyper.misfit_share, hyper.misfit_ratio**2
    usual = (1.0 - share * wide) / (1.0 - share)
    return noise + usual * (variance - noise), noise + wide * (variance - noise)


def find_outliers(residual: FloatArray, variance: FloatArray, noise: FloatArray, hyper: JointHyper) -> Outliers:
    """Tell pixels that hold the light of uncatalogued stars from those in which the model errs by more than usual.

    Notes
    -----
    Light only adds: zero, or half-normal of known spread. With a variance V and light of spread B the residual of such
    a pixel has the density 2 N(r; 0, V + B**2) Phi(m / s), and its light is a normal number of mean m = r B**2 / (V +
    B**2) and variance s**2 = V B**2 / (V + B**2), cut below zero. What the PRF misses goes to both sides, in some
    pixels by more than in others: a contaminated normal (Tukey 1960), without which the positive half would be taken
    for light that is no star's, and stars would be too faint.
    """
    wide = variance + hyper.outlier_sigma**2
    mean = residual * hyper.outlier_sigma**2 / wide
    std = np.sqrt(variance / wide) * hyper.outlier_sigma
    share, misfit = max(hyper.outlier_share, 1e-12), max(hyper.misfit_share, 1e-12)
    log_phi, (usual, far) = log_ndtr(mean / std), _mixed_variances(variance, noise, hyper)
    logs = np.stack(
        [
            np.log(2.0 * share) - 0.5 * (residual**2 / wide + np.log(wide)) + log_phi,
            np.log(misfit) + _log_normal(residual, far),
            np.log1p(-share - misfit) + _log_normal(residual, usual),
        ]
    )
    total = logsumexp(logs, axis=0)
    out, misfits, _ = np.exp(logs - total)
    light = mean + std * np.exp(-0.5 * (mean / std) ** 2 - log_phi) / np.sqrt(2.0 * np.pi)
    return Outliers(1.0 - out, misfits, light, float(total.sum()))


def _log_normal(residual: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the log density of a normal number but for a constant."""
    return np.asarray(-0.5 * (residual**2 / variance + np.log(variance)))


def fit_noise(
    residual: FloatArray, ivar: FloatArray, growth: FloatArray, *, leverage: FloatArray, hyper: JointHyper
) -> JointHyper:
    """Learn the model's relative error and share and spread of the outliers together, from their likeliest start."""
    best, highest = hyper, -np.inf
    fresh = hyper.outlier_share == 0.0
    for factor in (1.0, 0.1, 0.01) if fresh else (1.0,):
        trial = hyper.with_errors(np.maximum(hyper.errors * factor, MIN_EPS))
        if fresh:
            spread = 10.0 * float(np.median(ivar)) ** -0.5
            trial = replace(trial, outlier_share=0.05, outlier_sigma=spread)
        if hyper.misfit_ratio == 1.0:
            # Two equal normals stay equal: they are told apart anew.
            trial = replace(trial, misfit_share=0.05, misfit_ratio=2.0)
        for _ in range(_N_EM):
            trial = _improve_noise(residual, ivar, growth, leverage=leverage, hyper=trial)
        variance = pixel_variance(ivar, growth, trial.errors)
        evidence = find_outliers(residual, variance, 1.0 / ivar, trial).log_evidence
        if evidence > highest:
            best, highest = trial, evidence
    return best


def _improve_noise(
    residual: FloatArray, ivar: FloatArray, growth: FloatArray, *, leverage: FloatArray, hyper: JointHyper
) -> JointHyper:
    """Take one turn of expectation and conditional maximisation."""
    noise, variance = 1.0 / ivar, pixel_variance(ivar, growth, hyper.errors)
    found = find_outliers(residual, variance, noise, hyper)
    errors = fit_errors(residual, ivar, growth, leverage=leverage, share=found.clean, errors=hyper.errors)
    left = residual**2, 1.0 - np.minimum(leverage, 1.0), found.wide
    share = float(np.clip(found.wide.mean(), 1e-6, 0.49))
    ratio = _fit_error(*left, noise, variance - noise, hyper.misfit_ratio)
    # Pixels that err by more leave some error to the others.
    ratio = float(np.clip(ratio, 1.0, _MOST_MISFIT * share**-0.5))
    hyper = replace(hyper, misfit_share=share, misfit_ratio=ratio)
    return _outlier_widths(found, residual, variance, hyper).with_errors(errors)


def _outlier_widths(found: Outliers, residual: FloatArray, variance: FloatArray, hyper: JointHyper) -> JointHyper:
    """Return the EM update of share and spread of the outliers; light within the noise of a pixel is told from none."""
    out, b2 = 1.0 - found.clean, hyper.outlier_sigma**2
    # Second moment of a normal number cut below zero: s**2 + m E.
    second = variance * b2 / (variance + b2) + residual * b2 / (variance + b2) * found.light
    spread = float(np.sum(out * second) / max(out.sum(), 1e-300))
    floor = 4.0 * float(np.median(variance))
    share = float(np.clip(out.mean(), 1e-6, 0.49))
    return replace(hyper, outlier_share=share, outlier_sigma=float(np.sqrt(max(spread, floor))))
