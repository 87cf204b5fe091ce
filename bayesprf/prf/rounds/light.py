"""What each star gives to each pixel as the rounds go on."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.photometry.distant import distant_light
from bayesprf.photometry.fluxes import fit_image_flux
from bayesprf.prf.scene import Scene
from bayesprf.prf.star_pixels import StarPixels, gather_star_pixels
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import PrfModel
from bayesprf.scene.prf_matrix import PrfMatrix

# Cost: pairs below the flux cut still count as fixed light down to this share of it: half of it makes errors of 0.26 %
# to 0.24 %, twice to 0.35 % (docs/scripts/constants.py --truth plain).
_FIXED_SHARE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """What each star gives to each pixel, as of one round.

    Parameters
    ----------
    prf : PrfMatrix
        PRF of the pairs in which a star can matter, at present positions.
    flux : ndarray of float64, shape (n_source,)
        Fluxes in the image, electron / s; NaN without pixels.
    above : ndarray of bool, shape (n_pair,)
        Pairs above the flux cut: these are fitted, the others fixed.
    distant : ndarray of float64, shape (n_pixel,)
        Light of stars beyond the pairing distance, electron / s.
    """

    prf: PrfMatrix
    flux: FloatArray
    above: BoolArray
    distant: FloatArray

    @property
    def pairs(self) -> PairTable:
        """Pairs of the PRF."""
        return self.prf.pairs

    @property
    def model(self) -> FloatArray:
        """Light of each pair, shape (n_pair,), electron / s."""
        return self.prf.light(self.flux)

    def star_pixels(self, image: Image, chosen: BoolArray) -> StarPixels:
        """Return the pixels of some pairs, shape (n_pair,), other stars' light subtracted from an image."""
        return gather_star_pixels(self.prf, self.flux, image, fixed=self.distant, chosen=chosen)

    def fitted(self, saturated: BoolArray) -> PrfMatrix:
        """Return the PRF of the pairs above the cut in pixels that respond linearly."""
        return self.prf.select(self.above & ~saturated[self.pairs.pixel])

    @property
    def fixed(self) -> FloatArray:
        """Light that is not fitted: of pairs below the cut and of distant stars, shape (n_pixel,)."""
        below = np.where(self.above, 0.0, self.model)
        return self.distant + np.bincount(self.pairs.pixel, weights=below, minlength=self.pairs.n_pixel)


def find_light(
    scene: Scene, prf: PrfModel, shift: FloatArray, *, scale: float, cut: float, before: Light | None = None
) -> Light:
    """Evaluate the PRF where a star can matter, and solve the fluxes of the image above the cut.

    Parameters
    ----------
    scene : Scene
        Image, pairs and catalogue.
    prf : PrfModel
        The PRF of this round.
    shift : ndarray of float64, shape (n_source, 2)
        How far each star lies from its catalogue position, east and north, arcsec.
    scale : float
        electron / s per unit of catalogue flux.
    cut : float
        Flux in a pixel below which a star is not fitted, electron / s.
    before : Light, optional
        The light of a round whose PRF was nearly the same: its fluxes decide which pairs lie above the cut.

    Returns
    -------
    Light
    """
    expected = np.where(scene.known, scene.flux, np.nan) * scale
    ceiling = np.where(scene.known, expected, np.nanmedian(expected))
    near = scene.pairs.moved(shift)
    near = near.select(ceiling[near.source] * prf.envelope(near.r) > _FIXED_SHARE * cut)
    matrix = PrfMatrix.constant(near, prf.evaluate(near.dx, near.dy))
    core = scene.saturated[near.pixel] & (near.r < np.sqrt(prf.pixel_area))
    blooming = near.select(core).count_per_source() > 0

    def far_light(flux: FloatArray) -> FloatArray:
        # The scale, on which what is expected stands, rises where too much light of them is: fitted fluxes cap it.
        capped = np.where(blooming & (np.nan_to_num(flux) > 0), np.minimum(flux, expected), expected)
        return distant_light(scene.pixels, scene.sources, prf, flux=capped, limit=scene.limit, cut=_FIXED_SHARE * cut)

    distant = None if blooming.any() else far_light(expected)

    def split(flux: FloatArray) -> Light:
        bright = np.where(np.nan_to_num(flux) > 0, np.nan_to_num(flux), ceiling)
        return Light(matrix, flux, matrix.light(bright) > cut, distant if distant is not None else far_light(flux))

    if before is not None:
        return split(_image_flux(scene, split(before.flux), expected))
    light = split(np.nan_to_num(expected))
    for _ in range(2):
        light = split(_image_flux(scene, light, expected))
    return light


def solve_again(scene: Scene, light: Light) -> Light:
    """Solve the fluxes of an image from which another background was subtracted.

    Parameters
    ----------
    scene : Scene
        The image.
    light : Light
        Light before; the same pairs stay above the cut.

    Returns
    -------
    Light
    """
    return replace(light, flux=_image_flux(scene, light, light.flux))


def _image_flux(scene: Scene, light: Light, expected: FloatArray) -> FloatArray:
    """Solve the fluxes of the pairs above the cut in pixels that respond linearly, all other light subtracted."""
    image = replace(scene.image, flux=scene.image.flux - light.fixed)
    return fit_image_flux(light.fitted(scene.saturated), image, expected=expected)
