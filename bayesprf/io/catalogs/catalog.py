"""Star catalogues -> SourceTable."""

import re
from collections.abc import Sequence

import numpy as np
from astropy import units
from astropy.coordinates import Angle

from bayesprf.arrays import BoolArray, FloatArray, Named
from bayesprf.checks import checked, listed
from bayesprf.errors import DataWarning, InputError, warn
from bayesprf.io.catalogs.archives import (
    ANY,
    ARCHIVES,
    BANDS,
    Archive,
    Band,
    Position,
    check_years,
    find_epoch,
    find_motion,
    find_names,
    find_position,
    recognise,
)
from bayesprf.io.catalogs.brightness import flux_from_mags, fluxes_of
from bayesprf.io.catalogs.columns import comma_cure, find_column, numbers_of
from bayesprf.io.catalogs.epoch import julian_year_of
from bayesprf.io.catalogs.phantoms import real_stars
from bayesprf.io.catalogs.tables import read_columns
from bayesprf.results.columns import is_missing, plain_columns, texts_of
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.placement import SAME_PLACE, check_placement, merge_twins, warn_of_twins
from bayesprf.scene.plausible import question_fluxes
from bayesprf.scene.sources import Brightness, SourceTable

_EPOCH = ("ref_epoch",)
_PLAIN_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
_FULL_PRECISION_INTEGER = 2**53
# Derived: the star that moves fastest is Barnard's, 10,393 mas / yr (Gaia DR3); -9999 in both columns, which tables
# write where nothing is known, is more.
_FASTEST = 11_000.0
# Names of columns that hold proper motions, and of their errors and flags.
_MOTION = re.compile(r"(?<![a-z])(pm|mu)[ _]?(ra|de|alpha|delta|lon|lat|[lb](?![a-z]))|proper.?motion", re.I)
_NO_MOTION = re.compile(r"err|corr|flag|sig|unc|std|source|ref|^[ef]_", re.I)


@checked
def read_catalog(
    catalog: object,
    *,
    epoch: float | PixelTable | None = None,
    flux_column: str | None = None,
    mag_column: str | None = None,
    ra_column: str | None = None,
    dec_column: str | None = None,
    id_column: str | None = None,
    ref_epoch: float | None = None,
    table: str | int | None = None,
    min_separation: float = SAME_PLACE,
) -> SourceTable:
    """Read a star catalogue, as an archive exports it or as it was made by hand.

    Parameters
    ----------
    catalog : path-like, pandas.DataFrame or astropy.table.Table
        CSV, TSV, ECSV, IPAC, FITS, VOTable, parquet, or text of VizieR, compressed with gzip or not; or a table.
    epoch : float or PixelTable, optional
        Julian year of the data, or the data: positions are carried there along the proper motions. By default
        positions stay as given until the pixels are known, as in `Machine.from_pixels`.
    flux_column : str, optional
        Column of the flux estimate, on any linear scale. If it is one of Gaia's and not there, the flux is made
        from a magnitude: see Notes. By default Gaia's G flux, or the one that the mission recommends once the pixels
        are known.
    mag_column : str, optional
        Column of the magnitude. With no `flux_column` in the table the flux is 10**(-0.4 (mag - 25)).
    ra_column, dec_column, id_column : str, optional
        Columns of position, degree or text such as "20:49:49.8", and name, where the table does not use a common name
        for them. Without a column of names the sources are numbered from 0.
    ref_epoch : float, optional
        Julian year of the positions; by default the column `ref_epoch`, what the table says of its positions, or what
        its archive uses (2000.0 for TIC, KIC and EPIC).
    table : str or int, optional
        Name or number of the table, in a file that holds several with positions.
    min_separation : float
        Rows closer than this are one star listed twice, arcsec: one row is kept. 0 keeps all.

    Returns
    -------
    SourceTable
        `columns` holds the table as given, in a form that results can hold (`bayesprf.results.columns.plain_columns`).

    Raises
    ------
    FileError
        If the file is missing or cannot be read.
    InputError
        If a column is missing, the table is empty, or a name or position is not usable.

    Warns
    -----
    DataWarning
        If a star is listed twice, or motions are larger than that of any star. If fluxes are not above zero, or
        magnitudes can be none. If there are proper motions but no reference epoch, or columns that seem to be proper
        motions under other names: positions are left unchanged. If rows of the TIC are no stars and left out, or a file
        says that the archive cut it at a limit of rows.

    See Also
    --------
    query_gaia : Ask Gaia's archive.
    SourceTable : The table itself.

    Notes
    -----
    Names, units and epochs are those of the archives in `bayesprf.io.catalogs.archives.ARCHIVES`: of Gaia, TIC, KIC,
    EPIC from their own archives, VizieR, MAST and ExoFOP. Positions and names are taken from one archive, the first
    whose names are in every row.

    Without a flux column the flux is made from the first of these magnitudes that the table has:
    ``phot_g_mean_mag`` (or ``phot_rp_mean_mag`` if `flux_column` is ``phot_rp_mean_flux``) with Gaia's Vega zero
    points 25.6874 (24.7479), ``kepmag`` with Kepler's 1.74e5 electron / s at 12, ``tmag`` or ``tessmag`` with
    TESS's 1.5e4 electron / s at 10, ``Gmag`` (``RPmag``) as Gaia's. ``kepmag`` comes before ``Gmag`` because
    tables of the Kepler Input Catalog call the Sloan g magnitude ``gmag``.

    Examples
    --------
    >>> import bayesprf as bp
    >>> import pandas as pd
    >>> table = pd.DataFrame({"ra": [290.0, 290.001], "dec": [44.5, 44.502], "counts": [5200.0, 830.0]})
    >>> sources = bp.read_catalog(table, flux_column="counts")
    >>> sources.n_source
    2
    """
    columns = real_stars(read_columns(catalog, which=table))
    if not columns or len(next(iter(columns.values()))) == 0:
        raise InputError("catalog: expected at least one source, got an empty table; check the field and the cuts")
    archive = recognise(columns)
    place = _find_place(columns, archive, ra_column, dec_column)
    names = _name_column(columns, archive, id_column)
    ra_deg, dec_deg = _positions(columns, place)
    bands = _read_bands(columns, flux_column, mag_column)
    first = next(iter(bands.values()))
    sources = SourceTable(
        source_id=_read_names(columns, names, len(ra_deg)),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        flux=first.flux,
        mag=first.mag,  # type: ignore[arg-type]  # None is filled on construction
        columns=plain_columns(columns),
        motion=_read_motion(columns, archive),
        epoch=_read_epoch(columns, place, names, ref_epoch),
        bands=bands if flux_column is None and mag_column is None else {},
    )
    sources = merge_twins(sources, min_separation)
    if isinstance(epoch, PixelTable):
        return sources.at_epoch(julian_year_of(epoch)).in_band(epoch.instrument.flux_column)
    return sources if epoch is None else sources.at_epoch(epoch)


def sources_from_frame(
    frame: object, flux_column: str | None = None, *, pixels: PixelTable | None = None
) -> SourceTable:
    """Return the sources of a table row by row, with positions as they are; the index of a DataFrame is not used.

    Parameters
    ----------
    frame : pandas.DataFrame, astropy.table.Table or SourceTable
        Columns as for `read_catalog`; a SourceTable is returned as it is.
    flux_column : str, optional
        Column of the flux estimate.
    pixels : PixelTable, optional
        The data, to check that the catalogue belongs to them.

    Returns
    -------
    SourceTable

    Raises
    ------
    InputError
        If a column is missing, the table is empty, it is not a table, or no star lies on or near the pixels.

    Warns
    -----
    DataWarning
        If two stars are closer than data can tell, or some files of a stack hold no star.
    """
    if not isinstance(frame, SourceTable):
        if not hasattr(frame, "columns"):
            raise InputError(f"sources: expected a pandas DataFrame or an astropy Table, got {type(frame).__name__}")
        frame = read_catalog(frame, flux_column=flux_column, min_separation=0.0)
    if pixels is not None:
        warn_of_twins(frame)
        check_placement(pixels, frame)
        frame = question_fluxes(pixels, frame)
    return frame


def _require(columns: Named, given: str | None, names: Sequence[str], keyword: str, meaning: str) -> str:
    """Return the name of the column for a quantity, or raise saying what is there and how to name it."""
    found = find_column(columns, names if given is None else (given,))
    if found is None:
        raise InputError(
            f"{keyword}: expected a column of {meaning} called {given or ' or '.join(names[:4])}, the table has"
            f" {', '.join(columns)}; name it with {keyword}='...'"
        )
    return found


# Positions


def _find_place(columns: Named, archive: Archive, ra: str | None, dec: str | None) -> Position:
    """Return the columns of positions: those given, those of the archive, or those of any."""
    if ra is None and dec is None:
        found = find_position(columns, archive) or find_position(columns, ANY)
        if found is not None:
            return found
        sky = next((name for name, column in columns.items() if hasattr(column, "icrs")), None)
        if sky is not None:
            return Position(sky, sky)
    ra_name = _require(columns, ra, [one.ra for one in ANY.positions], "ra_column", "right ascension")
    dec_name = _require(columns, dec, [one.dec for one in ANY.positions], "dec_column", "declination")
    known = (find_position(columns, one) for one in (archive, *ARCHIVES))
    same = (one for one in known if one is not None and (one.ra, one.dec) == (ra_name, dec_name))
    return next(same, Position(ra_name, dec_name))


def _positions(columns: Named, place: Position) -> tuple[FloatArray, FloatArray]:
    """Return right ascension and declination, degree, or raise naming the rows that have none."""
    if hasattr(columns[place.ra], "icrs"):
        sky = columns[place.ra].icrs
        ra_deg, dec_deg = np.asarray(sky.ra.deg, np.float64), np.asarray(sky.dec.deg, np.float64)
    else:
        ra_deg = _degrees(columns, place.ra, units.hourangle, place.ra_unit)
        dec_deg = _degrees(columns, place.dec, units.deg, "deg")
    bad = np.flatnonzero(~(np.isfinite(ra_deg) & np.isfinite(dec_deg)))
    if bad.size:
        rows = listed(bad.tolist())
        raise InputError(
            f"{place.ra}, {place.dec}: expected a position in every row, got none (missing, or 1e20 as filled masks"
            f" are) in {bad.size} of {ra_deg.size}, rows {rows}; drop these rows"
        )
    return ra_deg, dec_deg


def _degrees(columns: Named, name: str, written: units.UnitBase, default: str) -> FloatArray:
    """Return a coordinate, degree; text such as "20:49:49.8" is in the unit in which sexagesimal is written."""
    texts = _sexagesimal(columns[name])
    if texts is None:
        return numbers_of(columns, name, "deg", default=default)
    words = [row for row, one in enumerate(texts) if one and not any(map(str.isdigit, one))]
    if words and len(words) < sum(map(bool, texts)):
        raise InputError(
            f"{name}: expected a position in every row, got {texts[words[0]]!r} in row {words[0]}, as lines of units"
            " and further headers have; drop this row"
        )
    plain = [row for row, one in enumerate(texts) if _PLAIN_NUMBER.fullmatch(one)]
    if plain and written is not units.deg:
        raise InputError(
            f"{name}: expected text such as 20:49:49.8 in every row, got the number {texts[plain[0]]} in row"
            f" {plain[0]}, which may be hours or degree; write all rows in one way"
        )
    return np.array([_parse_angle(one, written, name) if one else np.nan for one in texts], np.float64)


def _parse_angle(text: str, written: units.UnitBase, name: str) -> float:
    try:
        return float(Angle(text, unit=written).deg)
    except (ValueError, TypeError, units.UnitsError) as error:
        raise InputError(
            f"{name}: expected real numbers or text such as 20:49:49.8, got {text!r};"
            f" {comma_cure(text) or 'convert it to degree'}"
        ) from error


def _sexagesimal(column: object) -> list[str] | None:
    """Return the texts of a column that holds text other than plain numbers, or None."""
    if np.asarray(column).dtype.kind not in "OUS":
        return None
    texts = texts_of(column)
    try:
        numbers_of({"": np.array(texts, object)}, "")
    except InputError:
        return texts
    return None


def _read_motion(columns: Named, archive: Archive) -> FloatArray | None:
    found = find_motion(columns, archive)
    if found is None:
        _warn_of_motion(columns)
        return None
    motion = np.stack([numbers_of(columns, one, "mas / yr", default=archive.motion_unit) for one in found], axis=1)
    wrong = np.hypot(*motion.T) > _FASTEST
    if wrong.any():
        rows = np.flatnonzero(wrong).tolist()
        warn(
            f"{', '.join(found)}: expected motions of up to {_FASTEST:g} mas / yr, which no star exceeds, got"
            f" {motion[rows[0]][0]:g}, {motion[rows[0]][1]:g} in {len(rows)} of {len(motion)}, rows {listed(rows)};"
            " these stars are left where they are: correct these rows",
            DataWarning,
        )
    return np.where(wrong[:, None], np.nan, motion)


def _warn_of_motion(columns: Named) -> None:
    """Warn of columns that hold proper motions by their names, but are not known."""
    names = [one for one in columns if _MOTION.search(one) and not _NO_MOTION.search(one)]
    names = [one for one in names if not is_missing(columns[one]).all()]
    if names:
        warn(
            f"catalogue: expected proper motions in two columns called pmra and pmdec, got {listed(names)}, which are"
            " not used: positions stay as they are; rename the columns if they are motions",
            DataWarning,
        )


def _read_epoch(columns: Named, place: Position, names: str | None, ref_epoch: float | None) -> FloatArray | None:
    if ref_epoch is not None:
        check_years(ref_epoch, "ref_epoch")
        return np.asarray(ref_epoch, np.float64)
    stated = find_column(columns, _EPOCH)
    if stated is not None:
        years = numbers_of(columns, stated, "yr")
        check_years(years, stated)
        return years
    known = find_epoch(columns, place, names)
    return None if known is None else np.asarray(known)


# Names


def _name_column(columns: Named, archive: Archive, given: str | None) -> str | None:
    """Return the column of names; None if there is none at all."""
    if given is not None:
        return _require(columns, given, (), "id_column", "names")
    found = find_names(columns, archive, unique=True) or find_names(columns, archive)
    found = found or find_names(columns, ANY, unique=True) or find_names(columns, ANY)
    if found is not None:
        return found
    partly = (find_column(columns, (one,)) for one in (*archive.ids, *ANY.ids))
    return next((one for one in partly if one is not None and not is_missing(columns[one]).all()), None)


def _read_names(columns: Named, name: str | None, n_source: int) -> tuple[str, ...]:
    if name is None:
        return tuple(str(number) for number in range(n_source))
    missing = np.flatnonzero(is_missing(columns[name]))
    if missing.size:
        raise InputError(
            f"{name}: expected a name for every source, got missing entries in {missing.size} of {n_source} rows, the"
            f" first row {missing[0]}; drop these rows, or name another column with id_column"
        )
    array = np.asarray(columns[name])
    if array.dtype.kind != "f":
        return tuple(texts_of(columns[name]))
    whole = _is_exact(array)
    if not whole.all():
        raise InputError(
            f"{name}: expected names as text or whole numbers, got the float {array[~whole][0]!r}, which does not"
            " hold all digits; read the column as integer or text"
        )
    return tuple(str(int(value)) for value in array)


def _is_exact(array: FloatArray) -> BoolArray:
    return np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) < _FULL_PRECISION_INTEGER)


# Fluxes


def _read_bands(columns: Named, flux_column: str | None, mag_column: str | None) -> dict[str, Brightness]:
    """Return the fluxes by band, the one to use first."""
    if mag_column is not None:
        flux, mag = flux_from_mags(columns, _require(columns, mag_column, (), "mag_column", "magnitudes"), 25.0)
        found = find_column(columns, (flux_column or next(iter(BANDS)),))
        return {"given": Brightness(fluxes_of(columns, found) if found else flux, mag)}
    wanted = {flux_column.lower(): BANDS.get(flux_column.lower())} if flux_column else BANDS
    read = {name: _read_band(columns, band or Band((flux_column or name,), (), ())) for name, band in wanted.items()}
    bands = {name: found for name, found in read.items() if found is not None}
    if not bands:
        known = flux_column is None or flux_column.lower() in BANDS
        raise InputError(
            f"flux_column: expected a column {flux_column or next(iter(BANDS))}{' or a magnitude' if known else ''},"
            f" the table has {', '.join(columns)}; name it with flux_column='...' or mag_column='...'"
        )
    return bands


def _read_band(columns: Named, band: Band) -> Brightness | None:
    """Return the fluxes of one band, from its column or made from a magnitude; None if the table has neither.

    A column in which nothing stands counts only where there is no other.
    """
    flux, mag = find_column(columns, band.fluxes), find_column(columns, band.mags)
    made = [(found, zero) for name, zero in band.made if (found := find_column(columns, (name,))) is not None]
    made.sort(key=lambda one: bool(is_missing(columns[one[0]]).all()))
    if flux is not None and not (made and is_missing(columns[flux]).all()):
        return Brightness(fluxes_of(columns, flux), numbers_of(columns, mag) if mag else None)
    return Brightness(*flux_from_mags(columns, *made[0])) if made else None
