"""Whether a catalogue belongs to the pixels: on the same piece of sky, every star once."""

from collections.abc import Callable

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import DataWarning, InputError, warn
from bayesprf.scene.axes import check_grid
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import ARCSEC_PER_DEG, close_pairs, format_angle, nearest, unit_vectors
from bayesprf.scene.sources import SourceTable

# Rows closer than this are one star, arcsec: positions printed with six decimals of a degree err by up to 2.5 mas per
# axis, so that two prints of one star differ by up to 7; Gaia DR3 lists no two stars within 0.18 arcsec (Lindegren et
# al. 2021), and the PRF of these missions, 6 to 40 arcsec wide, is not known to a thousandth.
SAME_PLACE = 0.01
# Definition: a catalogue belongs to the pixels if one of its stars lies within so many pixels of one.
_REACH_PIX = 10.0
# Definition: a file holds a star if one lies within so many pixels of one of its own: pixels of two files belong to the
# first.
_EDGE_PIX = 2.0
# Shown: files or pairs of stars that a message names.
_MAX_NAMED = 3


def check_placement(pixels: PixelTable, sources: SourceTable) -> None:
    """Raise unless some star lies on or near the pixels.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    sources : SourceTable
        The catalogue.

    Raises
    ------
    InputError
        If no star lies within ten pixels, naming how far away they are, and what the positions may be instead; or if
        the pixels' own positions are no grid.

    Warns
    -----
    DataWarning
        If some files of a stack hold no star.
    """
    check_grid(pixels)
    _, distance = nearest(sources.ra_deg, sources.dec_deg, pixels.ra_deg, pixels.dec_deg)
    reach = _REACH_PIX * pixels.instrument.pixel_scale
    if not np.any(distance <= reach):
        raise InputError(_describe_miss(pixels, sources, distance, reach))
    _warn_of_empty_files(pixels, sources)


def _describe_miss(pixels: PixelTable, sources: SourceTable, distance: FloatArray, reach: float) -> str:
    ra_deg, dec_deg = _center(pixels)
    best = int(np.argmin(distance))
    return (
        f"sources: expected stars on the pixels at RA {ra_deg:.4f}, Dec {dec_deg:+.4f} degree, but the nearest of"
        f" {sources.n_source}, {sources.source_id[best]!r} at RA {sources.ra_deg[best]:.4f}, Dec"
        f" {sources.dec_deg[best]:+.4f}, lies {format_angle(distance[best])} away (median"
        f" {format_angle(float(np.median(distance)))}); {_suggest(pixels, sources, reach)}"
    )


def _center(pixels: PixelTable) -> tuple[float, float]:
    x, y, z = unit_vectors(pixels.ra_deg, pixels.dec_deg).mean(axis=0)
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


_MISTAKES: tuple[tuple[str, Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]], ...] = (
    ("the right ascensions are hours: multiply them by 15", lambda ra, dec: (15.0 * ra, dec)),
    ("right ascension and declination are exchanged", lambda ra, dec: (dec, ra)),
    ("the positions are radians: convert them to degree", lambda ra, dec: (np.degrees(ra), np.degrees(dec))),
)


def _suggest(pixels: PixelTable, sources: SourceTable, reach: float) -> str:
    """Return which common mistake would explain that no star lies on the pixels."""
    for words, change in _MISTAKES:
        ra_deg, dec_deg = change(sources.ra_deg, sources.dec_deg)
        _, distance = nearest(ra_deg, dec_deg, pixels.ra_deg, pixels.dec_deg)
        if np.any(distance <= reach):
            return words
    return "give the catalogue of this field, with ra and dec in degree"


def _warn_of_empty_files(pixels: PixelTable, sources: SourceTable) -> None:
    files = list(pixels.meta.get("files", ()))
    if len(files) < 2:
        return
    _, distance = nearest(pixels.ra_deg, pixels.dec_deg, sources.ra_deg, sources.dec_deg)
    lit = pixels.stamp[distance <= _EDGE_PIX * pixels.instrument.pixel_scale]
    empty = np.setdiff1d(np.unique(pixels.stamp), lit)
    if empty.size:
        named = ", ".join(str(files[one]) for one in empty[:_MAX_NAMED] if one < len(files))
        warn(
            f"the catalogue has no star on {empty.size} of {len(files)} files ({named}"
            f"{', ...' if empty.size > _MAX_NAMED else ''}): their light is fitted by nothing",
            DataWarning,
        )


def warn_of_twins(sources: SourceTable) -> None:
    """Warn if two stars lie closer together than data can tell, but not at the same place.

    Parameters
    ----------
    sources : SourceTable
        The catalogue.

    Warns
    -----
    DataWarning
        If there are such rows, naming them. Two at exactly the same place share the light evenly, and are flagged in
        the results.
    """
    pairs, distance = find_twins(sources, SAME_PLACE)
    near = distance > 0.0
    if near.any():
        warn(
            f"{int(near.sum())} pairs of stars lie within {SAME_PLACE:g} arcsec, closer than any data can separate:"
            f" {_describe_pairs(sources, pairs[near], distance[near])}; only their summed flux is measured, so keep one"
            " row of each star",
            DataWarning,
        )


def merge_twins(sources: SourceTable, limit: float = SAME_PLACE) -> SourceTable:
    """Keep one row of each star that is listed more than once.

    Parameters
    ----------
    sources : SourceTable
        The catalogue.
    limit : float
        Distance below which two rows are one star, arcsec; 0 keeps all rows.

    Returns
    -------
    SourceTable
        Of rows closer together the first whose flux is known is kept.

    Warns
    -----
    DataWarning
        If rows are left out, naming them.
    """
    pairs, distance = find_twins(sources, limit)
    if not pairs.size:
        return sources
    keep, known = np.ones(sources.n_source, bool), sources.has_flux
    for first, second in pairs:
        if keep[first] and keep[second]:
            keep[first if known[second] and not known[first] else second] = False
    warn(
        f"{int((~keep).sum())} of {keep.size} rows of the catalogue lie within {limit:g} arcsec of another, closer than"
        f" any data can separate, and were left out: of {_describe_pairs(sources, pairs, distance)} one row is kept;"
        " min_separation=0 keeps all",
        DataWarning,
    )
    return sources.select(keep)


def find_twins(sources: SourceTable, limit: float) -> tuple[IntArray, FloatArray]:
    """Return rows closer together than a limit.

    Parameters
    ----------
    sources : SourceTable
        The catalogue.
    limit : float
        Largest distance, arcsec; 0 finds none.

    Returns
    -------
    pairs : ndarray of int64, shape (n_pair, 2)
        Their rows.
    distance : ndarray of float64, shape (n_pair,)
        How far apart they are, arcsec; 0 where the positions are the same to the last digit.
    """
    if limit <= 0.0:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    pairs = close_pairs(sources.ra_deg, sources.dec_deg, limit)
    first, second = pairs.T
    cosine = np.cos(np.radians(sources.dec_deg[first]))
    east = ((sources.ra_deg[first] - sources.ra_deg[second] + 180.0) % 360.0 - 180.0) * cosine
    return pairs, np.hypot(east, sources.dec_deg[first] - sources.dec_deg[second]) * ARCSEC_PER_DEG


def _describe_pairs(sources: SourceTable, pairs: IntArray, distance: FloatArray) -> str:
    named = [
        f"{sources.source_id[one]!r} and {sources.source_id[other]!r} (rows {one} and {other}, {apart:.2g} arcsec)"
        for (one, other), apart in zip(pairs[:_MAX_NAMED], distance[:_MAX_NAMED], strict=True)
    ]
    return ", ".join(named) + (f" and {len(pairs) - _MAX_NAMED} pairs more" if len(pairs) > _MAX_NAMED else "")
