"""Where the spacecraft pointed, as the pixels tell, and which light curves follow it."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.stats import excess_sigma, median_over_time

# Cost: cadences that are handled at once.
_CHUNK = 256
# Derived: so many shifts in time give the deviation of chance to a sixth (1 / sqrt(2 n)); they spread over four fifths
# of the series, and differ by more than a cadence where there are twice as many.
_N_CHANCE = 20
_MIN_CADENCES = 2 * _N_CHANCE
# Definition: a pointing that moves less than this, pixel, is still.
_LEAST_PIX = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class PointingTest:
    """Pointing, and what light curves share with it.

    Parameters
    ----------
    motion : ndarray of float64, shape (n_time, 2)
        Motion of the field about its mean, towards east and north, pixel.
    span : float
        Distance within which 90 % of the cadences lie, pixel.
    scatter : ndarray of float64, shape (n_source,)
        Standard deviation of what each light curve shares with the pointing, chance subtracted, electron / s.
    significance : ndarray of float64, shape (n_source,)
        Of that part, over what the same pointing at other times gives.
    """

    motion: FloatArray
    span: float
    scatter: FloatArray
    significance: FloatArray


def measure_pointing(left: MeanResiduals, flux: FloatArray) -> PointingTest:
    """Measure the pointing at every cadence, and regress the light curves on it.

    Parameters
    ----------
    left : MeanResiduals
        Residuals of the mean image.
    flux : ndarray of float64, shape (n_time, n_source)
        Light curves, electron / s.

    Returns
    -------
    PointingTest

    Notes
    -----
    A second-degree polynomial of the pointing. Slow light curves follow any slow pointing by chance: the part counts
    as far as it exceeds that of the pointing shifted in time, by 20 shifts, whose mean and variance are those of a
    chi-square.
    """
    motion = _motion(left)
    span = float(np.percentile(np.hypot(*(motion - np.median(motion, axis=0)).T), 90)) * 2.0
    n_time, n_source = flux.shape
    nothing = PointingTest(motion, span, np.zeros(n_source), np.zeros(n_source))
    if n_time < _MIN_CADENCES or span < _LEAST_PIX:
        return nothing
    curves = np.nan_to_num(flux - median_over_time(flux, empty=0.0))
    x, y = motion.T
    basis = np.linalg.qr(np.column_stack([np.ones(n_time), x, y, x * x, x * y, y * y]))[0][:, 1:]
    shared = np.sum((basis.T @ curves) ** 2, axis=0)
    shifts = np.linspace(0.1 * n_time, 0.9 * n_time, _N_CHANCE).astype(int)
    chance = np.array([np.sum((np.roll(basis, one, axis=0).T @ curves) ** 2, axis=0) for one in shifts])
    usual = np.maximum(chance.mean(axis=0), 1e-300)
    freedom = np.clip(2.0 * (usual / np.maximum(chance.std(axis=0), 1e-300)) ** 2, 1.0, basis.shape[1])
    scatter = np.sqrt(np.maximum(shared - usual, 0.0) / n_time)
    return PointingTest(motion, span, scatter, excess_sigma(shared / usual, freedom))


def _motion(left: MeanResiduals) -> FloatArray:
    """Return the motion at every cadence about the mean, shape (n_time, 2), pixel."""
    gradient, pixels = left.motion_light, left.pixels
    free = gradient - left.design @ (left.gain @ gradient)
    weighted = free * left.weight[:, None]
    response = weighted @ np.linalg.pinv(weighted.T @ free, hermitian=True)
    level = left.prf.image.flux
    motion = np.zeros((pixels.n_time, 2))
    for start in range(0, pixels.n_time, _CHUNK):
        part = slice(start, start + _CHUNK)
        motion[part] = np.where(pixels.ivar[part] > 0, pixels.flux[part] - level, 0.0) @ response
    return np.asarray((motion - motion.mean(axis=0)) / np.sqrt(left.prf.prf.pixel_area))
