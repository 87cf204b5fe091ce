"""Light of bright stars beyond the distance at which pixels are paired with them."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf import PrfModel
from bayesprf.scene.sources import SourceTable

# Accuracy: farther than this many times the pairing distance no light is followed.
_MAX_STRETCH = 4.0
# Cost: so far out light is smooth: it is evaluated at the centres of cells of this many pixels a side, twice as many in
# each class of radius. One pixel a side makes errors of 0.26 % to 0.24 % (docs/scripts/constants.py --truth plain),
# four times as slowly.
_CELL = 2
# Rounding: pairs are searched along chords of the sphere, which differ from offsets by less than this.
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
    Stars are taken in classes of radius, each twice as wide as the one before, so that few stars are
    paired with many pixels.
    """
    light = np.zeros(pixels.n_pixel)
    flux, inner, side = np.nan_to_num(flux), limit, _CELL
    bright = flux * prf.envelope(np.array([inner]))[0] > cut
    while bright.any() and 2.0 * inner <= _MAX_STRETCH * limit:
        cells, member = _coarsen(pixels, side)
        pairs = build_pairs(cells, sources.select(bright), 2.0 * inner * _MARGIN)
        pairs = pairs.select((pairs.r > inner) & (pairs.r <= 2.0 * inner))
        values = flux[bright][pairs.source] * prf.evaluate(pairs.dx, pairs.dy)
        light += np.bincount(pairs.pixel, weights=np.where(values > cut, values, 0.0), minlength=cells.n_pixel)[member]
        inner, side = 2.0 * inner, 2 * side
        bright = flux * prf.envelope(np.array([inner]))[0] > cut
    return light


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Centres of cells of pixels on the sky, degree."""

    ra_deg: FloatArray
    dec_deg: FloatArray

    @property
    def n_pixel(self) -> int:
        return int(self.ra_deg.size)


def _coarsen(pixels: PixelTable, side: int) -> tuple[_Cells, IntArray]:
    """Gather pixels in square cells; return the mean positions of these, and the cell of each pixel."""
    cell = np.stack([np.floor(pixels.row / side), np.floor(pixels.column / side)], axis=1)
    _, first, member, count = np.unique(cell, axis=0, return_index=True, return_inverse=True, return_counts=True)
    member = member.ravel()
    east = (pixels.ra_deg - pixels.ra_deg[first][member] + 180.0) % 360.0 - 180.0
    ra = pixels.ra_deg[first] + np.bincount(member, weights=east) / count
    return _Cells(ra, np.bincount(member, weights=pixels.dec_deg) / count), member
