"""Errors of pixels that weigh a fit without following its noise: averaged over time, or predicted by a model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.scene.pixels import PixelTable
from bayesprf.stats import median_over_time

PIXEL_ERRORS = ("model", "time-mean", "given")
"""What the pixels of a flux fit may be weighed by."""

# A given variance this many times what is usual, an error three times as large, is no photon noise but a word about
# that value: it stays as it is.
_EXCEPTIONAL = 9.0
# Cadences and pixels that medians are taken over, at most, and numbers handled at once.
_N_CADENCE, _N_PIXEL, _CHUNK_ELEMENTS = 64, 512, 1 << 18


@dataclass(frozen=True, eq=False)
class UsualVariance:
    """The variance of each pixel, averaged over time.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    ceiling : ndarray of float64, shape (n_pixel,)
        Given variances above this are exceptional, (electron / s)**2.
    mean, least : ndarray of float64, shape (n_pixel,)
        Mean and smallest of the others, (electron / s)**2; 0 for pixels without data.
    changes : ndarray of bool, shape (n_pixel,)
        Where the others differ from cadence to cadence.
    """

    pixels: PixelTable
    ceiling: FloatArray
    mean: FloatArray
    least: FloatArray
    changes: BoolArray

    @classmethod
    def of(cls, pixels: PixelTable) -> "UsualVariance":
        """Average the given variances over the cadences in which a pixel has data."""
        step = max(1, pixels.n_time // _N_CADENCE)
        some, known = pixels.flux_err[::step], pixels.ivar[::step] > 0
        ceiling = _EXCEPTIONAL * median_over_time(np.where(known, some**2, np.nan), empty=np.inf)
        total, count = np.zeros(pixels.n_pixel), np.zeros(pixels.n_pixel)
        low, high = np.full(pixels.n_pixel, np.inf), np.zeros(pixels.n_pixel)
        for part in chunks(pixels):
            variance = np.square(pixels.flux_err[part])
            plain = (pixels.ivar[part] > 0) & (variance <= ceiling)
            count += plain.sum(axis=0)
            np.minimum(low, np.where(plain, variance, np.inf).min(axis=0), out=low)
            variance = np.where(plain, variance, 0.0)
            np.maximum(high, variance.max(axis=0), out=high)
            total += variance.sum(axis=0)
        changes = high > low
        mean = np.where(changes, total / np.maximum(count, 1.0), high)
        return cls(pixels, ceiling, mean, np.where(count > 0, low, 0.0), changes)

    @cached_property
    def is_given(self) -> bool:
        """Whether all errors are constant in time, so that those given are the average."""
        return not bool(self.changes.any())

    def plain(self, part: slice) -> BoolArray:
        """Return which values of some cadences have data and no exceptional error, shape (n, n_pixel)."""
        pixels = self.pixels
        return np.asarray((pixels.ivar[part] > 0) & (np.square(pixels.flux_err[part]) <= self.ceiling))

    def ivar(self) -> FloatArray:
        """Return inverse variances averaged over time, shape (n_time, n_pixel); 0 drops a value.

        Exceptional errors stay as they were given.
        """
        found = self.pixels.ivar.copy()
        for part in chunks(self.pixels):
            np.copyto(found[part], 1.0 / np.where(self.mean > 0, self.mean, 1.0), where=self.plain(part))
        return found


def chunks(pixels: PixelTable) -> Iterator[slice]:
    """Yield the cadences of a stack in parts whose arrays stay in cache."""
    step = max(1, _CHUNK_ELEMENTS // pixels.n_pixel)
    return (slice(start, start + step) for start in range(0, pixels.n_time, step))


@dataclass(frozen=True, slots=True, eq=False)
class VarianceModel:
    """The variance of pixels as counts and read noise make it.

    Parameters
    ----------
    usual : UsualVariance
        Variances averaged over time.
    light : ndarray of float64, shape (n_pixel,)
        Mean model of the pixels over the same values, electron / s.
    gain : float
        Variance per unit of light, electron / s.
    offset : ndarray of float64, shape (n_time,)
        What all pixels of a cadence have more than usual, such as the noise of its sky, (electron / s)**2.
    """

    usual: UsualVariance
    light: FloatArray
    gain: float
    offset: FloatArray

    def variance(self, model: FloatArray, part: slice, pixels: slice = slice(None)) -> FloatArray:
        """Return the variance of some cadences and pixels whose model is given, (electron / s)**2."""
        counts = self.usual.mean[pixels] + self.gain * (model - self.light[pixels])
        return np.asarray(np.maximum(counts + self.offset[part, None], self.usual.least[pixels]))


def fit_variance(usual: UsualVariance, predict: Callable[[slice], FloatArray]) -> VarianceModel:
    """Learn the variance of pixels from what is given and a model of the light.

    Parameters
    ----------
    usual : UsualVariance
        Given variances averaged over time.
    predict : callable
        Returns the model of some cadences, shape (n, n_pixel), electron / s.

    Returns
    -------
    VarianceModel

    Notes
    -----
    V[t, p] = V_p + b (m[t, p] - m_p) + g_t, with means over time V_p and m_p, and no less than the smallest that is
    given for the pixel. Photons give var = m / exposure, so
    that V_p - b m_p is what read noise and sky give to pixel p. The slope b is that of the given variances against
    the model within pixels, by least squares: where they were made from the measured counts, their noise is that of
    the counts about the model, to which the model is orthogonal. g_t is a median over pixels.
    """
    pixels = usual.pixels
    count, light, square, product = (np.zeros(pixels.n_pixel) for _ in range(4))
    for part in chunks(pixels):
        plain = usual.plain(part)
        model = np.where(plain, predict(part), 0.0)
        count += plain.sum(axis=0)
        light += model.sum(axis=0)
        square += np.einsum("tp,tp->p", model, model)
        more = np.where(plain, np.square(pixels.flux_err[part]) - usual.mean, 0.0)
        product += np.einsum("tp,tp->p", more, model)
    mean = light / np.maximum(count, 1.0)
    spread = float(np.sum(square - count * mean**2))
    gain = max(float(product.sum()) / spread, 0.0) if spread > 0 else 0.0
    found = VarianceModel(usual, mean, gain, np.zeros(pixels.n_time))
    return VarianceModel(usual, mean, gain, _offsets(found, predict))


def _offsets(found: VarianceModel, predict: Callable[[slice], FloatArray]) -> FloatArray:
    """Return by how much the given variances of each cadence exceed the model's, median over pixels."""
    pixels, offset = found.usual.pixels, np.zeros(found.offset.size)
    some = slice(None, None, max(1, pixels.n_pixel // _N_PIXEL))
    for part in chunks(pixels):
        model = predict(part)[:, some]
        more = np.square(pixels.flux_err[part, some]) - found.variance(model, part, some)
        known = found.usual.plain(part)[:, some]
        offset[part] = median_over_time(np.where(known, more, np.nan).T, empty=0.0)
    return offset


def model_ivar(found: VarianceModel, predict: Callable[[slice], FloatArray]) -> FloatArray:
    """Return inverse variances by the model, shape (n_time, n_pixel); dropped and exceptional values stay as given.

    Parameters
    ----------
    found : VarianceModel
        The model of the variance.
    predict : callable
        Returns the model of the light of some cadences, shape (n, n_pixel), electron / s.

    Returns
    -------
    ndarray of float64, shape (n_time, n_pixel)
        (electron / s)**-2.
    """
    pixels = found.usual.pixels
    ivar = pixels.ivar.copy()
    for part in chunks(pixels):
        plain = found.usual.plain(part)
        variance = np.where(plain, found.variance(predict(part), part), 1.0)
        np.divide(1.0, variance, out=ivar[part], where=plain)
    return ivar
