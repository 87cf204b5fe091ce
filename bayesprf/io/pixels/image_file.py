"""Images of the sky in FITS files, with what their headers tell about exposure, time and noise."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from bayesprf.arrays import FloatArray, NamedDict
from bayesprf.errors import FileError
from bayesprf.instruments import SECONDS_PER_DAY, Instrument
from bayesprf.io.files import sha256_of
from bayesprf.io.pixels.fits_file import Unit, check_local, guarded_read, open_fits
from bayesprf.io.pixels.headers import Header, plain_header, read_number
from bayesprf.io.pixels.place import image_corner, image_wcs

if TYPE_CHECKING:
    import os

_KIND = "a FITS image"
_UNCERTAINTY = re.compile(r"\b(uncert\w*|err(or)?s?|sigma)\b", re.IGNORECASE)
# Format: a time in the header beyond this is a whole Julian date, whatever BJDREFI says.
_JULIAN_DATE = 2.4e6


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """Images of one file.

    Parameters
    ----------
    path : Path
        The file.
    sha256 : str
        Its checksum; empty for an object in memory.
    header : mapping
        Of the image, completed by the primary one.
    flux : ndarray of float64, shape (n_image, n_row, n_column)
        In the unit BUNIT.
    errors : ndarray of float64, shape (n_image, n_row, n_column), or None
        The file's own errors in the same unit; they may cover only the first rows and columns.
    wcs : astropy.wcs.WCS
        Sky coordinates of array indices.
    intact : bool or None
        Whether the image is the one its DATASUM was made from.
    """

    path: Path
    sha256: str
    header: Header
    flux: FloatArray
    errors: FloatArray | None
    wcs: WCS
    intact: bool | None


def open_image(source: object, extension: int | str | None, wcs: WCS | None) -> ImageFile:
    """Read the image, or the cube of images, of one file.

    Parameters
    ----------
    source : path-like or HDUList
        The file.
    extension : int or str, optional
        Which image, by number or name.
    wcs : astropy.wcs.WCS, optional
        Sky coordinates given by hand.

    Returns
    -------
    ImageFile

    Raises
    ------
    FileError
        If the file is missing or damaged, holds no image or several, or lacks sky coordinates.
    """
    if isinstance(source, fits.HDUList):
        path = Path(source.filename() or "image in memory")
        parts = guarded_read(path, lambda: _read_parts(source, [], path, extension), _KIND)
    else:
        check_local(source, "file")
        path = Path(cast("str | os.PathLike[str]", source))
        if not path.is_file():
            raise FileError(f"{path}: expected a FITS image, found no file of this name")
        parts = guarded_read(path, lambda: _open_and_read(path, extension), _KIND)
    sky = wcs if wcs is not None else image_wcs(parts.header, path)
    if sky is None:
        raise FileError(
            f"{path}: expected sky coordinates (CTYPE1 = RA---TAN, ...) in the header, found none; give them with wcs="
        )
    sha256 = sha256_of(path) if path.is_file() else ""
    return ImageFile(path, sha256, parts.header, parts.flux, parts.errors, sky, parts.intact)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    header: NamedDict
    flux: FloatArray
    errors: FloatArray | None
    intact: bool | None


def _open_and_read(path: Path, extension: int | str | None) -> _Parts:
    with open_fits(path) as (hdus, units):
        return _read_parts(hdus, units, path, extension)


def _read_parts(hdus: fits.HDUList, units: list[Unit], path: Path, extension: int | str | None) -> _Parts:
    held = [one for one in hdus if one.is_image and one.header.get("NAXIS") in (2, 3)]
    images = [one for one in held if not _UNCERTAINTY.search(one.name)]
    chosen = _choose(hdus, held, images, path, extension)
    place = next(i for i, one in enumerate(hdus) if one is chosen)
    errors = next((one for one in hdus[place + 1 : place + 2] if any(one is other for other in held)), None)
    errors = errors if errors is not None and _UNCERTAINTY.search(errors.name) else None
    intact = [units[i].intact for i in (place, place + 1) if i < len(units) and (i == place or errors is not None)]
    return _Parts(
        {**plain_header(hdus[0].header), **plain_header(chosen.header)},
        _cube(chosen.data),
        None if errors is None else _cube(errors.data),
        False if False in intact else None,
    )


def _choose(
    hdus: fits.HDUList, held: list[fits.ImageHDU], images: list[fits.ImageHDU], path: Path, extension: int | str | None
) -> fits.ImageHDU:
    names = ", ".join(repr(one.name) for one in images)
    if extension is None:
        if len(images) != 1:
            raise FileError(f"{path}: expected one image, found {len(images)} ({names}); name one by extension=")
        return images[0]
    try:
        chosen = hdus[extension]
    except (KeyError, IndexError) as error:
        raise FileError(f"{path}: expected extension {extension!r}, found the images {names}") from error
    if not any(chosen is one for one in held):
        raise FileError(f"{path}: expected an image in extension {extension!r}, which is none; there are {names}")
    return chosen


def _cube(data: object) -> FloatArray:
    array = np.asarray(data, np.float64)
    return array if array.ndim == 3 else array[None]


def read_image_exposure(header: Header) -> float | None:
    """Return the time in which light was collected, s, or None.

    EXPOSURE, in days or seconds, is less than INT_TIME times NUM_FRM where cosmic rays were taken out aboard; one that
    is more, or less than half, belongs to something else.

    Parameters
    ----------
    header : mapping
        Of the image.

    Returns
    -------
    float or None
    """
    frame, count, said = (read_number(header, key) for key in ("INT_TIME", "NUM_FRM", "EXPOSURE"))
    frames = None if frame is None or count is None else frame * count
    if said is not None and frames is None:
        return said * SECONDS_PER_DAY if said < 1.0 else said
    if said is not None and frames is not None:
        for one in (said * SECONDS_PER_DAY, said):
            if 0.5 * frames < one < 1.001 * frames:
                return one
    return frames if frames is not None else read_number(header, "EXPTIME")


def read_mid_time(header: Header, instrument: Instrument) -> float | None:
    """Return the middle of the exposure, day since the mission's time 0, or None where the header does not tell."""
    first, last, whole = (read_number(header, key) for key in ("TSTART", "TSTOP", "BJDREFI"))
    if first is None or last is None:
        return None
    middle = 0.5 * (first + last)
    if middle > _JULIAN_DATE:
        return middle - instrument.time_zero_jd
    return None if whole is None else middle + whole + (read_number(header, "BJDREFF") or 0.0) - instrument.time_zero_jd


def read_corner(header: Header) -> tuple[int, int]:
    """Return the detector column and row of array index 0: COL0 and ROW0, or CRVAL1P and CRVAL2P, or 0."""
    column, row = read_number(header, "COL0"), read_number(header, "ROW0")
    other = image_corner(header) or (0, 0)
    return int(other[0] if column is None else column), int(other[1] if row is None else row)
