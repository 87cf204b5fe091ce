"""Pixels that one star lights, the light of all others subtracted: what the PRF is learned from."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.scene.image import Image
from bayesprf.scene.prf import LN10, PrfModel, round_coordinates
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.stats import mad_sigma

# Rounding: the errors of a ring's pixels are made no smaller than this share of what they are, as where all its
# residuals are nearly the same.
_MIN_RING_SCALE = 0.1
# Derived: where fewer than this share of the residuals lie below zero, the model is too low as a whole, by 0.8 of their
# scatter, and all count.
_MIN_BELOW = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class StarPixels:
    """Pixels of single stars, as aligned arrays of shape (n,).

    Parameters
    ----------
    source : ndarray of int64
        Star of each pixel.
    dx, dy : ndarray of float64
        Offset from the star, arcsec.
    light, variance : ndarray of float64
        Flux with the neighbours subtracted, electron / s, and its variance.
    flux : ndarray of float64
        Flux of the star, electron / s (or the catalogue's unit, in the first round).
    """

    source: IntArray
    dx: FloatArray
    dy: FloatArray
    light: FloatArray
    variance: FloatArray
    flux: FloatArray

    def shifted(self, step: FloatArray) -> "StarPixels":
        """Return the same pixels with every offset moved by `step`, arcsec."""
        return replace(self, dx=self.dx + step[0], dy=self.dy + step[1])

    def scaled(self, factor: float) -> "StarPixels":
        """Return the same pixels with every star's flux times a factor."""
        return replace(self, flux=self.flux * factor)

    def select(self, chosen: BoolArray | IntArray) -> "StarPixels":
        """Return some of the pixels, by mask or index."""
        return StarPixels(*(getattr(self, name)[chosen] for name in StarPixels.__slots__))

    def model_variance(self, model: FloatArray, peak: float, scatter: float | FloatArray) -> FloatArray:
        """Return the variance of the pixels about a model that is not perfect.

        Parameters
        ----------
        model : ndarray of float64, shape (n,)
            The model, electron / s.
        peak : float
            PRF at the centre, 1 / pixel.
        scatter : float, or ndarray of float64, shape (n,)
            Relative scatter at the centre, dex.

        Returns
        -------
        ndarray of float64, shape (n,)
            sigma**2 + (ln10 scatter)**2 model (f peak), (electron / s)**2: the relative error grows outwards as
            one over the square root of the light, which weighs bright pixels as the fluxes do.
        """
        return self.variance + (LN10 * scatter) ** 2 * model * (self.flux * peak)


def gather_star_pixels(
    prf: PrfMatrix, flux: FloatArray, image: Image, *, fixed: FloatArray, chosen: BoolArray
) -> StarPixels:
    """Take pixels out of an image, with the light of all stars but their own subtracted.

    Parameters
    ----------
    prf : PrfMatrix
        PRF of every source in every pixel.
    flux : ndarray of float64, shape (n_source,)
        Fluxes, electron / s; NaN counts as dark.
    image : Image
        The image.
    fixed : ndarray of float64, shape (n_pixel,)
        Further light to subtract, electron / s.
    chosen : ndarray of bool, shape (n_pair,)
        Pairs of star and pixel that are needed.

    Returns
    -------
    StarPixels
    """
    pairs = prf.pairs.select(chosen)
    neighbors = prf.neighbor_light(flux)[chosen]
    return StarPixels(
        source=pairs.source,
        dx=pairs.dx,
        dy=pairs.dy,
        light=image.flux[pairs.pixel] - neighbors - fixed[pairs.pixel],
        variance=1.0 / image.ivar[pairs.pixel],
        flux=flux[pairs.source],
    )


def ring_scale(residual: FloatArray, ring: IntArray) -> FloatArray:
    """Return how far the pixels of a ring scatter, in units of their errors.

    Parameters
    ----------
    residual : ndarray of float64, shape (n,)
        (data - model) / error.
    ring : ndarray of int64, shape (n,)
        Ring of each pixel.

    Returns
    -------
    ndarray of float64, shape (n,)
        1.48 times the median of the residuals below zero: stars that no catalogue holds only add light. Where
        fewer than one in five lie below, the model is too low as a whole, and all residuals count.
    """
    scale = np.full(residual.size, _MIN_RING_SCALE)
    for one in np.unique(ring):
        here = ring == one
        below = residual[here & (residual < 0)]
        counted = below if below.size > _MIN_BELOW * np.count_nonzero(here) else residual[here]
        scale[here] = max(_MIN_RING_SCALE, float(mad_sigma(counted)))
    return scale


def bin_star_pixels(pixels: StarPixels, prf: PrfModel) -> StarPixels:
    """Average the pixels in cells of radius and angle, half a knot spacing wide.

    Parameters
    ----------
    pixels : StarPixels
        The pixels.
    prf : PrfModel
        Gives the knots, and the coordinates in which the core is round.

    Returns
    -------
    StarPixels
        One entry per cell that holds a pixel, of a star of unit flux: the inverse-variance mean of
        the share of its star's light that each pixel holds, at the mean offset.
    """
    basis, bounds = prf.basis, np.unique(prf.basis.knots)
    r, phi = round_coordinates(pixels.dx, pixels.dy, prf.shear)
    edges = np.sort(np.concatenate([bounds, 0.5 * (bounds[1:] + bounds[:-1])]))
    ring = np.digitize(r, edges)
    sector = np.floor((phi / (2 * np.pi)) % 1.0 * 2 * basis.n_phi_knots)
    _, cell = np.unique(ring * 2 * basis.n_phi_knots + sector, return_inverse=True)
    weight = pixels.flux**2 / pixels.variance
    total = np.bincount(cell, weights=weight)

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(cell, weights=weight * values) / total

    n_cell = total.size
    return StarPixels(
        source=np.zeros(n_cell, np.int64),
        dx=mean(pixels.dx),
        dy=mean(pixels.dy),
        light=mean(pixels.light / pixels.flux),
        variance=1.0 / total,
        flux=np.ones(n_cell),
    )
