"""Gaia's archive -> SourceTable."""

import hashlib
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.checks import check_positive, checked
from bayesprf.errors import DataWarning, FileError, InputError, MissingDependencyError, warn
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.io.files import atomic_path, cache_directory
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import ARCSEC_PER_DEG, nearest
from bayesprf.scene.sources import SourceTable

if TYPE_CHECKING:
    from astroquery.gaia import GaiaClass

_COLUMNS = (
    "source_id, ra, dec, ref_epoch, pmra, pmdec, parallax, ruwe, phot_g_mean_flux, phot_g_mean_mag,"
    " phot_bp_mean_mag, phot_rp_mean_flux, phot_rp_mean_mag"
)


@checked
def query_gaia(
    pixels: PixelTable,
    *,
    magnitude_limit: float = 19.0,
    margin: float | None = None,
    table: str = "gaiadr3.gaia_source",
    flux_column: str | None = None,
) -> SourceTable:
    """Ask Gaia's archive for the stars on and around the pixels; the answer is kept on disk, and used again offline.

    Parameters
    ----------
    pixels : PixelTable
        Data: give the field, and the epoch to which positions are carried.
    magnitude_limit : float
        Faintest G magnitude.
    margin : float, optional
        Stars farther than this from every pixel are left out, arcsec; by default 10 pixels.
    table : str
        Table of the archive.
    flux_column : str, optional
        Column of the flux estimate; by default the one that `pixels.instrument` recommends.

    Returns
    -------
    SourceTable

    Raises
    ------
    MissingDependencyError
        If astroquery is not installed, and the answer is not kept.
    FileError
        If the archive does not answer, and the answer is not kept.
    InputError
        If no star is found, or `margin` is not positive.

    See Also
    --------
    fetch_gaia : The rows of the archive, to save as a file.

    Examples
    --------
    >>> import bayesprf as bp
    >>> sources = bp.query_gaia(pixels, magnitude_limit=18.0)  # doctest: +SKIP
    """
    rows = fetch_gaia(pixels, magnitude_limit=magnitude_limit, margin=margin, table=table)
    epoch = pixels if pixels.instrument.time_zero_jd else None
    return read_catalog(rows, epoch=epoch, flux_column=flux_column or pixels.instrument.flux_column)


@checked
def fetch_gaia(
    pixels: PixelTable,
    *,
    magnitude_limit: float = 19.0,
    margin: float | None = None,
    table: str = "gaiadr3.gaia_source",
) -> Table:
    """Return the rows of Gaia's archive for the stars on and around the pixels.

    Parameters
    ----------
    pixels, magnitude_limit, margin, table
        As for `query_gaia`.

    Returns
    -------
    astropy.table.Table
        Positions at their own epoch, `ref_epoch`.

    Raises
    ------
    MissingDependencyError, FileError, InputError
        As for `query_gaia`.

    Notes
    -----
    Answers are kept in the directory that the environment variable BAYESPRF_CACHE names, or in the user's cache
    directory; the file's name is the checksum of the query. Removing a file there asks the archive anew.
    """
    margin = 10.0 * pixels.instrument.pixel_scale if margin is None else margin
    check_positive(margin, "margin")
    rows = _answer(build_query(pixels, magnitude_limit, margin, table=table))
    near = _is_near(pixels, np.asarray(rows["ra"], np.float64), np.asarray(rows["dec"], np.float64), margin)
    if not near.any():
        raise InputError(
            f"magnitude_limit: expected stars brighter than {magnitude_limit} within {margin} arcsec of the pixels,"
            f" found none in {table}; raise magnitude_limit"
        )
    return rows[near]


def write_rows(rows: Table, path: Path) -> Path:
    """Write rows of the archive as a catalogue file.

    Parameters
    ----------
    rows : astropy.table.Table
        As `fetch_gaia` returns them.
    path : Path
        File to write, replaced if it exists; its ending gives the format.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the ending is not known.
    FileError
        If the directory does not exist.
    """
    formats = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits", ".vot": "votable", ".xml": "votable"}
    if path.suffix.lower() not in formats:
        raise InputError(f"output: expected a file that ends in {', '.join(formats)}, got {path.name!r}")
    with atomic_path(path) as temporary:
        rows.write(temporary, format=formats[path.suffix.lower()], overwrite=True)
    return path


def _answer(query: str) -> Table:
    """Return the kept answer to a query, or ask the archive and keep what it says."""
    kept = cache_directory() / f"gaia-{hashlib.sha256(query.encode()).hexdigest()[:24]}.ecsv"
    if kept.is_file():
        try:
            return Table.read(kept, format="ascii.ecsv")
        except (ValueError, OSError) as error:
            warn(f"{kept} cannot be read ({error}) and is asked for again", DataWarning)
    rows = _ask(query)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(kept) as temporary:
            rows.write(temporary, format="ascii.ecsv", overwrite=True)
    except OSError as error:
        warn(
            f"Gaia's answer is not kept, because {kept.parent} cannot be written ({error.strerror or error}); set"
            " BAYESPRF_CACHE to a directory that can",
            DataWarning,
        )
    return rows


def _ask(query: str) -> Table:
    try:
        return _archive().launch_job_async(query).get_results()
    except ImportError:
        raise
    except (OSError, HTTPException) as error:  # no network, no such server, refused or broken off
        reason = " ".join(str(error).split())[:120]
        raise FileError(
            f"query_gaia: expected an answer of Gaia's archive, got none ({reason}); ask once"
            f" where there is internet (the answer is kept in {cache_directory()}), or give a catalogue,"
            " catalog='targets' or catalog='detect'"
        ) from error


def build_query(pixels: PixelTable, magnitude_limit: float, margin: float, *, table: str) -> str:
    """Return the ADQL query for a box in right ascension and declination around the pixels.

    Parameters
    ----------
    pixels : PixelTable
        Data that give the field.
    magnitude_limit : float
        Faintest G magnitude.
    margin : float
        Width added on each side, arcsec.
    table : str
        Table of the archive.

    Returns
    -------
    str
        ADQL. A box across RA 0 has two ranges; one that holds a pole has none.
    """
    south = float(pixels.dec_deg.min()) - margin / ARCSEC_PER_DEG
    north = float(pixels.dec_deg.max()) + margin / ARCSEC_PER_DEG
    where = [f"dec BETWEEN {max(south, -90.0):.6f} AND {min(north, 90.0):.6f}"]
    if south > -90.0 and north < 90.0:
        cos_dec = np.cos(np.radians(max(abs(south), abs(north))))
        where += _ra_range(pixels.ra_deg, margin / ARCSEC_PER_DEG / float(cos_dec))
    where.append(f"phot_g_mean_mag < {magnitude_limit}")
    return f"SELECT {_COLUMNS} FROM {table} WHERE {' AND '.join(where)} ORDER BY source_id"


def _ra_range(ra_deg: FloatArray, margin_deg: float) -> list[str]:
    """Return the condition on right ascension: the circle without its widest gap between pixels."""
    ordered = np.sort(ra_deg % 360.0)
    gaps = np.diff(ordered, append=ordered[0] + 360.0)
    widest = int(np.argmax(gaps))
    if gaps[widest] <= 2.0 * margin_deg:
        return []
    west = (float(ordered[(widest + 1) % ordered.size]) - margin_deg) % 360.0
    east = (float(ordered[widest]) + margin_deg) % 360.0
    if west <= east:
        return [f"ra BETWEEN {west:.6f} AND {east:.6f}"]
    return [f"(ra >= {west:.6f} OR ra <= {east:.6f})"]


def _is_near(pixels: PixelTable, ra_deg: FloatArray, dec_deg: FloatArray, margin: float) -> BoolArray:
    """Return which positions lie within `margin` arcsec of a pixel."""
    if ra_deg.size == 0:
        return np.zeros(0, bool)
    return nearest(ra_deg, dec_deg, pixels.ra_deg, pixels.dec_deg)[1] <= margin


def _archive() -> "GaiaClass":
    try:
        from astroquery.gaia import Gaia
    except ImportError as error:
        raise MissingDependencyError(
            "query_gaia needs the package astroquery; install it with: pip install 'bayesprf[gaia]'"
        ) from error
    return Gaia
