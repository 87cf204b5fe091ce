"""How archives name and measure what a catalogue needs: one table, one record per archive."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bayesprf.arrays import Named
from bayesprf.checks import as_float
from bayesprf.errors import InputError
from bayesprf.instruments import KEPLER, TESS
from bayesprf.io.catalogs.columns import find_column
from bayesprf.results.columns import is_missing


@dataclass(frozen=True, slots=True)
class Position:
    """A pair of columns that give positions.

    Parameters
    ----------
    ra, dec : str
        Names of the columns.
    epoch : float, optional
        Julian year of the positions; None where it depends on the release.
    ra_unit : str
        Unit of the right ascension where the column carries none.
    """

    ra: str
    dec: str
    epoch: float | None = None
    ra_unit: str = "deg"


@dataclass(frozen=True, slots=True)
class Archive:
    """Columns of a catalogue as one archive exports it, the preferred first; case matters only between two that fit.

    Parameters
    ----------
    name : str
        What it is.
    ids : tuple of str
        Columns of names.
    positions : tuple of Position
        Columns of positions.
    motions : tuple of (str, str)
        Columns of proper motion, towards east with cos(dec), and north.
    motion_unit : str
        Unit of the motions where the columns carry none.
    marks : tuple of str
        Columns that must be there too, for archives whose other names are common ones.
    """

    name: str
    ids: tuple[str, ...]
    positions: tuple[Position, ...]
    motions: tuple[tuple[str, str], ...] = (("pmra", "pmdec"), ("pmRA", "pmDE"), ("pmRA*", "pmDE"))
    motion_unit: str = "mas / yr"
    marks: tuple[str, ...] = ()


_PLAIN = Position("ra", "dec")
_J2000 = (
    Position("RAJ2000", "DEJ2000", 2000.0),
    Position("_RAJ2000", "_DEJ2000", 2000.0),
    Position("RAdeg", "DEdeg", 2000.0),
)
_INPUT_CATALOG = (*_J2000, Position("ra", "dec", 2000.0))

# Sources: Gaia's data model; VizieR I/355, I/345, IV/38, IV/39, V/133, IV/34; TIC: Stassun et al. (2019), positions of
# epoch J2000; KIC of MAST: its schema, version 10, with kic_ra in hours and motions in arcsec / yr; header keywords:
# KDMC-10008 and the description of TESS's data products.
ARCHIVES: tuple[Archive, ...] = (
    Archive(
        "Gaia archive and X-Match",
        ("source_id", "designation"),
        (_PLAIN, Position("ra_epoch2000", "dec_epoch2000", 2000.0)),
    ),
    Archive(
        "Gaia of VizieR",
        (
            "Source",
            "DR3Name",
            "EDR3Name",
            "DR2Name",
            "GaiaDR3",
            "Gaia DR3",
            "GaiaEDR3",
            "GAIAEDR3_ID",
            "GaiaDR2",
            "Gaia DR2",
        ),
        (Position("RA_ICRS", "DE_ICRS"), *_J2000[:2], Position("_RA.icrs", "_DE.icrs", 2000.0)),
    ),
    Archive("TIC of MAST", ("ID", "TICID", "TIC"), _INPUT_CATALOG[::-1], marks=("Tmag",)),
    Archive("TIC of VizieR", ("TIC",), _INPUT_CATALOG),
    Archive(
        "ExoFOP",
        ("TIC ID", "EPIC ID", "KIC ID"),
        (Position("RA", "Dec", 2000.0),),
        motions=(("PM RA (mas/yr)", "PM Dec (mas/yr)"), ("PM RA", "PM Dec")),
    ),
    Archive(
        "KIC of MAST",
        ("kic_kepler_id",),
        (Position("kic_degree_ra", "kic_dec", 2000.0), Position("kic_ra", "kic_dec", 2000.0, "hourangle")),
        motions=(("kic_pmra", "kic_pmdec"),),
        motion_unit="arcsec / yr",
    ),
    Archive("KIC", ("KIC", "kepid", "Kepler_ID"), _INPUT_CATALOG),
    Archive("EPIC", ("EPIC", "epic_number", "epic_id"), (Position("k2_ra", "k2_dec", 2000.0), *_INPUT_CATALOG)),
    Archive("EPIC of VizieR", ("ID",), _INPUT_CATALOG, marks=("Kpmag",)),
    Archive(
        "headers of Kepler files",
        ("KEPLERID", "OBJECT", "id"),
        (Position("RA_OBJ", "DEC_OBJ", 2000.0),),
        motion_unit="arcsec / yr",
        marks=("KEPMAG", "RA_OBJ"),
    ),
    Archive(
        "headers of TESS files", ("TICID", "OBJECT", "id"), (Position("RA_OBJ", "DEC_OBJ", 2000.0),), marks=("RA_OBJ",)
    ),
)

# What any table may use, when no archive is recognised by names and positions together.
ANY = Archive(
    "any table",
    (
        *dict.fromkeys(one for archive in ARCHIVES for one in archive.ids if one != "ID"),
        "id", "name", "Name", "object", "star", "target", "2MASS", "TWOMASS", "_2MASS",
    ),
    (
        _PLAIN,
        Position("ra_deg", "dec_deg"),
        Position("RA_ICRS", "DE_ICRS"),
        Position("ra_icrs", "dec_icrs"),
        *_J2000,
        Position("raj2000", "decj2000", 2000.0),
        Position("RA_OBJ", "DEC_OBJ", 2000.0),
        Position("_RA.icrs", "_DE.icrs", 2000.0),
        Position("_RA", "_DE"),
    ),
    motions=(("pmra", "pmdec"), ("pmRA", "pmDE"), ("pmRA*", "pmDE"), ("pm_ra", "pm_dec"), ("pmra_cosdec", "pmdec"),
     ("pm_ra_cosdec", "pm_dec"), ("sy_pmra", "sy_pmdec")),
)  # fmt: skip

# Julian years of the positions of Gaia's releases, by how names and designations write these.
_RELEASES = (
    (re.compile(r"e?dr3", re.I), 2016.0),
    (re.compile(r"dr2", re.I), 2015.5),
    (re.compile(r"dr1", re.I), 2015.0),
)
_STATED_EPOCH = re.compile(r"\bEp(?:och)?\s*=?\s*J?([12]\d{3}(?:\.\d+)?)")


def recognise(columns: Named) -> Archive:
    """Return the archive that a table comes from.

    Parameters
    ----------
    columns : mapping of str to array-like
        The table.

    Returns
    -------
    Archive
        The first that has its marks, a column of positions and one of names of which every row has its own; else the
        first with names in every row; else `ANY`.
    """
    fitting = [one for one in ARCHIVES if _fits(columns, one)]
    unique = [one for one in fitting if find_names(columns, one, unique=True)]
    return next(iter([*unique, *fitting, ANY]))


def _fits(columns: Named, archive: Archive) -> bool:
    marks = [find_column(columns, (mark,)) for mark in archive.marks]
    marked = all(mark is not None and not is_missing(columns[mark]).all() for mark in marks)
    return marked and find_position(columns, archive) is not None and find_names(columns, archive) is not None


def find_names(columns: Named, archive: Archive, *, unique: bool = False) -> str | None:
    """Return the first column of names that has one in every row (each once, if `unique`), or None."""
    for name in archive.ids:
        found = find_column(columns, (name,))
        if found is not None and not is_missing(columns[found]).any() and not (unique and _repeats(columns[found])):
            return found
    return None


def find_position(columns: Named, archive: Archive) -> Position | None:
    """Return the first pair of position columns that a table has, under the names it uses, or None."""
    for one in archive.positions:
        ra, dec = find_column(columns, (one.ra,)), find_column(columns, (one.dec,))
        if ra is not None and dec is not None:
            return Position(ra, dec, one.epoch, one.ra_unit)
    return None


def find_motion(columns: Named, archive: Archive) -> tuple[str, str] | None:
    """Return the first pair of columns of proper motion that a table has, under the names it uses, or None."""
    for names in (*archive.motions, *ANY.motions):
        east, north = (find_column(columns, (name,)) for name in names)
        if east is not None and north is not None:
            return east, north
    return None


def find_epoch(columns: Named, position: Position, names: str | None) -> float | None:
    """Return the Julian year of positions, as the table states it or its release implies, or None.

    Parameters
    ----------
    columns : mapping of str to array-like
        The table.
    position : Position
        Its columns of positions.
    names : str, optional
        Its column of names.

    Returns
    -------
    float or None
    """
    column = columns[position.ra]
    meta = getattr(column, "meta", None) or {}
    stated = _STATED_EPOCH.search(f"{getattr(column, 'description', None) or ''} Epoch={meta.get('CoosysEpoch', '')}")
    if stated:
        return float(stated[1])
    if position.epoch is not None or names is None:
        return position.epoch
    designations = find_column(columns, ("designation", "DR3Name", "DR2Name"))
    texts = [names, *(str(columns[one][0]) for one in (names, designations) if one is not None)]
    return next((year for text in texts for release, year in _RELEASES if release.search(text)), None)


def _repeats(column: object) -> bool:
    values = np.asarray(column).tolist()
    return len(set(values)) < len(values)


@dataclass(frozen=True, slots=True)
class Band:
    """Where tables hold the fluxes of one band, the preferred first.

    Parameters
    ----------
    fluxes : tuple of str
        Columns of flux, on a linear scale; the first names the band.
    mags : tuple of str
        Columns of this band's magnitude that go with these fluxes.
    made : tuple of (str, float)
        Columns of magnitude from which to make a flux, and the magnitude of 1 electron / s.
    """

    fluxes: tuple[str, ...]
    mags: tuple[str, ...]
    made: tuple[tuple[str, float], ...] = field(repr=False)


_KEPLER_MAG = KEPLER.zero_flux_mag + 2.5 * float(np.log10(KEPLER.zero_flux))
_TESS_MAG = TESS.zero_flux_mag + 2.5 * float(np.log10(TESS.zero_flux))
_KEPLER = tuple((one, _KEPLER_MAG) for one in ("kepmag", "kic_kepmag", "Kpmag", "k2_kepmag", "Kep Mag", "kp"))
_TESS = tuple((one, _TESS_MAG) for one in ("Tmag", "tessmag", "TESS Mag"))
# Vega zero points of Gaia (E)DR3: Riello et al. (2021), A&A 649, A3, table 5.2 of the documentation; electron / s.
_G, _RP = 25.6873668671, 24.7478955012

BANDS: Mapping[str, Band] = {
    "phot_g_mean_flux": Band(
        ("phot_g_mean_flux", "FG"),
        ("phot_g_mean_mag", "Gmag"),
        (("phot_g_mean_mag", _G), *_KEPLER, *_TESS, ("Gmag", _G), ("GAIAmag", _G), ("Gaia Mag", _G)),
    ),
    "phot_rp_mean_flux": Band(
        ("phot_rp_mean_flux", "FRP"),
        ("phot_rp_mean_mag", "RPmag"),
        (("phot_rp_mean_mag", _RP), *_TESS, *_KEPLER, ("RPmag", _RP)),
    ),
}


def check_years(years: object, name: str) -> None:
    """Raise unless all years that are known lie between 1800 and 2200: epochs are Julian years, not dates."""
    known = as_float(years, name)[np.isfinite(as_float(years, name))]
    if known.size and (known.min() < 1800 or known.max() > 2200):
        raise InputError(
            f"{name}: expected Julian years as 2016.0, got {known[np.argmax(np.abs(known - 2000))]:g}; a Julian date JD"
            " is the year 2000 + (JD - 2451545) / 365.25"
        )
