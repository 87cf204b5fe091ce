"""Is the PRF that of the stars? Light in the wrong pixels, stars it was learned from, trends over the field."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.prf.star_residuals import StarResiduals, fit_trends
from bayesprf.quality.residuals import MeanResiduals

# Derived: a pixel is a star's own if the star gives more than this share of the model's light in it.
_OWN_SHARE = 0.5
# Mean of |z| for a standard normal z.
_MEAN_ABS = float(np.sqrt(2.0 / np.pi))


@dataclass(frozen=True, slots=True, eq=False)
class MisfitTest:
    """How far the light of each star is from what the PRF says.

    Parameters
    ----------
    misplaced : ndarray of float64, shape (n_source,)
        Share of the star's light that the model puts into the wrong pixels, noise subtracted; NaN without own pixels.
    mismatch : ndarray of float64, shape (n_source,)
        Flux from the sum of the star's own pixels less that of the fit, electron / s.
    tests : csr_matrix of float64, shape (n_source, n_pixel)
        The functions of the residuals that gave it.
    """

    misplaced: FloatArray
    mismatch: FloatArray
    tests: csr_matrix


def measure_misfit(left: MeanResiduals) -> MisfitTest:
    """Measure the light in the wrong pixels, and what two ways of weighing the pixels make of the flux.

    Parameters
    ----------
    left : MeanResiduals
        The residuals.

    Returns
    -------
    MisfitTest

    Notes
    -----
    If the PRF is right, the sum of a star's pixels over the share of the PRF in them is its flux, as the fit's is,
    which weighs pixels by their light (a specification test, Hausman 1978). The sum of |r| over twice the flux is the
    share of misplaced light; noise of standard deviation sigma adds 0.8 sigma to each pixel's.
    """
    own = _own_pixels(left)
    pairs, values = left.pairs.select(own), left.matrix.values[own]
    caught = np.bincount(pairs.source, values, pairs.n_source)
    share = np.divide(1.0, caught[pairs.source])
    tests = csr_matrix((share, (pairs.source, pairs.pixel)), (pairs.n_source, pairs.n_pixel))
    noise = np.sqrt(left.noise_variance)[pairs.pixel]
    size = np.bincount(pairs.source, np.abs(left.residual[pairs.pixel]) - _MEAN_ABS * noise, pairs.n_source)
    seen = caught > 0
    misplaced = np.full(pairs.n_source, np.nan)
    bright = seen & (left.flux > 0)
    misplaced[bright] = np.maximum(size[bright], 0.0) / (2.0 * left.flux[bright])
    return MisfitTest(misplaced, np.asarray(tests @ left.residual), tests)


def _own_pixels(left: MeanResiduals) -> BoolArray:
    """Return the pairs in which the star gives most of the light, shape (n_pair,)."""
    pairs = left.pairs
    return (left.light > _OWN_SHARE * left.model[pairs.pixel]) & (left.ivar[pairs.pixel] > 0)


@dataclass(frozen=True, slots=True, eq=False)
class TrendTest:
    """How the stars' own PRFs follow their place in the field.

    Parameters
    ----------
    significance : float
        Of the strongest trend in size or shape, standard deviations; 0 where too few stars tell.
    largest : float
        Largest change of size or shape that it makes for a star, relative.
    shift : ndarray of float64, shape (n_source,)
        What the trends do to each flux, electron / s.
    """

    significance: float
    largest: float
    shift: FloatArray


def measure_trends(left: MeanResiduals, stars: StarResiduals, place: FloatArray) -> TrendTest:
    """Fit planes over the field to the deviations of single stars in size and shape.

    Parameters
    ----------
    left : MeanResiduals
        The residuals.
    stars : StarResiduals
        Deviations of single stars from the common PRF.
    place : ndarray of float64, shape (n_source, 2)
        Place of each source in the field, any unit.

    Returns
    -------
    TrendTest
        Only the trends that are the most significant of the three count.
    """
    best = TrendTest(0.0, 0.0, np.zeros(left.error.size))
    for name, trend in fit_trends(stars, place).items():
        light = left.flux[left.pairs.source] * trend.change[left.pairs.source] * left.gradients[name]
        image = np.bincount(left.pairs.pixel, light, left.pairs.n_pixel)
        if trend.significance > best.significance:
            shift = np.asarray(left.gain @ image)
            best = TrendTest(trend.significance, float(np.max(np.abs(trend.change))), shift)
    return best
