"""Light curves of single sources: FITS files that lightkurve reads, and lightkurve objects."""

import itertools
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from astropy import units
from astropy.io import fits
from astropy.time import Time

from bayesprf.arrays import AnyArray, FloatArray
from bayesprf.checks import as_float, check_shape, checked, listed, make_directory
from bayesprf.errors import InputError, MissingDependencyError
from bayesprf.io.files import atomic_path

if TYPE_CHECKING:
    from lightkurve import LightCurve


# Columns after TIME and CADENCENO: name in the file, name in /photometry, FITS format, unit.
_COLUMNS = (
    ("FLUX", "flux", "D", "e-/s"),
    ("FLUX_ERR", "flux_err", "D", "e-/s"),
    ("FLUX_ERR_TOTAL", "flux_err_total", "D", "e-/s"),
    ("SAP_FLUX", "sap_flux", "D", "e-/s"),
    ("SAP_FLUX_ERR", "sap_flux_err", "D", "e-/s"),
    ("QUALITY", "flags", "J", None),
    ("CHI2", "chi2", "D", None),
    ("N_PIXEL", "n_pixel_used", "J", None),
)
# Keyword, name in /catalog and comment.
_CATALOG_CARDS = (
    ("RA_OBJ", "ra_deg", "[deg] right ascension at the epoch of the data"),
    ("DEC_OBJ", "dec_deg", "[deg] declination at the epoch of the data"),
    ("CATMAG", "mag", "[mag] catalogue magnitude"),
    ("PSFFRAC", "psf_fraction", "share of the PRF that falls on the pixels"),
    ("FLFRCSAP", "completeness", "share of the flux inside the aperture"),
    ("CROWDSAP", "crowding", "share of the aperture's flux from the source"),
)
_TELESCOPES = {"Kepler": "Kepler", "K2": "Kepler", "TESS": "TESS"}
# Zeros of time that lightkurve knows as formats of their own: BKJD and BTJD.
_LIGHTKURVE_FORMATS = {2454833.0: "bkjd", 2457000.0: "btjd"}
# Format: letters of a file's name from a star's name; file systems allow 255 with all that is added.
_LONGEST_NAME = 150
_FLUX_UNIT = units.electron / units.s


@checked
def save_lightcurves(
    directory: str | Path,
    tree: xr.DataTree,
    *,
    sources: Sequence[str] | None = None,
    prefix: str = "",
    time_shift: object = None,
) -> list[Path]:
    """Write one FITS light curve per source.

    Parameters
    ----------
    directory : path-like
        Made if it does not exist. Files are named after the sources, each written under a temporary name first.
    tree : xarray.DataTree
        Results with the group `photometry`; `catalog` and the attributes `instrument` and `time_zero_jd` add to
        the headers.
    sources : sequence of str, optional
        Names of the sources to write; all by default.
    prefix : str
        Put before every file name.
    time_shift : array-like, shape (n_time, n_source), optional
        Added to the times of each source, day: from `bayesprf.barycentric_shift` where a stack is so wide that the
        times of its stars differ.

    Returns
    -------
    list of Path
        The files, in the order of the sources, each of its own name.

    Raises
    ------
    InputError
        If the tree holds no photometry or a source is not in it.
    ShapeError
        If `time_shift` does not have one value per time and source.
    FileError
        If the directory cannot be made, or a file not be written.

    Notes
    -----
    The table has TIME, CADENCENO, FLUX, FLUX_ERR, QUALITY (bits of `bayesprf.QualityFlag`, not the mission's) and
    whatever else `photometry` holds per source. ``lightkurve.read`` opens it as a plain LightCurve: a header like
    the missions' own would make it take our bits for theirs and drop cadences.
    """
    photometry = _photometry(tree)
    names = [str(one) for one in photometry["source"].values]
    chosen = names if sources is None else [str(one) for one in sources]
    places = [_place_of(names, one) for one in chosen]
    shift = (
        np.zeros((photometry.sizes["time"], len(names))) if time_shift is None else as_float(time_shift, "time_shift")
    )
    check_shape(shift, (photometry.sizes["time"], len(names)), "time_shift", "n_time, n_source of the tree")
    directory = Path(directory)
    make_directory(directory, "directory")
    paths = []
    for place, stem in zip(places, _file_stems(names, places), strict=True):
        path = directory / f"{prefix}{stem}.fits"
        time = photometry["time"].values + shift[:, place]
        hdus = fits.HDUList([_primary(tree, names[place], place), _light_curve_table(tree, photometry, place, time)])
        with atomic_path(path) as temporary:
            hdus.writeto(temporary)
        paths.append(path)
    return paths


@checked
def to_lightkurve(tree: xr.DataTree, source: str, *, process: bool = False) -> "LightCurve":
    """Return the light curve of one source as a lightkurve.LightCurve; needs lightkurve.

    Parameters
    ----------
    tree : xarray.DataTree
        Results with the group `photometry`.
    source : str
        Name of the source.
    process : bool
        Take flux and error of the group `process`, in which gaps are filled; the others become `cadence_flux` and
        `cadence_flux_err`.

    Returns
    -------
    lightkurve.LightCurve
        Flux and error in electron / s, times in the mission's format, and as further columns what `photometry`
        holds per source.

    Raises
    ------
    MissingDependencyError
        If lightkurve is not installed.
    InputError
        If the tree holds no photometry or, if asked for, no processes, or the source is not in it.
    """
    photometry = _photometry(tree)
    place = _place_of([str(one) for one in photometry["source"].values], str(source))
    light_curve_class = _light_curve_class()
    if process and "process" not in tree.children:
        raise InputError("tree: expected a group process, got none; call fit_light_curves() before to_datatree()")
    main = tree["process"].to_dataset() if process else photometry
    zero = _time_zero(tree)
    time = photometry["time"].values
    known = _LIGHTKURVE_FORMATS.get(zero)
    curve = light_curve_class(
        time=Time(time, format=known, scale="tdb") if known else Time(zero, time, format="jd", scale="tdb"),
        flux=_values(main, "flux", place) * _FLUX_UNIT,
        flux_err=_values(main, "flux_err", place) * _FLUX_UNIT,
    )
    if process:
        curve["cadence_flux"] = _values(photometry, "flux", place) * _FLUX_UNIT
        curve["cadence_flux_err"] = _values(photometry, "flux_err", place) * _FLUX_UNIT
    for column, name, _, unit in _COLUMNS[2:]:
        if name in photometry:
            values = _values(photometry, name, place)
            curve[column.lower()] = values * _FLUX_UNIT if unit else values
    if "cadence_number" in photometry:
        curve["cadenceno"] = photometry["cadence_number"].values
    curve.meta |= {"LABEL": str(source), "OBJECT": str(source), "MISSION": tree.attrs.get("instrument", "")}
    for keyword, name, _ in _CATALOG_CARDS[:2]:
        curve.meta[keyword.removesuffix("_OBJ")] = _catalog_value(tree, name, place)
    return curve


def _light_curve_class() -> "type[LightCurve]":
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lightkurve speaks of optional packages it would like to have
            from lightkurve import LightCurve
    except ImportError as error:
        raise MissingDependencyError(
            "to_lightkurve needs the package lightkurve; install it with: pip install 'bayesprf[lightkurve]'"
        ) from error
    return LightCurve


def _photometry(tree: xr.DataTree) -> xr.Dataset:
    if not isinstance(tree, xr.DataTree) or "photometry" not in tree.children:
        found = list(tree.children) if isinstance(tree, xr.DataTree) else type(tree).__name__
        raise InputError(
            f"tree: expected a DataTree with the group photometry, got {found}; make it with to_datatree()"
        )
    return tree["photometry"].to_dataset()


def _place_of(names: Sequence[str], source: str) -> int:
    if source not in names:
        raise InputError(f"sources: expected names of sources in the tree ({listed(names)}), got {source!r}")
    return names.index(source)


def _file_stems(names: Sequence[str], places: Sequence[int]) -> list[str]:
    """Return file names without ending: letters, digits, dots and dashes; numbers tell equal ones apart."""
    stems = [re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("._")[:_LONGEST_NAME] or "source" for name in names]
    folded = Counter(one.lower() for one in stems)  # some file systems do not tell cases apart
    taken = {one for one, count in folded.items() if count == 1}
    for i, stem in enumerate(stems):
        if folded[stem.lower()] > 1:
            tries = (f"{stem}_{i}" + "_" * more for more in itertools.count())
            stems[i] = next(one for one in tries if one.lower() not in taken)
            taken.add(stems[i].lower())
    return [stems[i] for i in places]


def _values(photometry: xr.Dataset, name: str, place: int) -> AnyArray:
    return photometry[name].isel(source=place).values


def _time_zero(tree: xr.DataTree) -> float:
    return float(tree.attrs.get("time_zero_jd", 0.0))


def _catalog_value(tree: xr.DataTree, name: str, place: int) -> float:
    if "catalog" not in tree.children or name not in tree["catalog"]:
        return float("nan")
    return float(tree["catalog"].to_dataset()[name].values[place])


def _primary(tree: xr.DataTree, source: str, place: int) -> fits.PrimaryHDU:
    """Return the primary header; without CREATOR, which makes lightkurve take the file for a mission's."""
    hdu = fits.PrimaryHDU()
    instrument = str(tree.attrs.get("instrument", ""))
    hdu.header["ORIGIN"] = "bayesprf"
    hdu.header["OBJECT"] = re.sub(r"[^\x20-\x7e]", "?", source)
    if instrument in _TELESCOPES:
        hdu.header["TELESCOP"] = _TELESCOPES[instrument]
        hdu.header["MISSION"] = instrument
    hdu.header["RADESYS"] = "ICRS"
    for keyword, name, comment in _CATALOG_CARDS:
        value = _catalog_value(tree, name, place)
        if np.isfinite(value):
            hdu.header[keyword] = (value, comment)
    return hdu


def _light_curve_table(tree: xr.DataTree, photometry: xr.Dataset, place: int, time: FloatArray) -> fits.BinTableHDU:
    zero = _time_zero(tree)
    columns = [fits.Column("TIME", "D", unit="d", array=time)]
    if "cadence_number" in photometry:
        columns.append(fits.Column("CADENCENO", "K", array=photometry["cadence_number"].values))
    for column, name, kind, unit in _COLUMNS:
        if name in photometry:
            columns.append(fits.Column(column, kind, unit=unit, array=_values(photometry, name, place)))
    hdu = fits.BinTableHDU.from_columns(columns, name="LIGHTCURVE")
    hdu.header["TIMESYS"] = "TDB"
    words = ("BJDREFI", "BJDREFF") if zero in _LIGHTKURVE_FORMATS else ("JDREFI", "JDREFF")
    hdu.header[words[0]] = (int(zero), "[d] Julian date of time 0, whole part")
    hdu.header[words[1]] = (zero - int(zero), "[d] Julian date of time 0, fraction")
    hdu.header["EXPLAIN"] = ("bayesprf.QualityFlag", "meaning of the bits in QUALITY")
    return hdu
