"""The slope of the PRF's wing beyond the outermost knot."""

import numpy as np

from bayesprf.prf.nominal import STAR_WINGS
from bayesprf.prf.rounds.rings import ring_scale
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.scene.prf import LN10, PrfModel, round_coordinates
from bayesprf.stats import inliers

# No wing is flatter than the aureole of star images, r**-2 (King 1971, PASP 83, 199), or steeper than a seeing profile,
# r**-5 (Moffat 1969, A&A 3, 455, exponent 2.5): before the PRF is known the pixels may suggest any slope.
_SLOPE_RANGE = (-5.0, -2.0)
# Accuracy: the wing goes on where the splines end, dex: to 0.2 % of the light there.
HELD_LEVEL = 1e-3
# Measured by docs/scripts/constants.py --truth plain: how much the slope may change between the outermost splines and
# the wing beyond them: half and twice give errors of 0.21 and 0.27 %, this 0.26 %, where 0.6 % are claimed.
SLOPE_CHANGE = 0.3
# Measured by docs/scripts/constants.py --truth plain: the edge of the splines, from this share of rmax on: errors of
# 0.26 %; of 0.37 % from half as far out, of 0.47 % without an edge.
WING_SHARE = 0.75
# Accuracy: turns of the fit of the slope.
_N_ITER = 6
# Derived: outliers that it leaves out, standard deviations: one normal number in 370 is so far off.
_OUTLIER = 3.0
# Derived: rings in which pixels have the same scatter, dex of radius: across one the light of a wing halves (r**-3.5).
_RING_WIDTH = 0.1


def fit_wing(
    prf: PrfModel,
    training: StarPixels,
    scatter: float,
    *,
    prior: tuple[float, float] = STAR_WINGS,
    level: float = HELD_LEVEL,
) -> tuple[float, float, float]:
    """Fit the slope of the wing to pixels around or beyond rmax.

    Parameters
    ----------
    prf : PrfModel
        The PRF; its splines give the wing's level and its dependence on the angle.
    training : StarPixels
        Pixels of the wing, the light of other stars subtracted.
    scatter : float
        Intrinsic scatter, dex.
    prior : tuple of float
        Mean and standard deviation of the slope before these pixels are seen.
    level : float
        How far the level at rmax may differ from the splines', dex: by default not at all, as a level of
        its own would trade with the slope and not be there when the PRF is used.

    Returns
    -------
    level : float
        How far the level at rmax differs from the splines', dex.
    slope, std : float
        Slope in log-log and its posterior standard deviation.

    Notes
    -----
    Gauss-Newton for level and slope of m = f PRF(rmax, phi) 10**a (r / rmax)**slope with Gaussian priors. What a star
    lacks is the same in all its pixels: pulls w (y - m) dm/dtheta are summed star by star, and the covariance follows
    from the sums, N^-1 (sum of their outer products) N^-1, where that is more than N^-1 for the slope.
    """
    r, _ = round_coordinates(training.dx, training.dy, prf.shear)
    stretch = prf.basis.rmax / np.maximum(r, 1e-300)
    edge = training.flux * prf.evaluate(training.dx * stretch, training.dy * stretch)
    log_r = np.log10(r / prf.basis.rmax)
    ring = np.floor(log_r / _RING_WIDTH).astype(np.int64)
    start, prior_ivar = np.array([0.0, prior[0]]), np.array([level, prior[1]]) ** -2.0
    state = start
    for _ in range(_N_ITER):
        model = edge * 10.0 ** (state[0] + state[1] * log_r)
        variance = training.model_variance(model, prf.peak, scatter)
        residual = training.light - model
        variance = variance * np.maximum(ring_scale(residual / np.sqrt(variance), ring), 1.0) ** 2
        weight = np.where(inliers(residual, variance, _OUTLIER), 1.0 / variance, 0.0)
        columns = LN10 * model[:, None] * np.stack([np.ones(r.size), log_r], axis=1)
        normal = columns.T @ (weight[:, None] * columns) + np.diag(prior_ivar)
        state = state + np.linalg.solve(normal, columns.T @ (weight * residual) + prior_ivar * (start - state))
        state[1] = np.clip(state[1], *_SLOPE_RANGE)
    pulls = np.stack([np.bincount(training.source, weights=one * weight * residual) for one in columns.T])
    covariance = np.linalg.inv(normal)
    by_star = covariance @ (pulls @ pulls.T + np.diag(prior_ivar)) @ covariance
    return float(state[0]), float(state[1]), float(np.sqrt(max(covariance[1, 1], by_star[1, 1])))
