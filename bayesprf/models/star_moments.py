"""How far single stars stray from the common PRF: in place, size and shape, star by star."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from bayesprf.arrays import FloatArray
from bayesprf.models.prf import PrfModel
from bayesprf.models.profile import Training, model_variance

# Steps of the numerical derivatives: arcsec for the place, a ratio for the size, shear for the rest.
STEPS: dict[str, float] = {"east": 0.05, "north": 0.05, "size": 0.005, "stretch": 0.005, "skew": 0.005}
_MIN_PIXELS = 9
_MIN_STARS = 5
_OUTLIER = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class StarMoments:
    """Measured deviations of single stars from the common PRF.

    Parameters
    ----------
    source : ndarray of int64, shape (n_star,)
        The stars that could be measured.
    value, std : ndarray of float64, shape (n_star, 5)
        Deviation and its standard deviation, in the order of `STEPS`: arcsec, arcsec, ratio, shear, shear.
    """

    source: FloatArray
    value: FloatArray
    std: FloatArray

    def width(self, *names: str) -> float:
        """Return the standard deviation of the true deviations, learned from all stars.

        Parameters
        ----------
        *names : str
            Which deviations share the width.

        Returns
        -------
        float
            The maximum of prod N(value; 0, width**2 + std**2) over the width, outliers left out; 0 where
            the deviations are no larger than their errors, or there are too few stars.
        """
        index = [list(STEPS).index(name) for name in names]
        value, variance = self.value[:, index].ravel(), self.std[:, index].ravel() ** 2
        spread = 1.4826 * float(np.median(np.abs(value))) if value.size else 0.0
        keep = np.abs(value) < _OUTLIER * np.sqrt(spread**2 + variance)
        value, variance = value[keep], variance[keep]
        if value.size < _MIN_STARS or spread == 0.0:
            return 0.0

        def slope(width: float) -> float:
            total = width**2 + variance
            return float(np.sum((value**2 - total) / total**2))

        if slope(0.0) <= 0:
            return 0.0
        return float(brentq(slope, 0.0, 10.0 * float(np.max(np.abs(value)))))


def prf_gradients(
    prf: PrfModel, dx: FloatArray, dy: FloatArray, *, names: Iterable[str] = tuple(STEPS)
) -> dict[str, FloatArray]:
    """Return the derivatives of the PRF with respect to a star's place, size and shear.

    Parameters
    ----------
    prf : PrfModel
        The PRF.
    dx, dy : ndarray of float64, shape (n,)
        Offset of the pixel from the star towards east and north, arcsec.
    names : iterable of str
        Which of `STEPS`.

    Returns
    -------
    dict of str to ndarray of float64, shape (n,)
        Per name, 1 / pixel per unit, by central differences; the total light stays the same.
    """

    def moved(name: str, step: float) -> FloatArray:
        if name == "east":
            return prf.evaluate(dx - step, dy)
        if name == "north":
            return prf.evaluate(dx, dy - step)
        if name == "size":
            return prf.evaluate(dx / (1.0 + step), dy / (1.0 + step)) / (1.0 + step) ** 2
        e1, e2 = prf.shear
        shear = (e1 + step, e2) if name == "stretch" else (e1, e2 + step)
        return replace(prf, shear=shear).evaluate(dx, dy)

    return {name: (moved(name, STEPS[name]) - moved(name, -STEPS[name])) / (2.0 * STEPS[name]) for name in names}


def measure_stars(prf: PrfModel, training: Training, scatter: float) -> StarMoments:
    """Measure the deviations of every star that has enough training pixels.

    Parameters
    ----------
    prf : PrfModel
        The common PRF.
    training : Training
        Pixels of lone stars.
    scatter : float
        Intrinsic scatter, dex.

    Returns
    -------
    StarMoments

    Notes
    -----
    Weighted least squares per star of y - m on its own flux and the five gradients of its model.
    """
    model = training.flux * prf.evaluate(training.dx, training.dy)
    gradients = prf_gradients(prf, training.dx, training.dy)
    columns = np.stack([model, *(training.flux * one for one in gradients.values())], axis=1)
    weight = 1.0 / model_variance(training, model, prf.peak, scatter)
    weight = np.where((training.y - model) ** 2 * weight < _OUTLIER**2, weight, 0.0)
    found = []
    order = np.argsort(training.source, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(training.source[order])) + 1)
    for rows in groups:
        if np.count_nonzero(weight[rows]) < _MIN_PIXELS:
            continue
        a, w = columns[rows], weight[rows]
        scale = np.sqrt(np.sum(w[:, None] * a**2, axis=0))
        gram = (a / scale).T @ (w[:, None] * (a / scale))
        if np.linalg.cond(gram) > 1e6:
            continue
        cov = np.linalg.inv(gram) / np.outer(scale, scale)
        value = cov @ (a.T @ (w * (training.y[rows] - model[rows])))
        found.append((training.source[rows[0]], value[1:], np.sqrt(np.diag(cov))[1:]))
    if not found:
        return StarMoments(np.zeros(0, np.int64), np.zeros((0, len(STEPS))), np.zeros((0, len(STEPS))))
    source, value, std = zip(*found, strict=True)
    return StarMoments(np.array(source), np.array(value), np.array(std))
