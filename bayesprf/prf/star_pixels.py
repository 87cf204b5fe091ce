"""Pixels that one star lights, the light of all others subtracted: what the PRF is learned from."""

from dataclasses import dataclass

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.scene.image import Image
from bayesprf.scene.prf import LN10
from bayesprf.scene.prf_matrix import PrfMatrix


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
