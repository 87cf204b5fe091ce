"""The missions' own PRF files: TESS and Kepler tables, as arrays; from files at hand or from the archive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from shutil import copyfile
from typing import cast

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import FileError, InputError
from bayesprf.io.files import atomic_path, cache_directory
from bayesprf.prf.prior import PrfTables
from bayesprf.scene.pixels import PixelTable

_ARCHIVE = "https://archive.stsci.edu/missions"
# Format: columns and rows for which the tables of each CCD of TESS were made.
_TESS_GRID = (45, 557, 1069, 1580, 2092), (1, 513, 1025, 1536, 2048)
# Format: last sector of the first set of tables; when each set was made, from which CCD on, counted over the cameras.
_TESS_EARLY = 3
_TESS_MADE = (
    ((0, "2018243163600"), (7, "2018243163601")),
    ((0, "2019107181900"), (1, "2019107181901"), (9, "2019107181902")),
)
# Format: modules of Kepler in the order of their channels, four each; 1, 5, 21 and 25 hold the guiders.
_MODULES = (2, 3, 4, *range(6, 21), 22, 23, 24)
# Derived: corners of a cell of the grid of TESS; of Kepler's five PRFs, at corners and centre, the triangle around.
_N_TESS, _N_KEPLER = 4, 3
# Format: points of Kepler's tables per pixel; those of TESS have nine.
_KEPLER_SAMPLES = 50.0
# Cost: seconds until an archive that does not answer is given up.
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class PrfTable:
    """One PRF of a mission's file, integrated over pixels.

    Parameters
    ----------
    values : ndarray of float64, shape (n, n)
        Share of the light in a pixel, rows first, the star at the middle; sums to `samples`**2.
    samples : float
        Points per pixel.
    column, row : float
        Place on the CCD for which it was made, pixel.
    """

    values: FloatArray
    samples: float
    column: float
    row: float


def read_prf_table(path: str | Path) -> PrfTable:
    """Read one official TESS PRF file.

    Parameters
    ----------
    path : str or Path
        ``tess...-prf-<camera>-<ccd>-row<row>-col<column>.fits``, compressed or not.

    Returns
    -------
    PrfTable

    Raises
    ------
    InputError
        If the file is not a square table with the keyword NSAMP.
    """
    from astropy.io import fits

    with fits.open(path) as file:
        header, values = file[0].header, np.asarray(file[0].data, np.float64)
    if "NSAMP" not in header or values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise InputError(f"path: expected a square PRF table with the keyword NSAMP, got {path}; use a TESS PRF file")
    samples = float(header["NSAMP"])
    values = values / values.sum() * samples**2
    return PrfTable(values, samples, float(header.get("CCD_CREF", 0.0)), float(header.get("CCD_RREF", 0.0)))


def read_prf_tables(path: str | Path) -> list[PrfTable]:
    """Read the PRFs of one official file: one of TESS, the five of a channel of Kepler.

    Parameters
    ----------
    path : str or Path
        As for `read_prf_table`, or ``kplr<module>.<output>_2011265_prf.fits``, whose extensions hold a PRF each.

    Returns
    -------
    list of PrfTable

    Raises
    ------
    InputError
        If the file holds no square PRF tables.
    """
    from astropy.io import fits

    with fits.open(path) as file:
        if "CDELT1P" in file[0].header or len(file) == 1:
            return [read_prf_table(path)]
        parts = [(one.header, np.asarray(one.data, np.float64)) for one in file[1:] if one.data is not None]
    if any("CDELT1P" not in header or values.ndim != 2 or len(set(values.shape)) > 1 for header, values in parts):
        raise InputError(
            f"path: expected square PRF tables with the keyword CDELT1P, got {path}; use a PRF file of TESS or Kepler"
        )
    return [_kepler_table(header, values) for header, values in parts]


def _kepler_table(header: Mapping[str, float], values: FloatArray) -> PrfTable:
    samples = 1.0 / float(header["CDELT1P"])
    values = values / values.sum() * samples**2
    return PrfTable(values, samples, float(header["CRVAL1P"]), float(header["CRVAL2P"]))


def save_prf_tables(paths: Sequence[str | Path], output: str | Path) -> None:
    """Gather official PRF files of one CCD of TESS, or one of Kepler, for ``build_shape_model(prf=...)``.

    Parameters
    ----------
    paths : sequence of str or Path
        Two or more files, at best those around the place of the data; one of Kepler holds five PRFs.
    output : str or Path
        Written, an ``.npz`` file.

    Raises
    ------
    InputError
        If a file is no PRF table, or there are fewer than two.

    See Also
    --------
    fetch_prf_tables : The files around the place of the data, from the archive.
    """
    gather_tables([table for path in paths for table in read_prf_tables(path)]).save(output)


def gather_tables(tables: Sequence[PrfTable]) -> PrfTables:
    """Return PRFs of one detector as one record; those of TESS hold all light, Kepler's wings go on."""
    samples = tables[0].samples if tables else 1.0
    return PrfTables(np.array([one.values for one in tables]), samples, complete=samples < _KEPLER_SAMPLES)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to fetch: addresses, and how many of the PRFs in them are around the place of the data."""

    addresses: tuple[str, ...]
    n_table: int


def fetch_prf_tables(pixels: PixelTable) -> Path:
    """Fetch the mission's own PRFs around the place of the pixels, for ``build_shape_model(prf=...)``.

    Parameters
    ----------
    pixels : PixelTable
        Pixels of Kepler, K2 or TESS; their headers name the detector.

    Returns
    -------
    Path
        An ``.npz`` file with the four PRFs of TESS, or the three of Kepler, nearest to the pixels.

    Raises
    ------
    InputError
        If the pixels do not tell their detector.
    FileError
        If the archive does not answer, and the files are not kept.

    See Also
    --------
    save_prf_tables : The same from files at hand.

    Notes
    -----
    Files are those of https://archive.stsci.edu/missions/tess/models/prf_fitsfiles (sectors 1 to 3, and from 4 on) and
    https://archive.stsci.edu/missions/kepler/fpc/prf, as the package lkprf takes them, which needs an older NumPy. They
    are kept in the directory that the environment variable BAYESPRF_CACHE names, or in the user's cache directory.

    Examples
    --------
    >>> from bayesprf.io.prf_files import fetch_prf_tables
    >>> machine.build_shape_model(prf=str(fetch_prf_tables(pixels)))  # doctest: +SKIP
    """
    place = float(np.mean(pixels.column)), float(np.mean(pixels.row))
    wanted = _wanted(pixels, place)
    paths = [_kept(one) for one in wanted.addresses]
    tables = [table for path in paths for table in read_prf_tables(path)]
    nearest = sorted(tables, key=lambda one: np.hypot(one.column - place[0], one.row - place[1]))[: wanted.n_table]
    name = f"{paths[0].name.split('.fits')[0]}-{len(nearest)}-{nearest[0].row:04.0f}-{nearest[0].column:04.0f}.npz"
    output = paths[0].parent / name
    with atomic_path(output) as temporary:
        gather_tables(nearest).save(temporary)
    return output


def _wanted(pixels: PixelTable, place: tuple[float, float]) -> _Wanted:
    """Return the addresses of the files for the detector of the pixels."""
    mission = pixels.instrument.name
    keys = {"TESS": ("camera", "ccd", "sector"), "Kepler": ("channel",), "K2": ("channel",)}.get(mission)
    missing = [key for key in keys or () if pixels.meta.get(key) is None]
    if keys is None or missing:
        what = f"no {' and no '.join(missing)}" if missing else f"pixels of {mission}"
        raise InputError(
            f'prf: expected "mission" with files of Kepler, K2 or TESS whose headers name the detector, got {what};'
            " give a file of save_prf_tables"
        )
    numbers = [int(cast("float", pixels.meta[key])) for key in keys]
    if mission == "TESS":
        return _Wanted(_tess_addresses(*numbers, place=place), _N_TESS)
    module, output = _MODULES[(numbers[0] - 1) // 4], (numbers[0] - 1) % 4 + 1
    return _Wanted((f"{_ARCHIVE}/kepler/fpc/prf/kplr{module:02d}.{output}_2011265_prf.fits",), _N_KEPLER)


def _tess_addresses(camera: int, ccd: int, sector: int, *, place: tuple[float, float]) -> tuple[str, ...]:
    """Return the addresses of the tables at the corners of the cell of the grid in which a place lies."""
    number, late = 4 * (camera - 1) + ccd - 1, sector > _TESS_EARLY
    made = next(stamp for first, stamp in reversed(_TESS_MADE[late]) if number >= first)
    folder = f"{_ARCHIVE}/tess/models/prf_fitsfiles/start_s{4 if late else 1:04d}/cam{camera}_ccd{ccd}"
    columns, rows = (
        sorted(grid, key=lambda one: abs(one - middle))[:2] for grid, middle in zip(_TESS_GRID, place, strict=True)
    )
    name = f"tess{made}-prf-{camera}-{ccd}"
    return tuple(f"{folder}/{name}-row{row:04d}-col{column:04d}.fits" for row in rows for column in columns)


def _kept(address: str) -> Path:
    """Return a file of the archive, fetched the first time."""
    path = cache_directory() / "prf" / address.rsplit("/", maxsplit=1)[1]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = download(address)
    except (OSError, HTTPException) as error:  # no network, no such server, refused or broken off
        reason = " ".join(str(error).split())[:120]
        raise FileError(
            f"prf: expected the mission's PRF file {address}, got none ({reason}); ask once where there is internet,"
            f" put the file into {path.parent}, or use prf='instrument'"
        ) from error
    with atomic_path(path) as temporary:
        copyfile(found, temporary)
    return path


def download(address: str) -> str:
    """Fetch a file of the internet, and return where it lies."""
    from astropy.utils.data import download_file

    return str(download_file(address, cache=False, show_progress=False, timeout=_PATIENCE))
