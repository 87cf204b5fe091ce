"""The slope of the PRF's wing beyond the outermost knot."""

import numpy as np

from bayesprf.models.prf import PrfModel, round_coordinates
from bayesprf.models.profile import LN10, Training, model_variance, ring_scale

# The slope of stars' wings before a pixel is seen: between an Airy pattern's and a seeing halo's.
STAR_WINGS = (-3.5, 0.5)
# How much the slope may change between the outermost splines and the wing beyond them.
SLOPE_CHANGE = 0.3
# The edge of the splines, from this share of rmax on.
WING_SHARE = 0.75
_N_ITER, _OUTLIER = 6, 3.0
# Rings in which pixels scatter alike, dex of radius.
_RING_WIDTH = 0.1


def fit_tail(
    prf: PrfModel, training: Training, scatter: float, *, prior: tuple[float, float] = STAR_WINGS
) -> tuple[float, float]:
    """Fit the slope of the wing to pixels around or beyond rmax.

    Parameters
    ----------
    prf : PrfModel
        The PRF; its splines give the wing's level and its dependence on the angle.
    training : Training
        Pixels of the wing, the light of other stars taken off.
    scatter : float
        Intrinsic scatter, dex.
    prior : tuple of float
        Mean and standard deviation of the slope before these pixels are seen.

    Returns
    -------
    slope, std : float
        Slope in log-log and its posterior standard deviation.

    Notes
    -----
    Gauss-Newton for the slope of m = f PRF(rmax, phi) (r / rmax)**slope with a Gaussian prior; the wing goes on where
    the splines end, for a level of its own would trade with the slope and not be there when the PRF is used. What a
    star lacks is the same in all its pixels: pulls w (y - m) dm/dslope are summed star by star, and the variance of
    the slope follows from the sums, (sum of squares) / precision**2, where that is more than 1 / precision.
    """
    r, _ = round_coordinates(training.dx, training.dy, prf.shear)
    stretch = prf.basis.rmax / np.maximum(r, 1e-300)
    edge = training.flux * prf.evaluate(training.dx * stretch, training.dy * stretch)
    log_r = np.log10(r / prf.basis.rmax)
    ring = np.floor(log_r / _RING_WIDTH).astype(np.int64)
    prior_ivar = prior[1] ** -2.0
    slope = prior[0]
    for _ in range(_N_ITER):
        model = edge * 10.0 ** (slope * log_r)
        variance = model_variance(training, model, prf.peak, scatter)
        residual = training.y - model
        variance = variance * np.maximum(ring_scale(residual / np.sqrt(variance), ring), 1.0) ** 2
        weight = np.where(residual**2 < _OUTLIER**2 * variance, 1.0 / variance, 0.0)
        column = LN10 * model * log_r
        precision = column @ (weight * column) + prior_ivar
        slope = slope + (column @ (weight * residual) + prior_ivar * (prior[0] - slope)) / precision
    pulls = np.bincount(training.source, weights=column * weight * residual)
    return float(slope), float(np.sqrt(max(precision, pulls @ pulls + prior_ivar)) / precision)
