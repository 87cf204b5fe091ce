"""Hyperparameters of the joint fit of the PRF, learned as it goes on: evidence, REML, and the share of outliers."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from bayesprf.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class JointHyper:
    """Widths that the data decide.

    Parameters
    ----------
    eps : float
        Relative error of the model at the peak of a star.
    tau : float
        Standard deviation of a bend of the weights, dex.
    tau_field : float
        The same of the columns over the field.
    wing : float
        Standard deviation of a change of the wing's slope over a factor of two in radius.
    position : float
        Standard deviation of the catalogue's positions per axis, arcsec.
    outlier_share : float
        Share of pixels with light that no star of the catalogue gives.
    outlier_sigma : float
        Standard deviation of that light, electron / s.
    """

    eps: float = 5e-3
    tau: float = 0.2
    tau_field: float = 0.02
    wing: float = 0.3
    position: float = 0.1
    outlier_share: float = 0.0
    outlier_sigma: float = 1.0

    def distance(self, other: "JointHyper") -> float:
        """Return the largest relative change of a width."""
        names = ("eps", "tau", "tau_field", "wing", "position")
        return max(abs(np.log(getattr(self, name) / getattr(other, name))) for name in names)


LN10 = float(np.log(10.0))
# Below this the relative error of the model is not told from none by any star of less than 1e10 electrons.
MIN_EPS = 1e-5
MIN_WIDTH = 1e-4
# No width changes by more than this factor in one step: the residuals of early steps are those of a wrong PRF.
_MAX_FACTOR = 3.0
_N_EXPECTED = 2


def pixel_variance(ivar: FloatArray, growth: FloatArray, eps: float) -> FloatArray:
    """Return sigma**2 + eps**2 growth of each pixel; infinite where ivar is 0."""
    with np.errstate(divide="ignore"):
        return 1.0 / ivar + eps**2 * growth


def fit_eps(
    residual: FloatArray, ivar: FloatArray, growth: FloatArray, *, leverage: FloatArray, share: FloatArray, eps: float
) -> float:
    """Return the relative model error at which the residuals are as large as expected.

    Notes
    -----
    Root of the REML score sum c (q / V)(r**2 / V - 1 + h) with V = sigma**2 + eps**2 q, leverage h, and c the
    probability that a pixel is none of the outliers.
    """
    good = (ivar > 0) & (growth > 0)
    r2, q, h, c = residual[good] ** 2, growth[good], np.minimum(leverage[good], 1.0), share[good]
    sigma2 = 1.0 / ivar[good]

    def score(log_eps: float) -> float:
        v = sigma2 + np.exp(2.0 * log_eps) * q
        return float(np.sum(c * q / v * (r2 / v - 1.0 + h)))

    low, high = np.log(max(eps / _MAX_FACTOR, MIN_EPS)), np.log(eps * _MAX_FACTOR)
    if score(low) <= 0.0:
        return float(np.exp(low))
    return float(np.exp(high)) if score(high) >= 0.0 else float(np.exp(brentq(score, low, high, xtol=1e-4)))


def fit_width(value: FloatArray, variance: FloatArray, width: float) -> float:
    """Return the EM update of the standard deviation of numbers known with some variance, within limits of one step."""
    if value.size == 0:
        return width
    found = float(np.sqrt(np.mean(value**2 + variance)))
    return float(np.clip(found, max(width / _MAX_FACTOR, MIN_WIDTH), width * _MAX_FACTOR))


def fit_position_width(shift: FloatArray, variance: FloatArray, width: float, expected: float) -> float:
    """Return the EM update of the width of the stars' own offsets, anchored to what is expected of a catalogue.

    Notes
    -----
    (sum m**2 + v + n e**2) / (N + n) with posterior means m and variances v, and an inverse gamma prior worth n = 2
    offsets of size e: one star can tell its own offset from the common one by its prior alone.
    """
    found = float(np.sqrt((np.sum(shift**2 + variance) + _N_EXPECTED * expected**2) / (shift.size + _N_EXPECTED)))
    return float(np.clip(found, width / _MAX_FACTOR, width * _MAX_FACTOR))


def clean_share(residual: FloatArray, variance: FloatArray, hyper: JointHyper) -> FloatArray:
    """Return the probability that each pixel holds no light but that of the model, shape (n_pixel,)."""
    if hyper.outlier_share == 0.0:
        return np.ones(residual.size)
    wide = variance + hyper.outlier_sigma**2
    log_odds = (
        np.log((1.0 - hyper.outlier_share) / hyper.outlier_share)
        + 0.5 * np.log(wide / variance)
        - 0.5 * residual**2 * (1.0 / variance - 1.0 / wide)
    )
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -500.0, 500.0))))


def fit_outliers(residual: FloatArray, variance: FloatArray, hyper: JointHyper) -> JointHyper:
    """Return share and spread of the outliers after some steps of EM."""
    if hyper.outlier_share == 0.0:
        hyper = replace(hyper, outlier_share=0.01, outlier_sigma=float(10.0 * np.sqrt(np.median(variance))))
    for _ in range(5):
        out = 1.0 - clean_share(residual, variance, hyper)
        spread = float(np.sum(out * np.maximum(residual**2 - variance, 0.0)) / max(out.sum(), 1e-300))
        floor = 9.0 * float(np.median(variance))
        hyper = replace(
            hyper,
            outlier_share=float(np.clip(out.mean(), 1e-6, 0.5)),
            outlier_sigma=float(np.sqrt(max(spread, floor))),
        )
    return hyper
