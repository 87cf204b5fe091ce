"""Light of bright stars beyond the distance at which pixels are paired with them."""

from dataclasses import replace

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.models.prf import PrfModel
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable

# Farther than this many times the pairing distance no light is followed.
_MAX_STRETCH = 4.0
# Pairs are searched along chords of the sphere, which differ from offsets by less than this.
_MARGIN = 1.001


def distant_light(
    pixels: PixelTable, sources: SourceTable, prf: PrfModel, *, flux: FloatArray, limit: float, cut: float
) -> FloatArray:
    """Sum the light that stars farther than the pairing distance put into each pixel.

    Parameters
    ----------
    pixels, sources : PixelTable, SourceTable
        Where pixels and stars are.
    prf : PrfModel
        The PRF; its wing is what matters here.
    flux : ndarray of float64, shape (n_source,)
        Fluxes, electron / s; NaN counts as dark.
    limit : float
        Pairing distance, arcsec.
    cut : float
        Light of a star in a pixel below which it is not followed, electron / s.

    Returns
    -------
    ndarray of float64, shape (n_pixel,)
        electron / s.

    Notes
    -----
    Stars are taken in classes of reach, each twice as wide as the one before, so that few stars are
    paired with many pixels.
    """
    light = np.zeros(pixels.n_pixel)
    flux = np.nan_to_num(flux)
    inner, outer = limit, 2.0 * limit
    bright = flux * prf.envelope(np.array([inner]))[0] > cut
    while bright.any() and outer <= _MAX_STRETCH * limit:
        pairs = build_pairs(pixels, _subset(sources, bright), outer * _MARGIN)
        pairs = pairs.select((pairs.r > inner) & (pairs.r <= outer))
        values = flux[bright][pairs.source] * prf.evaluate(pairs.dx, pairs.dy)
        light += np.bincount(pairs.pixel, weights=np.where(values > cut, values, 0.0), minlength=pixels.n_pixel)
        inner, outer = outer, 2.0 * outer
        bright = flux * prf.envelope(np.array([inner]))[0] > cut
    return light


def _subset(sources: SourceTable, chosen: FloatArray) -> SourceTable:
    index = np.flatnonzero(chosen)
    return replace(
        sources,
        source_id=tuple(sources.source_id[i] for i in index),
        ra_deg=sources.ra_deg[index],
        dec_deg=sources.dec_deg[index],
        flux=sources.flux[index],
        mag=sources.mag[index],
        columns={},
    )
