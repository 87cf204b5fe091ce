"""Findings that touch all stars of an image: a bent sky, extended light, a catalogue that ends early or lies off."""

import numpy as np

from bayesprf.arrays import BoolArray
from bayesprf.flags import QualityFlag
from bayesprf.photometry.fluxes import LOW_PSF_FRACTION
from bayesprf.prf.unlisted.peaks import lacks_most
from bayesprf.quality.record import Finding
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.settings import MAX_BACKGROUND_ORDER

# Derived: a circle of this radius, pixel, holds 12.6 pixels on average; a Moffat profile of 3 pixels full width at half
# maximum has half of its light in it, one of 2 pixels, wider than those of these missions, 71 %.
_INSIDE_PIX, _N_INSIDE = 2.0, 12


def name_bending_sky(order: int, bend: str, *, sources: BoolArray, effect: float) -> Finding:
    """Return what is said of a sky that goes on at an order beyond its own, by `bend` electron / s."""
    sentence = f"the sky is not as flat as its order in background has it: it bends by {bend} electron / s"
    cure = f"leave the order out, background='image', or give a higher one, Background('image', {order})"
    cure = "fit smaller parts of the image" if order > MAX_BACKGROUND_ORDER else cure
    return Finding(QualityFlag.SKY_LEFT, sources, effect, sentence, cure)


def name_crowd(left: MeanResiduals, sources: BoolArray) -> list[Finding]:
    """Return what is said where stars that the catalogue lacks shine everywhere, by more than noise."""
    joint = left.prf.joint
    if joint.found is not None or not lacks_most(joint):
        return []
    sentence = (
        f"stars that the catalogue lacks light all pixels, by {joint.hyper.unlisted:.3g} electron / s more or less"
        " than in the mean: that is more than noise, and bright stars may take it for their wings"
    )
    return [Finding(QualityFlag.UNCATALOGUED_LIGHT, sources, 1.0, sentence, "add fainter stars to the catalogue")]


def name_extended(left: MeanResiduals, sources: BoolArray) -> list[Finding]:
    """Return what is said where light of no star and no flat sky is fitted along: its form is a guess."""
    extended = left.prf.joint.extended
    if extended is None:
        return []
    light, pixels = extended.light, left.pixels
    most = int(np.argmax(np.where(left.ivar > 0, light, -np.inf)))
    taken = np.abs(np.asarray(left.gain @ light))
    effect = float(np.max(taken[sources] / np.maximum(left.error[sources], 1e-300), initial=1.0))
    sentence = (
        f"light of no star and no flat sky, as a galaxy or a nebula has, up to {light[most]:.3g} electron / s near RA"
        f" {pixels.ra_deg[most]:.5f} Dec {pixels.dec_deg[most]:+.5f} deg, is fitted along as round or oval spots, and"
        " what the PRF took of it is in no error"
    )
    cure = "subtract it before, or give the PRF of that place with prf="
    return [Finding(QualityFlag.EXTENDED_LIGHT, sources, effect, sentence, cure)]


def name_strangers(left: MeanResiduals, added: BoolArray, sources: BoolArray) -> list[Finding]:
    """Return what is said where most of the light is of stars that the catalogue lacks: it may not be of this place.

    `added` tells the stars, (n_source,), that were found in the image and have fluxes of their own.
    """
    light = np.maximum(left.flux, 0.0) * np.minimum(left.caught, 1.0)
    beside = left.prf.joint.found
    found = float(light[added].sum()) + (0.0 if beside is None else float(np.maximum(beside.flux, 0.0).sum()))
    listed = float(light[~added].sum())
    if found <= listed:
        return []
    sentence = (
        f"{100.0 * found / (found + listed):.0f} % of the starlight is of stars that the catalogue lacks: its positions"
        " may be off, of another epoch, or of another field"
    )
    return [Finding(QualityFlag.POSITION_OFF, sources & ~added, 1.0, sentence, "check its positions and their epoch")]


def name_wide(left: MeanResiduals) -> list[Finding]:
    """Return what is said of a PRF so wide that stars well inside the pixels have less than half of their light there.

    It is none.
    """
    pairs, side = left.pairs, float(np.sqrt(left.prf.prf.pixel_area))
    near = (np.hypot(pairs.dx, pairs.dy) < _INSIDE_PIX * side) & (left.ivar[pairs.pixel] > 0)
    inside = np.bincount(pairs.source[near], minlength=pairs.n_source) >= _N_INSIDE
    sources = inside & np.isfinite(left.prf.flux) & (left.caught < LOW_PSF_FRACTION)
    if not sources.any():
        return []
    sentence = (
        f"the PRF is so wide that {int(sources.sum())} stars well inside the pixels have less than half of their light"
        " there"
    )
    cure = "check the positions of the catalogue, and fit a sky along, background='stamp'"
    return [Finding(QualityFlag.POOR_PRF, sources, left.effect(left.flux, sources), sentence, cure)]
