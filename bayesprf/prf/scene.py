"""What a fit of the PRF looks at, and on what scale its catalogue is."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.photometry.background import ImageBackground
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.scene.sources import SourceTable
from bayesprf.stats import weighted_median


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What the shape fit looks at: one image of the pixels, the stars and their pairs.

    Parameters
    ----------
    pixels, sources : PixelTable, SourceTable
        Pixels and catalogue.
    pairs : PairTable
        Near pairs at catalogue positions.
    limit : float
        Distance within which pairs were made, arcsec.
    image : Image
        The image, its background subtracted.
    background : ImageBackground, optional
        That background, as known so far; None where there is none to be fitted.
    basis : PolarBasis, optional
        Columns of log10 PRF that are asked for; None leaves them to the fit.
    """

    pixels: PixelTable
    sources: SourceTable
    pairs: PairTable
    limit: float
    image: Image
    background: ImageBackground | None = None
    basis: PolarBasis | None = None

    @property
    def flux(self) -> FloatArray:
        """Catalogue fluxes on any common scale, shape (n_source,); NaN, zero or negative means unknown."""
        return self.sources.flux

    @property
    def known(self) -> BoolArray:
        """Whether the catalogue flux is usable, shape (n_source,)."""
        return self.sources.has_flux

    @property
    def saturated(self) -> BoolArray:
        """Pixels that do not respond linearly, and those that charge spills to, shape (n_pixel,)."""
        return self.pixels.spilled

    def without(self, found: ImageBackground) -> "Scene":
        """Return the scene with another background subtracted from its image."""
        more = found.light if self.background is None else found.light - self.background.light
        left = self.image.flux - np.where(self.image.ivar > 0, more, 0.0)
        return replace(self, image=replace(self.image, flux=left), background=found)


def catalog_scale(scene: Scene, prf: PrfMatrix, fixed: FloatArray | float = 0.0) -> float:
    """Return the median of the light in the pixels of each star over that which the catalogue predicts there.

    Light that is `fixed`, that of distant stars, counts as neither. Both are weighted by the PRF, and no flux is
    fitted: stars that the data cannot tell apart, or that lie off the pixels, whose fitted fluxes may be anything,
    share what is there. Stars weigh as the square root of the predicted light.
    """
    pairs, values = prf.pairs, prf.values
    predicted = np.where(scene.known, scene.flux, 0.0)[pairs.source] * values
    pixel = np.bincount(pairs.pixel, weights=predicted, minlength=pairs.n_pixel)
    seen = (scene.image.ivar > 0) & ~scene.saturated
    weight = np.where(seen[pairs.pixel], values, 0.0)
    found, expected = (
        np.bincount(pairs.source, weights=weight * image[pairs.pixel], minlength=pairs.n_source)
        for image in (scene.image.flux - fixed, pixel)
    )
    good = scene.known & (expected > 0) & (found > 0)
    return float(weighted_median(found[good] / expected[good], np.sqrt(expected[good]))) if good.any() else 1.0
