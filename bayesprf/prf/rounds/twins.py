"""Stars that no PRF tells apart, as one while the rounds go on."""

from dataclasses import replace

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.positions import PositionFit
from bayesprf.prf.rounds.light import find_light
from bayesprf.prf.scene import Scene
from bayesprf.prf.twins import Groups
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.sources import SourceTable

# Derived: closer than this, pixel, two stars look like one: the second moment of an equal pair grows by a quarter of
# the square of the distance, 0.016 pixel**2 here, 2 % of that of the narrowest PRF of these missions (0.9 pixel rms).
ONE_STAR_PIX = 0.25


def together(scene: Scene, groups: Groups) -> Scene:
    """Return the scene with one source per star, the brightest.

    Its catalogue flux is enough, as it only begins the fit: most rows this close are one star listed twice.
    """
    keep = np.zeros(scene.sources.n_source, bool)
    keep[groups.brightest] = True
    merged = scene.sources.select(keep)
    return replace(scene, sources=merged, pairs=build_pairs(scene.pixels, merged, scene.limit))


def apart(scene: Scene, groups: Groups, found: PrfFit, cut: float) -> PrfFit:
    """Return the fit with the sources of each star as the catalogue has them; they train nothing."""
    star = np.searchsorted(np.sort(groups.brightest), groups.brightest[groups.label])
    scene = scene if found.background is None else scene.without(found.background)
    scene = replace(scene, sources=replace(scene.sources, flux=_shares(scene.sources, groups)))
    shift = found.positions.shift[star]
    light = find_light(scene, found.prf, np.asarray(found.offset) + shift, scale=found.scale, cut=cut)
    matrix = light.prf.select(light.above)
    trained = found.pairs.select(found.training)
    learned = trained.source * trained.n_pixel + trained.pixel
    now = star[matrix.pairs.source] * matrix.pairs.n_pixel + matrix.pairs.pixel
    return replace(
        found,
        positions=PositionFit(shift, found.positions.std[star], found.positions.moved),
        flux=light.flux,
        matrix=matrix,
        training=np.isin(now, learned) & groups.alone[matrix.pairs.source],
        fixed_light=light.fixed,
        radius=found.radius[star],
        image=scene.image,
    )


def _shares(sources: SourceTable, groups: Groups) -> FloatArray:
    """Return the catalogue fluxes, those of the rows of one star scaled to the brightest of them, shape (n_source,)."""
    known = np.where(sources.has_flux, sources.flux, 0.0)
    total = np.bincount(groups.label, known)[groups.label]
    share = np.divide(known, total, out=np.ones_like(total), where=total > 0)
    return np.where(groups.alone | ~sources.has_flux, sources.flux, share * known[groups.brightest[groups.label]])
