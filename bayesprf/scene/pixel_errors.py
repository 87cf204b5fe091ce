"""Errors of pixels that weigh a fit without following its noise: averaged over time, or predicted by a model."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray, row_entries
from bayesprf.linalg.stack import DesignStack
from bayesprf.scene.pixels import PixelTable
from bayesprf.stats import median_over_time

PIXEL_ERRORS = ("model", "time-mean", "given")
"""What the pixels of a flux fit may be weighed by."""

# Definition: a given variance this many times what is usual, an error three times as large, is no photon noise but a
# word about that value: it stays as it is.
_EXCEPTIONAL = 9.0
# Cadences and pixels that medians are taken over, at most, and numbers handled at once.
_N_CADENCE, _N_PIXEL, _CHUNK_ELEMENTS = 64, 512, 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class UsualVariance:
    """The variance of each pixel, averaged over time.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    least_ivar : ndarray of float64, shape (n_pixel,)
        Given inverse variances below this are exceptional, (electron / s)**-2.
    mean, least : ndarray of float64, shape (n_pixel,)
        Mean and smallest of the other variances, (electron / s)**2; 0 for pixels without data.
    changes : ndarray of bool, shape (n_pixel,)
        Where the others differ from cadence to cadence.
    """

    pixels: PixelTable
    least_ivar: FloatArray
    mean: FloatArray
    least: FloatArray
    changes: BoolArray

    @classmethod
    def of(cls, pixels: PixelTable) -> "UsualVariance":
        """Average the given variances over the cadences in which a pixel has data."""
        from bayesprf.linalg.compiled.residuals import sum_variances

        least_ivar = _median_ivar(pixels.ivar[:: max(1, pixels.n_time // _N_CADENCE)]) / _EXCEPTIONAL
        count, total, high = np.zeros((3, pixels.n_pixel))
        low = np.full(pixels.n_pixel, np.inf)
        sum_variances(pixels.ivar, least_ivar, total, (count, low, high))
        changes = high > low
        mean = np.where(changes, total / np.maximum(count, 1.0), high)
        return cls(pixels, least_ivar, mean, np.where(count > 0, low, 0.0), changes)

    @property
    def is_given(self) -> bool:
        """Whether all errors are constant in time, so that those given are the average."""
        return not bool(self.changes.any())

    def ivar(self) -> FloatArray:
        """Return inverse variances averaged over time, shape (n_time, n_pixel); 0 drops a value.

        Exceptional errors stay as they were given.
        """
        from bayesprf.linalg.compiled.residuals import write_usual_ivar

        given, value = self.pixels.ivar, 1.0 / np.where(self.mean > 0, self.mean, 1.0)
        found = np.empty_like(given)
        write_usual_ivar(given, self.least_ivar, value, self.changes, found)
        return found


def _median_ivar(ivar: FloatArray) -> FloatArray:
    """Return the median inverse variance of each pixel over the cadences that have it, 0 without any."""
    median = ivar[0].copy()
    differs = (ivar != median).any(axis=0)
    some = ivar[:, differs]
    median[differs] = median_over_time(np.where(some > 0, some, np.nan), empty=0.0)
    return median


@dataclass(frozen=True, slots=True, eq=False)
class ModelLight:
    """A model of the light of all pixels and cadences.

    Parameters
    ----------
    design : DesignStack
        Of shape (n_pixel, n_coeff), 1 / pixel.
    coefficients : ndarray of float64, shape (n_time, n_coeff)
        Such as fluxes, electron / s.
    """

    design: DesignStack
    coefficients: FloatArray

    @property
    def arrays(self) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        """The design as compiled functions take it."""
        design = self.design
        return design.indptr, design.indices, design.parts, np.empty((0, 1)) if design.mix is None else design.mix

    def at(self, pixels: IntArray) -> "ModelLight":
        """Return the model of some pixels."""
        design = self.design
        indptr, entry = row_entries(design.indptr, pixels)
        some = DesignStack(indptr, design.indices[entry], design.parts[:, entry], design.n_coeff, design.mix)
        return ModelLight(some, self.coefficients)

    def predict(self, part: slice) -> FloatArray:
        """Return the light of some cadences, shape (n, n_pixel), electron / s."""
        cadences = np.arange(self.coefficients.shape[0])[part]
        return self.design.take(cadences).predict(self.coefficients[part])


@dataclass(frozen=True, slots=True, eq=False)
class VarianceModel:
    """The variance of pixels as counts and read noise make it.

    Parameters
    ----------
    usual : UsualVariance
        Variances averaged over time.
    model : ModelLight
        The light.
    mean_light : ndarray of float64, shape (n_pixel,)
        Mean of the light over the same values, electron / s.
    gain : float
        Variance per unit of light, electron / s.
    offset : ndarray of float64, shape (n_time,)
        What all pixels of a cadence have more than usual, such as the noise of its sky, (electron / s)**2.
    """

    usual: UsualVariance
    model: ModelLight
    mean_light: FloatArray
    gain: float
    offset: FloatArray

    def ivar(self, out: FloatArray | None = None) -> FloatArray:
        """Return inverse variances by the model, shape (n_time, n_pixel); dropped and exceptional ones stay as given.

        `out` is an array with these, to be filled.
        """
        from bayesprf.linalg.compiled.residuals import write_light_ivar

        usual = self.usual
        found = usual.pixels.ivar.copy() if out is None else out
        variance = usual.least_ivar, usual.mean, self.mean_light, usual.least
        law = self.gain, self.offset
        write_light_ivar(self.model.arrays, self.model.coefficients, usual.pixels.ivar, variance, law, found)
        return found


def fit_variance(usual: UsualVariance, model: ModelLight) -> VarianceModel:
    """Learn the variance of pixels from what is given and a model of the light.

    Parameters
    ----------
    usual : UsualVariance
        Given variances averaged over time.
    model : ModelLight
        The light.

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
    from bayesprf.linalg.compiled.residuals import sum_light

    pixels, sums = usual.pixels, np.zeros((4, usual.pixels.n_pixel))
    sum_light(model.arrays, model.coefficients, pixels.ivar, (usual.least_ivar, usual.mean), sums)
    count, light, square, product = sums
    mean = light / np.maximum(count, 1.0)
    spread = float(np.sum(square - count * mean**2))
    gain = max(float(product.sum()) / spread, 0.0) if spread > 0 else 0.0
    return VarianceModel(usual, model, mean, gain, _offsets(usual, model, mean, gain))


def _offsets(usual: UsualVariance, model: ModelLight, mean_light: FloatArray, gain: float) -> FloatArray:
    """Return what the given variances of each cadence exceed the model's by, median over pixels, shape (n_time,)."""
    pixels = usual.pixels
    some = np.arange(0, pixels.n_pixel, max(1, pixels.n_pixel // _N_PIXEL))
    model, offset = model.at(some), np.zeros(pixels.n_time)
    step = max(1, _CHUNK_ELEMENTS // some.size)
    for start in range(0, pixels.n_time, step):
        part = slice(start, start + step)
        expected = usual.mean[some] + gain * (model.predict(part) - mean_light[some])
        given = pixels.ivar[part, some]
        known = (given > 0) & (given >= usual.least_ivar[some])
        more = 1.0 / np.where(known, given, 1.0) - np.maximum(expected, usual.least[some])
        offset[part] = median_over_time(np.where(known, more, np.nan).T, empty=0.0)
    return offset
