"""How far single stars deviate from the common PRF: in position, size and shape, star by star."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.scene.prf import STEPS, PrfModel, prf_gradients
from bayesprf.stats import inliers, likely_width, mad_sigma

# Pixels that tell how one star differs from the PRF, at least.
_MIN_PIXELS = 9
# Stars that tell how stars differ, at least.
_MIN_STARS = 5
# Outliers among pixels and among stars, standard deviations.
_OUTLIER = 5.0
# Rounding: with a worse condition the columns cannot be told apart.
_MAX_CONDITION = 1e6


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
    prf: PrfModel, training: StarPixels, scatter: float, *, values: FloatArray | None = None
) -> StarResiduals:
    """Measure the deviations of every star that has enough training pixels.

    Parameters
    ----------
    prf : PrfModel
        The common PRF.
    training : StarPixels
        Pixels of isolated stars.
    scatter : float
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
