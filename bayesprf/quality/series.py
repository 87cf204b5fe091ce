"""What a fit leaves of the pixels from cadence to cadence: motion, correlated noise, errors that are too small."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.stats import excess_sigma, median_over_time

# Cost: cadences that are looked at, spread evenly.
_N_LOOKED = 256
# Derived: a scatter is known to a quarter from so many cadences (1 / sqrt(2 n)); fewer tell nothing.
_MIN_CADENCES = 8
# Definition: noise is common that the pixels of a square of this side share: that of a cutout, where these are smaller.
# Derived: motion by 0.006 pixel, less than asks for a time model, changes the flank of a PRF of 1.5 pixels full width
# at half maximum by this share.
_PATCH, _CHANGE = 16, 0.01
# Derived: leverage above which the scatter of a pixel tells nothing of its error: less than a tenth of its variance is
# left.
_MAX_LEVERAGE = 0.9
# Derived: motion that moves a pixel by this many errors adds a tenth to its variance; of a patch's constant more must
# be left than a PRF that is 3 % wrong (`timemodel.pointing.PRF_ERROR`) leaves of what is flux.
_MOVING, _LEAST_RESPONSE = 0.3, 0.05


@dataclass(frozen=True, eq=False)
class SeriesResiduals:
    """Residuals of some cadences, less what they have in common.

    Parameters
    ----------
    left : MeanResiduals
        Those of the mean image.
    residual : ndarray of float64, shape (n_looked, n_pixel)
        Data less model, less its mean over time, electron / s; 0 where there is none.
    known : ndarray of bool, shape (n_looked, n_pixel)
        Which there are.
    ivar : ndarray of float64, shape (n_pixel,)
        Inverse variance of a typical cadence.
    noise : ndarray of float64, shape (n_source,)
        Error of each flux from cadence to cadence, electron / s.
    """

    left: MeanResiduals
    residual: FloatArray
    known: BoolArray
    ivar: FloatArray
    noise: FloatArray

    @property
    def n_looked(self) -> int:
        """Number of cadences looked at."""
        return int(self.residual.shape[0])


def take_series(left: MeanResiduals, fit: FluxFit) -> SeriesResiduals | None:
    """Take the residuals of up to 256 cadences.

    Parameters
    ----------
    left : MeanResiduals
        Residuals of the mean image.
    fit : FluxFit
        The fluxes.

    Returns
    -------
    SeriesResiduals or None
        None for fewer than eight cadences. What the PRF has wrong grows with the flux of a star: it is scaled along
        before it is subtracted.
    """
    n_time = fit.flux.shape[0]
    if n_time < _MIN_CADENCES:
        return None
    looked = np.unique(np.linspace(0, n_time - 1, min(n_time, _N_LOOKED)).round().astype(np.int64))
    part = fit.problem.take(looked)
    known = (part.ivar > 0) & ~left.pixels.spilled
    model = part.predict(fit.posterior.mean[looked])
    residual = np.where(known, part.data - model, 0.0)
    count = np.maximum(known.sum(axis=0), 1)
    level = np.where(known, model, 0.0).sum(axis=0) / count
    growth = np.divide(model, level, out=np.ones_like(model), where=level > 0)
    growth = np.where(known, np.clip(growth, 0.0, 2.0), 0.0)
    usual = residual.sum(axis=0) / np.maximum(growth.sum(axis=0), 1e-300)
    residual -= usual * growth
    ivar = np.where(known, part.noise_ivar, 0.0).sum(axis=0) / count
    return SeriesResiduals(left, residual, known, ivar, median_over_time(fit.flux_err[looked], empty=np.inf))


@dataclass(frozen=True, slots=True, eq=False)
class MotionTest:
    """Motion of the images that the model does not follow.

    Parameters
    ----------
    rms : float
        Root mean square of the motion, pixel, that of noise subtracted.
    significance : float
        Of that motion.
    scatter : ndarray of float64, shape (n_source,)
        What it adds to each light curve, standard deviation, electron / s.
    """

    rms: float
    significance: float
    scatter: FloatArray


def measure_motion(series: SeriesResiduals, scale: float = 1.0) -> MotionTest:
    """Measure how all stars move together in the residuals.

    Parameters
    ----------
    series : SeriesResiduals
        The residuals.
    scale : float
        Scatter of the pixels over their errors.

    Returns
    -------
    MotionTest

    Notes
    -----
    With G = sum_s F_s grad P_s and all fluxes free, (1 - X K) G = H, the motion at a cadence is
    m = (H' C^-1 H)^-1 H' C^-1 r, and a flux follows it as K G m.
    """
    left = series.left
    gradient = left.motion_light
    free = gradient - left.design @ (left.gain @ gradient)
    information = (free.T * series.ivar) @ free
    if not np.linalg.cond(information) < 1e12:
        return MotionTest(0.0, 0.0, np.zeros(series.noise.size))
    noise = np.linalg.inv(information)
    motion = series.residual @ (free * series.ivar[:, None]) @ noise
    noise = noise * max(scale, 1.0) ** 2
    excess = motion.T @ motion / series.n_looked - noise
    significance = excess_sigma(1.0 + np.diag(excess) / np.diag(noise), series.n_looked - 1)
    response = left.gain @ gradient
    scatter = np.sqrt(np.maximum(np.einsum("si,ij,sj->s", response, excess, response), 0.0))
    rms = np.sqrt(max(float(np.trace(excess)), 0.0) / left.prf.prf.pixel_area)
    return MotionTest(float(rms), float(significance.max()), scatter)


@dataclass(frozen=True, slots=True, eq=False)
class NoiseTest:
    """Noise that neighbouring pixels share, and noise beyond the quoted errors.

    Parameters
    ----------
    level : float
        Median over patches of pixels of the standard deviation of their common noise, electron / s.
    significance : float
        Of common noise, in the field or the worst patch.
    scatter : ndarray of float64, shape (n_source,)
        What it adds to each light curve, standard deviation, electron / s.
    scale : float
        Median over pixels of their scatter in time over their error.
    scale_per_source : ndarray of float64, shape (n_source,)
        Scatter over error of the pixels that weigh most for a source.
    """

    level: float
    significance: float
    scatter: FloatArray
    scale: float
    scale_per_source: FloatArray


def measure_noise(series: SeriesResiduals, significance: float) -> NoiseTest:
    """Measure how much more the sums of patches of pixels scatter than their errors say.

    Parameters
    ----------
    series : SeriesResiduals
        The residuals.
    significance : float
        A patch counts by itself from so many standard deviations on.

    Returns
    -------
    NoiseTest

    Notes
    -----
    Motion is subtracted, bright pixels weigh as if they changed by a hundredth of their light, and all fluxes are free.
    """
    left, n = series.left, series.n_looked
    residual, moving = _without_motion(series)
    patches = _patch_sums(series)
    scale = _pixel_scale(series, residual - _common(patches, residual), moving)
    typical = float(np.median(scale[scale > 0])) if np.any(scale > 0) else 1.0
    expected = patches.variance * (1.0 - 1.0 / n) * typical**2
    told, ratio = patches.told, np.ones(expected.size)
    ratio[told] = np.mean((patches.tests @ residual.T) ** 2, axis=1)[told] / expected[told]
    worst, common = np.where(told, excess_sigma(ratio, n - 1), 0.0), 0.0
    if told.any():
        common = float(excess_sigma(np.array(np.median(ratio[told])), float((n - 1) * told.sum())))
    excess = np.where(worst > significance, ratio - 1.0, 0.0)
    if common > significance:
        excess = np.maximum(excess, np.median(ratio[told]) - 1.0)
    variance = np.where(told, expected / np.maximum(patches.response**2, 1e-300), 0.0)
    scatter = np.sqrt(np.asarray((left.gain @ patches.member).power(2) @ (variance * excess)).ravel())
    level = float(np.sqrt(np.median((variance * np.maximum(ratio - 1.0, 0.0))[told]))) if told.any() else 0.0
    return NoiseTest(level, max(common, float(worst.max(initial=0.0))), scatter, typical, _per_source(left, scale))


@dataclass(frozen=True, slots=True, eq=False)
class _PatchSums:
    """Weighted sums over patches of pixels.

    Parameters
    ----------
    tests : csr_matrix of float64, shape (n_patch, n_pixel)
        The sums.
    member : csr_matrix of float64, shape (n_pixel, n_patch)
        Which pixel belongs to which patch.
    variance : ndarray of float64, shape (n_patch,)
        Of the sums, by the errors and with all fluxes free.
    response : ndarray of float64, shape (n_patch,)
        Of the sums to a constant in all pixels of the patch.
    told : ndarray of bool, shape (n_patch,)
        Patches whose constant is not taken by fluxes or background.
    """

    tests: csr_matrix
    member: csr_matrix
    variance: FloatArray
    response: FloatArray
    told: BoolArray


def _patch_sums(series: SeriesResiduals) -> _PatchSums:
    left, patch = series.left, _patches(series.left)
    good = series.ivar > 0
    weight = series.ivar / (1.0 + series.ivar * (_CHANGE * left.model) ** 2)
    tests = csr_matrix((weight, (patch, np.arange(patch.size))))
    member = csr_matrix((good.astype(np.float64), (np.arange(patch.size), patch)))
    free = csr_matrix(tests - (tests @ left.design) @ left.gain)
    sigma2 = np.divide(1.0, series.ivar, out=np.zeros_like(series.ivar), where=good)
    variance = np.asarray(free.power(2) @ sigma2).ravel()
    response = np.asarray(free.multiply(member.T).sum(axis=1)).ravel()
    total = np.asarray(tests.sum(axis=1)).ravel()
    return _PatchSums(tests, member, variance, response, (variance > 0) & (response > _LEAST_RESPONSE * total))


def _common(patches: _PatchSums, residual: FloatArray) -> FloatArray:
    """Return the constant of each patch at each cadence, in its pixels, shape (n_looked, n_pixel)."""
    level = np.where(patches.told, 1.0 / np.maximum(patches.response, 1e-300), 0.0)
    return np.asarray((patches.member @ ((patches.tests @ residual.T) * level[:, None])).T)


def _without_motion(series: SeriesResiduals) -> tuple[FloatArray, BoolArray]:
    """Return the residuals without what looks like motion of all stars, and the pixels that it changes much."""
    left = series.left
    free = left.motion_light - left.design @ (left.gain @ left.motion_light)
    information = (free.T * series.ivar) @ free
    motion = series.residual @ (free * series.ivar[:, None]) @ np.linalg.pinv(information, hermitian=True)
    light = motion @ free.T
    moving = np.mean(light**2, axis=0) * series.ivar > _MOVING**2
    return series.residual - np.where(series.known, light, 0.0), moving


def _pixel_scale(series: SeriesResiduals, residual: FloatArray, moving: BoolArray) -> FloatArray:
    """Return the scatter of each pixel over its error, shape (n_pixel,); 0 where nothing tells."""
    leverage = np.asarray(series.left.gain.T.multiply(series.left.design).sum(axis=1)).ravel()
    freedom = np.maximum(series.known.sum(axis=0) - 1, 1) * (1.0 - leverage)
    squares = np.sum(np.where(series.known, residual, 0.0) ** 2, axis=0) * series.ivar
    told = (series.ivar > 0) & (leverage < _MAX_LEVERAGE) & ~moving
    return np.sqrt(np.divide(squares, freedom, out=np.zeros_like(squares), where=told))


def _per_source(left: MeanResiduals, scale: FloatArray) -> FloatArray:
    """Return the mean scale of each source's pixels, weighted by what they tell of its flux, shape (n_source,)."""
    pairs = left.pairs
    told = left.matrix.values**2 * left.ivar[pairs.pixel] * (scale[pairs.pixel] > 0)
    total = np.bincount(pairs.source, told, pairs.n_source)
    sums = np.bincount(pairs.source, told * scale[pairs.pixel], pairs.n_source)
    return np.divide(sums, total, out=np.ones_like(total), where=total > 0)


def _patches(left: MeanResiduals) -> IntArray:
    """Return the patch of each pixel, shape (n_pixel,): cutouts, cut into squares where they are large."""
    pixels = left.pixels
    place = np.stack([pixels.stamp, pixels.column // _PATCH, pixels.row // _PATCH], axis=1).astype(np.int64)
    first = np.zeros((int(pixels.stamp.max()) + 1, 2))
    for axis, name in enumerate((pixels.column, pixels.row)):
        low = np.full(first.shape[0], np.inf)
        np.minimum.at(low, pixels.stamp, name)
        place[:, 1 + axis] = ((name - low[pixels.stamp]) // _PATCH).astype(np.int64)
    return np.asarray(np.unique(place, axis=0, return_inverse=True)[1]).ravel()
