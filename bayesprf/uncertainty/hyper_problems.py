"""The linear problems that the widths of a flux fit are learned from."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.fluxes import default_prior
from bayesprf.scene.image import Image
from bayesprf.scene.pixels import PixelTable


@dataclass(frozen=True, slots=True, eq=False)
class WidthData:
    """What the widths are learned from.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    image : Image
        Its mean over time.
    design : DesignStack
        Shape (n_pixel, n_coeff): the sources, then surfaces such as a background.
    expected : ndarray of float64, shape (n_source,)
        Expected fluxes, electron / s; NaN where unknown.
    surface_prior : GaussianPrior
        Prior of the coefficients after those of the sources.
    known : ndarray of float64, shape (n_pixel,)
        Light that is not fitted, electron / s.
    trusted : ndarray of bool, shape (n_source,)
        Sources whose fluxes may train the prior: those not saturated.
    """

    pixels: PixelTable
    image: Image
    design: DesignStack
    expected: FloatArray
    surface_prior: GaussianPrior
    known: FloatArray
    trusted: BoolArray

    @property
    def usable(self) -> BoolArray:
        """Pixels that a source lights and that respond linearly, shape (n_pixel,)."""
        own = self.design.matrix()[:, : self.expected.size]
        return np.asarray(np.diff(own.indptr) > 0) & ~self.pixels.spilled

    @property
    def trains(self) -> BoolArray:
        """Trusted sources of known flux that light a usable pixel, shape (n_source,)."""
        lit = np.unique(self.design.matrix()[self.usable & (self.image.ivar > 0)].indices)
        known = self.trusted & (np.nan_to_num(self.expected) > 0)
        return np.asarray(known & np.isin(np.arange(self.expected.size), lit))

    def prior(self, width: FloatArray | float, zero_point: float) -> GaussianPrior:
        """Return the prior of the fluxes: N(z f, (width f)^2) where f is known, and the default one elsewhere."""
        default = default_prior(self.expected, self.image.cadence_error)
        known = np.nan_to_num(self.expected) > 0
        wide = np.maximum(np.nan_to_num(self.expected), self.image.cadence_error)
        precision = np.where(known, (np.asarray(width) * wide) ** -2.0, default.precision)
        return GaussianPrior(np.where(known, zero_point * default.mean, default.mean), precision)

    def with_surface_group(self, group: IntArray) -> IntArray:
        """Append -1 for each surface to the groups of the sources: no group."""
        return np.concatenate([group, np.full(self.surface_prior.mean.size, -1)])

    def with_surfaces(self, prior: GaussianPrior) -> GaussianPrior:
        """Append the prior of the surfaces."""
        after = self.surface_prior
        return GaussianPrior(
            np.concatenate([prior.mean, after.mean]), np.concatenate([prior.precision, after.precision])
        )


@dataclass(frozen=True, slots=True, eq=False)
class CadencePairs:
    """Pairs of cadences, no cadence in two of them.

    Parameters
    ----------
    first, second : ndarray of int64, shape (n_pair,)
        The two cadences of each pair.
    """

    first: IntArray
    second: IntArray

    @classmethod
    def neighbors(cls, n_time: int, n_cadence: int) -> "CadencePairs":
        """Return pairs of neighbours, of at most `n_cadence` cadences spread over the series."""
        first = 2 * _spread(n_time, n_cadence)
        return cls(first, first + 1)

    @classmethod
    def distant(cls, n_time: int, n_cadence: int) -> "CadencePairs":
        """Return pairs half a series apart, of at most `n_cadence` cadences spread over the series."""
        first = _spread(n_time, n_cadence)
        return cls(first, first + n_time // 2)

    @property
    def n_pair(self) -> int:
        """Number of pairs."""
        return int(self.first.size)


def _spread(n_time: int, n_cadence: int) -> IntArray:
    """Return numbers from 0 to n_time // 2 - 1, at most half of `n_cadence`, spread evenly."""
    return np.linspace(0, n_time // 2 - 1, min(n_time, n_cadence) // 2).astype(np.int64)


def difference_problem(
    data: WidthData, pairs: CadencePairs, prior: GaussianPrior, noise_factor: FloatArray
) -> LinearProblem:
    """Return differences of cadences: what is the same at both is gone, the noise is not.

    Parameters
    ----------
    data : WidthData
        Pixels and design.
    pairs : CadencePairs
        Which cadences, each of them once.
    prior : GaussianPrior
        Prior of the fluxes at one cadence, about their mean over time; its own mean does not matter.
    noise_factor : ndarray of float64, shape (n_pixel,)
        Factor of the errors of each pixel.

    Returns
    -------
    LinearProblem
        (y_b - y_a) / sqrt(2) ~ N(X (F_b - F_a) / sqrt(2), (sigma_a^2 + sigma_b^2) / 2), one batch row per pair.
    """
    pixels, design = data.pixels, data.design
    first, second = pairs.first, pairs.second
    used = (pixels.ivar[first] > 0) & (pixels.ivar[second] > 0) & data.usable
    variance = 0.5 * noise_factor**2 * (pixels.flux_err[first] ** 2 + pixels.flux_err[second] ** 2)
    if design.mix is not None:
        design = replace(design, mix=0.5 * (design.mix[first] + design.mix[second]))
    full = data.with_surfaces(prior)
    return LinearProblem(
        design,
        np.where(used, (pixels.flux[second] - pixels.flux[first]) / np.sqrt(2.0), 0.0),
        np.divide(1.0, variance, out=np.zeros_like(variance), where=used),
        replace(full, mean=np.zeros_like(full.mean)),
    )


def image_problem(data: WidthData, prior: GaussianPrior, noise_factor: FloatArray) -> LinearProblem:
    """Return the mean image as one batch row: every star and every pixel counts once.

    Parameters
    ----------
    data : WidthData
        Image and design.
    prior : GaussianPrior
        Prior of the fluxes.
    noise_factor : ndarray of float64, shape (n_pixel,)
        Factor of the errors of each pixel.

    Returns
    -------
    LinearProblem
    """
    design = data.design
    if design.mix is not None:
        design = replace(design, mix=design.mix.mean(axis=0, keepdims=True))
    ivar = np.where(data.usable, data.image.ivar / noise_factor**2, 0.0)
    return LinearProblem(design, data.image.flux[None], ivar[None], data.with_surfaces(prior), data.known)


def mean_light(data: WidthData) -> FloatArray:
    """Return the light of all sources in the mean image under the default prior.

    Parameters
    ----------
    data : WidthData
        Image and design.

    Returns
    -------
    ndarray of float64, shape (n_pixel,)
        electron / s.
    """
    prior = default_prior(data.expected, data.image.cadence_error)
    problem = image_problem(data, prior, np.ones(data.pixels.n_pixel))
    flux = choose_solver(problem).solve(problem).mean
    flux[:, data.expected.size :] = 0.0
    return np.asarray(problem.predict(flux)[0])


def rough_zero_point(data: WidthData, light: FloatArray) -> float:
    """Return how much brighter all stars together are than expected, where the search for the zero point begins.

    Parameters
    ----------
    data : WidthData
        Design and expected fluxes.
    light : ndarray of float64, shape (n_pixel,)
        Light of all sources in the mean image, electron / s.
    """
    known = np.where(data.trains, np.nan_to_num(data.expected), 0.0)
    expected = data.design.matrix()[:, : known.size] @ known
    return float(np.sum(light * expected) / np.sum(expected**2))
