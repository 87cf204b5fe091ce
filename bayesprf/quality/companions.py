"""Stars close to listed ones that the catalogue lacks: in their cores, or in their place."""

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.flags import QualityFlag
from bayesprf.prf.unlisted.search import CORE_PIX, UnlistedStar
from bayesprf.quality.record import Finding
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.scene.pairs import offsets
from bayesprf.scene.sources import SourceTable


def outshone(left: MeanResiduals, sources: SourceTable, added: BoolArray) -> FloatArray:
    """Return the flux of the brightest star that the catalogue lacks close to each listed one, if it is brighter.

    Parameters
    ----------
    left : MeanResiduals
        The fit.
    sources : SourceTable
        Its sources.
    added : ndarray of bool, shape (n_source,)
        Those that the image showed and the catalogue lacks.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        0 where there is none within two pixels that is brighter, electron / s.

    Notes
    -----
    Where a catalogue's position is of another epoch, or its flux is far too low, the light is told as another star's,
    and the listed one gets little of it, with the small error of a flux that is well known.
    """
    beside = left.prf.joint.found
    own = [(sources.select(added), left.flux[added])] if added.any() else []
    near, brightest = CORE_PIX * np.sqrt(left.prf.prf.pixel_area), np.zeros(added.size)
    for found, flux in (*own, *([] if beside is None else [(beside, beside.flux)])):
        star, other = (one.ravel() for one in np.indices((added.size, found.n_source)))
        place = found.ra_deg[other], found.dec_deg[other], sources.ra_deg[star], sources.dec_deg[star]
        takes = (np.hypot(*offsets(*place)) < near) & (flux[other] > left.flux[star]) & ~added[star]
        brightest = np.maximum(brightest, np.where(takes, flux[other], 0.0).reshape(added.size, -1).max(axis=1))
    return brightest


def name_outshone(brightest: FloatArray, left: MeanResiduals) -> list[Finding]:
    """Return what is said of listed stars close to which a brighter one was found: `outshone`."""
    sources = brightest > 0.0
    if not sources.any():
        return []
    sentence = (
        f"within two pixels of {int(sources.sum())} sources lie brighter stars that the catalogue lacks: these may be"
        " they, of another epoch, or fainter in it than they are"
    )
    cure = "check epoch and proper motions of the catalogue, and its fluxes"
    return [Finding(QualityFlag.POSITION_OFF, sources, left.effect(brightest, sources), sentence, cure)]


def name_cores(
    sources: BoolArray, star: UnlistedStar | None, left: MeanResiduals, measured: BoolArray
) -> list[Finding]:
    """Return what is said of light in a star's core that is of no star listed; the PRF of all others may follow it."""
    if star is None:
        return []
    place = f"RA {star.ra_deg:.5f} Dec {star.dec_deg:+.5f} deg"
    sentence = (
        f"{star.flux:.3g} electron / s near {place}, within two pixels of {int(sources.sum())} sources, are light that"
        " no PRF like those of the instrument explains: a companion that the catalogue lacks, or another PRF"
    )
    cure = "add the companion to the catalogue, or give the PRF of that place with prf="
    effect, others = left.effect(np.full(sources.size, star.flux), sources), measured & ~sources
    found = [Finding(QualityFlag.UNCATALOGUED_LIGHT, sources, effect, sentence, cure)]
    if others.any():
        followed = f"the PRF may follow the light near {place}, in the core of a star"
        found.append(Finding(QualityFlag.POOR_PRF, others, 1.0, followed, cure))
    return found
