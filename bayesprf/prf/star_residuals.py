"""How far single stars deviate from the common PRF, in position, size and shape, and whether they follow a plane."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.scene.prf import STEPS, PrfModel, prf_gradients
from bayesprf.stats import inliers, likely_width, mad_sigma

# Derived: pixels that tell how one star differs from the PRF, half as many again as the six numbers fitted to them.
_MIN_PIXELS = 9
# Derived: stars that tell how stars differ, at least: their spread is known to a third (1 / sqrt(2 n)).
_MIN_STARS = 5
# Derived: outliers among pixels and among stars, standard deviations: of two million normal numbers one is so far off.
_OUTLIER = 5.0
# Rounding: with a worse condition the columns cannot be told apart.
_MAX_CONDITION = 1e6
# Deviations of a star's own PRF that may follow its place.
_DEVIATIONS = ("size", "e1", "e2")
# Derived: stars that tell how the PRF changes over the field: the three numbers of a plane leave as many as tell a
# spread.
_MIN_TREND_STARS = 8
# Accuracy: turns of the fit of a plane and of the scatter about it.
_N_PASS = 4


@dataclass(frozen=True, slots=True, eq=False)
class StarResiduals:
    """Measured deviations of single stars from the common PRF.

    Parameters
    ----------
    source : ndarray of int64, shape (n_star,)
        The stars that could be measured.
    value, std : ndarray of float64, shape (n_star, 5)
        Deviation and its standard deviation, in the order of `STEPS`: arcsec, arcsec, ratio, shear, shear.
    excess : ndarray of float64, shape (6,)
        By what factor the pixels scatter more than was taken, where the flux, then each deviation is measured; `std`
        counts it.
    """

    source: IntArray
    value: FloatArray
    std: FloatArray
    excess: FloatArray

    def width(self, *names: str, unknown: float) -> float:
        """Return the standard deviation of the true deviations, learned from all stars.

        Parameters
        ----------
        *names : str
            Which deviations share the width.
        unknown : float
            Returned if there are fewer than five deviations, which do not tell how wide they are.

        Returns
        -------
        float
            The maximum of prod N(value; 0, width**2 + std**2) over the width, outliers left out; 0 where
            the deviations are no larger than their errors.
        """
        index = [list(STEPS).index(name) for name in names]
        value, variance = self.value[:, index].ravel(), self.std[:, index].ravel() ** 2
        spread = float(mad_sigma(value)) if value.size else 0.0
        keep = inliers(value, spread**2 + variance, _OUTLIER)
        value, variance = value[keep], variance[keep]
        if value.size < _MIN_STARS:
            return unknown
        return 0.0 if spread == 0.0 else likely_width(value, variance)


def measure_stars(
    prf: PrfModel, training: StarPixels, scatter: float | FloatArray, *, values: FloatArray | None = None
) -> StarResiduals:
    """Measure the deviations of every star that has enough training pixels.

    Parameters
    ----------
    prf : PrfModel
        The common PRF.
    training : StarPixels
        Pixels of isolated stars.
    scatter : float, or ndarray of float64, shape (n,)
        Intrinsic scatter, dex.
    values : ndarray of float64, shape (n,), optional
        PRF of each star in its pixels, 1 / pixel, where it is not the common one.

    Returns
    -------
    StarResiduals

    Notes
    -----
    Weighted least squares per star of y - m on its own flux and the five gradients of its model, x = K (y - m). The
    errors of the pixels are scaled to what is left over: the variance of column c over all stars is
    multiplied by sum K_cp**2 left_p**2 / sum K_cp**2 var_p (1 - leverage_p), the sums over their pixels (White 1980).
    """
    model = training.flux * (prf.evaluate(training.dx, training.dy) if values is None else values)
    gradients = prf_gradients(prf, training.dx, training.dy)
    columns = np.stack([model, *(training.flux * one for one in gradients.values())], axis=1)
    residual, variance = training.light - model, training.model_variance(model, prf.peak, scatter)
    order = np.argsort(training.source, kind="stable")
    order = order[inliers(residual, variance, _OUTLIER)[order]]
    found = []
    for rows in np.split(order, np.flatnonzero(np.diff(training.source[order])) + 1):
        fit = _fit_star(columns[rows], residual[rows], variance[rows])
        if fit is not None:
            found.append((training.source[rows[0]], *fit))
    if not found:
        nothing = np.zeros((0, len(STEPS)))
        return StarResiduals(np.zeros(0, np.int64), nothing, nothing, np.ones(len(STEPS) + 1))
    source, value, variances, seen, taken = (np.array(one) for one in zip(*found, strict=True))
    weight = 1.0 / variances
    excess = np.sqrt((seen * weight).sum(axis=0) / (taken * weight).sum(axis=0))
    return StarResiduals(source, value[:, 1:], np.sqrt(variances[:, 1:]) * excess[1:], excess)


def _fit_star(columns: FloatArray, residual: FloatArray, variance: FloatArray) -> tuple[FloatArray, ...] | None:
    """Return values, variances, and the variances by what is left over and by what was taken; None if ill-posed."""
    if residual.size < _MIN_PIXELS:
        return None
    scale = np.sqrt(np.sum(columns**2 / variance[:, None], axis=0))
    scaled = columns / scale
    gram = (scaled / variance[:, None]).T @ scaled
    if np.linalg.cond(gram) > _MAX_CONDITION:
        return None
    gain = np.linalg.solve(gram, (scaled / variance[:, None]).T) / scale[:, None]
    value = gain @ residual
    leverage = np.einsum("pc,cp->p", columns, gain)
    seen = gain**2 @ (residual - columns @ value) ** 2
    return value, gain**2 @ variance, seen, gain**2 @ (variance * (1.0 - leverage))


@dataclass(frozen=True, slots=True, eq=False)
class Trend:
    """A plane over the field through the deviations of single stars.

    Parameters
    ----------
    change : ndarray of float64, shape (n_source,)
        What its slope makes of each star, relative to the middle of those that were measured.
    significance : float
        Of the slope, standard deviations, by the scatter of the stars about the plane.
    """

    change: FloatArray
    significance: float


def fit_trends(stars: StarResiduals, place: FloatArray) -> dict[str, Trend]:
    """Fit planes to size and shape of single stars; nothing where too few stars tell.

    Parameters
    ----------
    stars : StarResiduals
        Deviations of single stars from the common PRF.
    place : ndarray of float64, shape (n_source, 2)
        Place of each source in the field, any unit.
    """
    spread = np.ptp(place, axis=0) if len(place) else np.zeros(2)
    if stars.source.size < _MIN_TREND_STARS or not np.any(spread > 0):
        return {}
    centred = (place - place[stars.source].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    columns = np.column_stack([np.ones(len(place)), centred[:, spread > 0]])
    return {name: Trend(*_fit_plane(columns, stars, list(STEPS).index(name))) for name in _DEVIATIONS}


def _fit_plane(columns: FloatArray, stars: StarResiduals, index: int) -> tuple[FloatArray, float]:
    """Return the slope's part of a plane at every source, and its significance by the scatter of the stars about it."""
    value, error = stars.value[:, index], stars.std[:, index]
    error, width = np.where(error > 0, error, np.inf), float(mad_sigma(value - np.median(value)))
    found, inverse = np.zeros(columns.shape[1]), np.eye(columns.shape[1])
    for _ in range(_N_PASS):
        total = np.hypot(error, width)
        design = columns[stars.source] / total[:, None]
        inverse = np.linalg.pinv(design.T @ design)
        found = inverse @ (design.T @ (value / total))
        left = value - columns[stars.source] @ found
        width = likely_width(left, error**2) if np.any(left != 0.0) else 0.0
    slopes = found[1:]
    squared = float(slopes @ np.linalg.pinv(inverse[1:, 1:]) @ slopes)
    freedom = max(value.size - columns.shape[1], 1) / value.size
    return columns[:, 1:] @ slopes, float(np.sqrt(max(squared * freedom, 0.0)))
