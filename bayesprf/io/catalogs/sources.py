"""Whatever stands for a catalogue -> SourceTable: the one door for Machine, `bayesprf.fit`, batch and command line."""

import os
from collections.abc import Callable, Mapping
from inspect import signature

from bayesprf.arrays import Named, NamedDict
from bayesprf.checks import did_you_mean
from bayesprf.errors import InputError
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.io.catalogs.detect import add_missing, detect_sources, sources_from_targets
from bayesprf.io.catalogs.epoch import julian_year_of
from bayesprf.io.catalogs.gaia import query_gaia
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.placement import check_placement, warn_of_twins
from bayesprf.scene.plausible import question_fluxes
from bayesprf.scene.sources import SourceTable

# Words that stand for a catalogue, and where it comes from.
MADE_FROM_PIXELS: Mapping[str, Callable[..., SourceTable]] = {
    "targets": sources_from_targets,
    "detect": detect_sources,
    "gaia": query_gaia,
}


def read_sources(
    catalog: object, pixels: PixelTable, *, detect_missing: bool = False, **choices: object
) -> SourceTable:
    """Return the sources of whatever stands for a catalogue, with their own epoch and bands.

    Parameters
    ----------
    catalog : SourceTable, path-like, pandas.DataFrame, astropy.table.Table, "targets", "detect" or "gaia"
        A catalogue, as `read_catalog` takes it; the stars that the files' headers name; those that the mean image
        shows (`detect_sources`); or those of Gaia (`query_gaia`).
    pixels : PixelTable
        The data.
    detect_missing : bool
        Add the stars of the mean image that the catalogue lacks (`add_missing`).
    **choices
        Options of the function that reads or makes the catalogue.

    Returns
    -------
    SourceTable
        At the epoch of the data if stars were added.

    Raises
    ------
    FileError
        If a file cannot be read.
    InputError
        If it is no catalogue.
    """
    word = str(os.fspath(catalog)) if isinstance(catalog, str | os.PathLike) else ""
    if isinstance(catalog, SourceTable):
        if choices:
            raise InputError(
                f"catalog: expected a file or table to read with {', '.join(choices)}, got a SourceTable; give these"
                " options to read_catalog"
            )
        sources = catalog
    elif word in MADE_FROM_PIXELS:
        sources = MADE_FROM_PIXELS[word](pixels, **_accepted(word, choices))
    else:
        _check_word(word)
        options: NamedDict = choices
        sources = read_catalog(catalog, **options)
    return add_missing(pixels, place_sources(sources, pixels)) if detect_missing else sources


def _check_word(word: str) -> None:
    """Raise if what came is a word that is nearly one of those that stand for a catalogue, and no file."""
    hint = did_you_mean(word, MADE_FROM_PIXELS)
    if hint and not os.path.exists(word):
        raise InputError(
            f"catalog: expected a table, a file or one of {', '.join(MADE_FROM_PIXELS)}, got {word!r}{hint}"
        )


def _accepted(word: str, choices: Named) -> Named:
    """Return the options, or raise if the function behind the word does not know one of them."""
    known = [name for name in signature(MADE_FROM_PIXELS[word]).parameters if name != "pixels"]
    unknown = [name for name in choices if name not in known]
    if unknown:
        raise InputError(
            f"{unknown[0]}: expected a catalogue file or table, which this option reads, got catalog={word!r}, whose"
            f" options are {', '.join(known) or 'none'}"
        )
    return choices


def place_sources(sources: SourceTable, pixels: PixelTable) -> SourceTable:
    """Return the sources at the epoch of the data, with fluxes in the band that the mission recommends.

    Parameters
    ----------
    sources : SourceTable
        The catalogue.
    pixels : PixelTable
        The data.

    Returns
    -------
    SourceTable
    """
    if pixels.instrument.time_zero_jd:
        sources = sources.at_epoch(julian_year_of(pixels))
    return sources.in_band(pixels.instrument.flux_column)


def as_sources(catalog: object, pixels: PixelTable, **choices: object) -> SourceTable:
    """Return the sources of whatever stands for a catalogue, where and as bright as the pixels see them.

    Parameters
    ----------
    catalog : SourceTable, path-like, pandas.DataFrame, astropy.table.Table, "targets", "detect" or "gaia"
        As for `read_sources`.
    pixels : PixelTable
        The data: give the epoch and the band, and are checked to lie where the stars are.
    **choices
        As for `read_sources`.

    Returns
    -------
    SourceTable
        At the epoch of the data, with fluxes in the band that the mission recommends where `choices` name no other.

    Raises
    ------
    InputError
        If it is no catalogue, or no star lies on or near the pixels.

    Warns
    -----
    DataWarning
        As for `read_catalog`; if two stars are closer than data can tell, some files of a stack hold no star, or
        fluxes are not on the scale of the others.
    """
    options: NamedDict = choices
    sources = place_sources(read_sources(catalog, pixels, **options), pixels)
    warn_of_twins(sources)
    check_placement(pixels, sources)
    return question_fluxes(pixels, sources)
