"""Whether the sizes and shapes of single stars follow their places in the field."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.prf.star_residuals import StarResiduals
from bayesprf.scene.prf import STEPS, PrfModel, prf_gradients
from bayesprf.stats import likely_width, mad_sigma

# Deviations of a star's own PRF that may follow its place.
_DEVIATIONS = ("size", "e1", "e2")
# Stars that tell how the PRF changes over the field, at least.
_MIN_STARS = 8
# Accuracy: turns of the fit of a plane and of the scatter about it.
_N_PASS = 4


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
    if stars.source.size < _MIN_STARS or not np.any(spread > 0):
        return {}
    centred = (place - place[stars.source].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    columns = np.column_stack([np.ones(len(place)), centred[:, spread > 0]])
    return {name: Trend(*_fit_plane(columns, stars, list(STEPS).index(name))) for name in _DEVIATIONS}


def flux_answers(prf: PrfModel, training: StarPixels, values: FloatArray, scatter: float) -> dict[str, FloatArray]:
    """Return the relative change of a flux per change of size and shape, by name, shape (n,), for each pixel's star.

    Parameters
    ----------
    prf : PrfModel
        The common PRF.
    training : StarPixels
        Pixels of single stars.
    values : ndarray of float64, shape (n,)
        PRF of each star in its pixels, 1 / pixel.
    scatter : float
        Intrinsic scatter, dex.

    Notes
    -----
    sum W P dP / sum W P**2 over the star's pixels, with their weights W: what a fit of the flux alone makes of it.
    """
    weight = training.flux**2 / training.model_variance(training.flux * values, prf.peak, scatter)
    total = np.bincount(training.source, weight * values**2)
    gradients = prf_gradients(prf, training.dx, training.dy)
    return {
        name: (np.bincount(training.source, weight * values * gradients[name]) / total.clip(1e-300))[training.source]
        for name in _DEVIATIONS
    }


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
