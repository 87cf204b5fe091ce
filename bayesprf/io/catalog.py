"""Star catalogues -> SourceTable."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.checks import check_positive
from bayesprf.errors import DataWarning, InputError
from bayesprf.instruments import KEPLER, TESS
from bayesprf.io.epoch import julian_year_of, move_positions
from bayesprf.io.tables import find_column, numbers_of, read_columns
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable

# Names under which catalogues hold a quantity, the preferred first; case does not matter.
_RA = ("ra", "ra_deg", "ra_icrs", "raj2000", "ra_obj", "_ra")
_DEC = ("dec", "dec_deg", "de_icrs", "dec_icrs", "dej2000", "decj2000", "dec_obj", "_de")
_ID = (
    "source_id",
    "source",
    "designation",
    "kepid",
    "kic",
    "epic",
    "epic_number",
    "ticid",
    "tic",
    "id",
    "name",
    "object",
)
_PMRA, _PMDEC = ("pmra",), ("pmdec", "pmde")
_EPOCH = ("ref_epoch",)
# Vega zero points of Gaia (E)DR3: Riello et al. (2021), A&A 649, A3, table 5.2 of the documentation; electron / s.
_GAIA_ZERO_POINTS: Mapping[str, float] = {"g": 25.6873668671, "rp": 24.7478955012}
_FULL_PRECISION_INTEGER = 2**53


def read_catalog(
    catalog: Any,
    *,
    epoch: float | PixelTable | None = None,
    flux_column: str = "phot_g_mean_flux",
    mag_column: str | None = None,
    ra_column: str | None = None,
    dec_column: str | None = None,
    id_column: str | None = None,
    ref_epoch: float | None = None,
) -> SourceTable:
    """Read a star catalogue.

    Parameters
    ----------
    catalog : path-like, pandas.DataFrame or astropy.table.Table
        CSV, ECSV, FITS, VOTable or parquet; or a table.
    epoch : float or PixelTable, optional
        Julian year of the data, or the data: positions are carried there along `pmra` (times cos(dec)) and
        `pmdec`, mas / yr, where these columns are there; missing motions count as none. Positions stay as given
        by default.
    flux_column : str
        Column of the flux estimate, on any linear scale. If it is one of Gaia's and not there, the flux is made
        from a magnitude: see Notes.
    mag_column : str, optional
        Column of the magnitude. With no `flux_column` in the table the flux is 10**(-0.4 (mag - 25)).
    ra_column, dec_column, id_column : str, optional
        Columns of position, degree, and name, where the table does not use a common name for them. Without a
        column of names the sources are numbered from 0.
    ref_epoch : float, optional
        Julian year of the positions; by default the column `ref_epoch`.

    Returns
    -------
    SourceTable
        `columns` holds the table as given.

    Raises
    ------
    FileError
        If the file is missing or cannot be read.
    InputError
        If a column is missing, the table is empty, or a name or position is not usable.

    Warns
    -----
    DataWarning
        If motions and `epoch` are there, but not the epoch of the positions: nothing is moved then.

    Notes
    -----
    Without a flux column the flux is made from the first of these magnitudes that the table has:
    ``phot_g_mean_mag`` (or ``phot_rp_mean_mag`` if `flux_column` is ``phot_rp_mean_flux``) with Gaia's Vega zero
    points 25.6874 (24.7479), ``kepmag`` with Kepler's 1.74e5 electron / s at 12, ``tmag`` or ``tessmag`` with
    TESS's 1.5e4 electron / s at 10, ``Gmag`` (``RPmag``) as Gaia's. ``kepmag`` comes before ``Gmag`` because
    tables of the Kepler Input Catalog call the Sloan g magnitude ``gmag``.
    """
    columns = read_columns(catalog)
    if not columns or len(next(iter(columns.values()))) == 0:
        raise InputError("catalog: expected at least one source, got an empty table; check the field and the cuts")
    ra_name = _require(columns, ra_column, _RA, "ra_column", "right ascension")
    dec_name = _require(columns, dec_column, _DEC, "dec_column", "declination")
    ra_deg, dec_deg = numbers_of(columns, ra_name, "deg"), numbers_of(columns, dec_name, "deg")
    if epoch is not None:
        ra_deg, dec_deg = _at_epoch(columns, ra_deg, dec_deg, epoch, ref_epoch)
    flux, mag = _read_flux(columns, flux_column, mag_column)
    return SourceTable(
        source_id=_read_names(columns, id_column, len(ra_deg)),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        flux=flux,
        mag=mag,
        columns=columns,
    )


def sources_from_frame(
    frame: Any, flux_column: str = "phot_g_mean_flux", *, epoch: float | PixelTable | None = None
) -> SourceTable:
    """Return the sources of a pandas DataFrame or astropy Table; the index of a DataFrame is not used.

    Parameters
    ----------
    frame : pandas.DataFrame, astropy.table.Table or SourceTable
        Columns as for `read_catalog`; a SourceTable is returned as it is.
    flux_column : str
        Column of the flux estimate.
    epoch : float or PixelTable, optional
        As for `read_catalog`.

    Returns
    -------
    SourceTable

    Raises
    ------
    InputError
        If a column is missing, the table is empty, or it is not a table.
    """
    if isinstance(frame, SourceTable):
        return frame
    if not hasattr(frame, "columns"):
        raise InputError(f"sources: expected a pandas DataFrame or an astropy Table, got {type(frame).__name__}")
    return read_catalog(frame, flux_column=flux_column, epoch=epoch)


def _require(columns: Mapping[str, Any], given: str | None, names: tuple[str, ...], keyword: str, meaning: str) -> str:
    """Return the name of the column for a quantity, or raise saying what is there and how to name it."""
    found = find_column(columns, names if given is None else (given,))
    if found is None:
        raise InputError(
            f"{keyword}: expected a column of {meaning} called {given or ' or '.join(names[:4])}, the table has"
            f" {', '.join(columns)}; name it with {keyword}='...'"
        )
    return found


def _read_names(columns: Mapping[str, Any], given: str | None, n_source: int) -> list[str]:
    found = find_column(columns, _ID if given is None else (given,))
    if found is None and given is None:
        return [str(number) for number in range(n_source)]
    values = columns[_require(columns, given, _ID, "id_column", "names")]
    if np.any(getattr(values, "mask", False)):
        raise InputError(f"{found}: expected a name for every source, got missing entries; drop these rows")
    array = np.asarray(values)
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) < _FULL_PRECISION_INTEGER)
        if not whole.all():
            raise InputError(
                f"{found}: expected names as text or whole numbers, got the float {array[~whole][0]!r}, which does not"
                " hold all digits; read the column as integer or text"
            )
        return [str(int(value)) for value in array]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in array.tolist()]


def _at_epoch(
    columns: Mapping[str, Any],
    ra_deg: FloatArray,
    dec_deg: FloatArray,
    epoch: float | PixelTable,
    ref_epoch: float | None,
) -> tuple[FloatArray, FloatArray]:
    year = julian_year_of(epoch) if isinstance(epoch, PixelTable) else epoch
    check_positive(year, "epoch")
    pmra, pmdec = find_column(columns, _PMRA), find_column(columns, _PMDEC)
    if pmra is None or pmdec is None:
        return ra_deg, dec_deg
    reference = find_column(columns, _EPOCH)
    if ref_epoch is None and reference is None:
        warnings.warn(
            "the catalogue has proper motions but no column ref_epoch, so positions were not carried to the epoch of"
            " the data; give ref_epoch=2016.0 (Gaia DR3) or 2015.5 (Gaia DR2)",
            DataWarning,
            stacklevel=3,
        )
        return ra_deg, dec_deg
    start = numbers_of(columns, reference, "yr") if ref_epoch is None and reference else np.full_like(ra_deg, ref_epoch)
    motion = (numbers_of(columns, name, "mas / yr") for name in (pmra, pmdec))
    return move_positions(ra_deg, dec_deg, *motion, np.nan_to_num(year - start))


def _read_flux(
    columns: Mapping[str, Any], flux_column: str, mag_column: str | None
) -> tuple[FloatArray, FloatArray | None]:
    """Return flux and magnitude (None: to be made from the flux)."""
    flux_name = find_column(columns, (flux_column,))
    band = {"phot_g_mean_flux": "g", "phot_rp_mean_flux": "rp"}.get(flux_column.lower())
    if mag_column is not None:
        mag = numbers_of(columns, _require(columns, mag_column, (), "mag_column", "magnitudes"))
        return (numbers_of(columns, flux_name) if flux_name else 10.0 ** (-0.4 * (mag - 25.0))), mag
    if flux_name is not None:
        own_mag = find_column(columns, (f"phot_{band}_mean_mag",)) if band else None
        return numbers_of(columns, flux_name), numbers_of(columns, own_mag) if own_mag else None
    if band is not None:
        for name, zero_point in _magnitude_scales(band):
            found = find_column(columns, (name,))
            if found is not None:
                mag = numbers_of(columns, found)
                return 10.0 ** (-0.4 * (mag - zero_point)), mag
    raise InputError(
        f"flux_column: expected a column {flux_column}{' or a magnitude' if band else ''}, the table has"
        f" {', '.join(columns)}; name it with flux_column='...' or mag_column='...'"
    )


def _magnitude_scales(band: str) -> list[tuple[str, float]]:
    """Return columns of magnitudes and their zero points, the magnitude of 1 electron / s, the preferred first."""
    kepler = KEPLER.zero_flux_mag + 2.5 * float(np.log10(KEPLER.zero_flux))
    tess = TESS.zero_flux_mag + 2.5 * float(np.log10(TESS.zero_flux))
    missions = [("kepmag", kepler), ("tmag", tess), ("tessmag", tess)]
    if band == "rp":
        missions = missions[1:] + missions[:1]
    gaia = _GAIA_ZERO_POINTS[band]
    return [(f"phot_{band}_mean_mag", gaia), *missions, (f"{band}mag", gaia)]
