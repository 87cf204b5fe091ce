"""One image of the sky, such as a full frame image or a superstamp -> PixelTable."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from astropy.units import Unit
from astropy.wcs import WCS

from bayesprf.arrays import FloatArray
from bayesprf.checks import as_float, check_positive
from bayesprf.errors import FileError, InputError
from bayesprf.instruments import GENERIC, Instrument
from bayesprf.io.files import sha256_of
from bayesprf.io.stamp import find_instrument, guarded_read, header_value
from bayesprf.scene.pixels import PixelTable

# A time in the header beyond this is a whole Julian date, whatever BJDREFI says.
_JULIAN_DATE = 2.4e6
_CLIP_SIGMA, _CLIP_ROUNDS = 2.5, 10
_META_KEYS = ("CHANNEL", "CAMERA", "CCD", "QUARTER", "CAMPAIGN", "SECTOR", "NUM_FRM")


def read_image(
    file: Any,
    *,
    extension: int | str | None = None,
    columns: tuple[int, int] | None = None,
    rows: tuple[int, int] | None = None,
    exposure: float | None = None,
    read_noise: float | None = None,
    n_read: int | None = None,
    sky_block: int | None = None,
    time: float | None = None,
    instrument: Instrument | None = None,
) -> PixelTable:
    """Read one FITS image with sky coordinates, in electron / s, as a stack of one cadence.

    Parameters
    ----------
    file : path-like
        The file: a Kepler or TESS full frame image, a K2 superstamp, or any image with a celestial WCS.
    extension : int or str, optional
        Which image, by number or name; needed if the file holds several.
    columns, rows : tuple of int, optional
        First and last-plus-one array index to use, as for a slice: leaves overscan out. All by default.
    exposure : float, optional
        Time in which light was collected, s; INT_TIME times NUM_FRM of the header by default.
    read_noise : float, optional
        Noise of one read, electron; READNOIS of the header by default.
    n_read : int, optional
        Number of reads that were added up; NUM_FRM of the header by default.
    sky_block : int, optional
        Take the sky off: the clipped median of each block of this side, pixel. By default it stays, for
        `Machine(background=...)` to fit.
    time : float, optional
        Mid-exposure time, day since `instrument.time_zero_jd`; from TSTART and TSTOP of the header by default.
    instrument : Instrument, optional
        Numbers of the mission; from TELESCOP of the header by default.

    Returns
    -------
    PixelTable
        Errors are those of `image_pixels`. `column` and `row` are CCD positions where the header has them (COL0 and
        ROW0, or CRVAL1P and CRVAL2P), and array indices otherwise. `meta` holds `files`, `sha256`, `mission` and
        CHANNEL, QUARTER, ... of the header.

    Raises
    ------
    FileError
        If the file is missing or damaged, holds no image or several, or lacks sky coordinates or a unit.
    InputError
        If an argument is out of range, or missing here and in the header.
    """
    path = Path(file)
    if not path.is_file():
        raise FileError(f"{path}: expected a FITS image, found no file of this name")
    header, image = guarded_read(path, lambda: _open_image(path, extension), "a FITS image")
    wcs = guarded_read(path, lambda: WCS(header), "a FITS image") if "CTYPE1" in header else None
    if wcs is None or not wcs.has_celestial:
        raise FileError(f"{path}: expected sky coordinates (CTYPE1 = RA---TAN, ...) in the header, found none")
    _check_unit(header, path)
    mission = find_instrument(header, path) if instrument is None else instrument
    frames = _number(header, "NUM_FRM")
    collected = None if (one := _number(header, "INT_TIME")) is None or frames is None else one * frames
    return image_pixels(
        image,
        wcs,
        exposure=_given(exposure, collected, "exposure", "INT_TIME and NUM_FRM", path),
        read_noise=_given(read_noise, _number(header, "READNOIS"), "read_noise", "READNOIS", path),
        n_read=int(_given(n_read, frames, "n_read", "NUM_FRM", path)),
        columns=columns,
        rows=rows,
        corner=_corner(header),
        sky_block=sky_block,
        time=_given(time, _mid_time(header, mission), "time", "TSTART and TSTOP", path),
        instrument=mission,
        meta=_describe(path, header, mission),
    )


def image_pixels(
    image: Any,
    wcs: WCS,
    *,
    exposure: float,
    read_noise: float,
    n_read: int = 1,
    columns: tuple[int, int] | None = None,
    rows: tuple[int, int] | None = None,
    corner: tuple[int, int] = (0, 0),
    sky_block: int | None = None,
    time: float = 0.0,
    instrument: Instrument = GENERIC,
    meta: dict[str, Any] | None = None,
) -> PixelTable:
    """Make a stack of one cadence from an image.

    Parameters
    ----------
    image : array-like, shape (n_row, n_column)
        Flux with its sky, electron / s; NaN where there is none.
    wcs : astropy.wcs.WCS
        Sky coordinates of the array's pixels.
    exposure : float
        Time in which light was collected, s.
    read_noise : float
        Noise of one read, electron; 0 for none.
    n_read : int
        Number of reads that were added up.
    columns, rows : tuple of int, optional
        First and last-plus-one array index to use; all by default.
    corner : tuple of int
        Detector column and row of array index 0.
    sky_block : int, optional
        Take off the clipped median of each block of this side, pixel.
    time : float
        Mid-exposure time, day.
    instrument : Instrument
        Numbers of the mission; pixels above its saturation level, sky included, are flagged.
    meta : dict, optional
        Where the image came from.

    Returns
    -------
    PixelTable
        NaN pixels stay in it and drop out of every fit.

    Raises
    ------
    InputError
        If an argument is out of range.
    ShapeError
        If the image does not have two axes.

    Notes
    -----
    flux_err = sqrt(max(image, 0) exposure + n_read read_noise^2) / exposure: photon noise of star and sky, and noise
    of every read.
    """
    full = as_float(image, "image", ndim=2, unit="electron / s")
    check_positive(exposure, "exposure")
    check_positive(n_read, "n_read")
    if not (np.isfinite(read_noise) and read_noise >= 0):
        raise InputError(f"read_noise: expected a finite number of electrons, 0 or more, got {read_noise!r}")
    used = _slice(rows, full.shape[0], "rows"), _slice(columns, full.shape[1], "columns")
    part = full[used]
    error = np.sqrt(np.maximum(part, 0.0) * exposure + n_read * read_noise**2) / exposure
    row, column = (one[used].ravel() for one in np.indices(full.shape))
    ra_deg, dec_deg = wcs.all_pix2world(column, row, 0)
    with np.errstate(invalid="ignore"):
        saturated = part > instrument.saturation
    flux = part if sky_block is None else part - block_sky(part, sky_block)
    return PixelTable(
        [time],
        flux.reshape(1, -1),
        error.reshape(1, -1),
        ra_deg,
        dec_deg,
        column + float(corner[0]),
        row + float(corner[1]),
        saturated=saturated.ravel(),
        instrument=instrument,
        meta=meta or {},
    )


def block_sky(image: FloatArray, side: int) -> FloatArray:
    """Return the clipped median of each block of an image, in every pixel of the block.

    Parameters
    ----------
    image : ndarray of float64, shape (n_row, n_column)
        Any unit; NaN is left out.
    side : int
        Side of a block, pixel; those at the far edges may be smaller.

    Returns
    -------
    ndarray of float64, shape (n_row, n_column)
        0 in a block without a finite pixel.

    Raises
    ------
    InputError
        If the side is below 5 pixels, too few for a median to be sky.
    """
    if isinstance(side, bool) or not isinstance(side, int | np.integer) or side < 5:
        raise InputError(f"sky_block: expected a whole number of 5 pixels or more, got {side!r}")
    sky = np.zeros_like(image)
    for row in range(0, image.shape[0], side):
        for column in range(0, image.shape[1], side):
            block = slice(row, row + side), slice(column, column + side)
            values = image[block][np.isfinite(image[block])]
            if values.size:
                sky[block] = sigma_clipped_stats(values, sigma=_CLIP_SIGMA, maxiters=_CLIP_ROUNDS)[1]
    return sky


def _open_image(path: Path, extension: int | str | None) -> tuple[fits.Header, FloatArray]:
    """Return the header, completed by the primary one, and the image."""
    with fits.open(path, mode="readonly") as hdus:
        held = [one for one in hdus if one.is_image and one.header.get("NAXIS") == 2]
        names = ", ".join(repr(one.name) for one in held)
        if extension is None and len(held) != 1:
            raise FileError(f"{path}: expected one image, found {len(held)} ({names}); name one by extension=")
        try:
            chosen = held[0] if extension is None else hdus[extension]
        except (KeyError, IndexError) as error:
            raise FileError(f"{path}: expected extension {extension!r}, found the images {names}") from error
        if chosen not in held:
            raise FileError(f"{path}: expected an image in extension {extension!r}, which is none; there are {names}")
        header = chosen.header.copy()
        header.extend(hdus[0].header, strip=True, unique=True, update=False)
        return header, np.asarray(chosen.data, np.float64)


def _check_unit(header: fits.Header, path: Path) -> None:
    given = str(header.get("BUNIT") or "").replace("e-", "electron").replace("electrons", "electron")
    if not given or Unit(given, parse_strict="silent") != Unit("electron / s"):
        raise FileError(
            f"{path}: expected an image in electron / s, got BUNIT = {header.get('BUNIT')!r};"
            " convert it and use bayesprf.io.ffi.image_pixels"
        )


def _given(value: float | None, found: float | None, name: str, keys: str, path: Path) -> float:
    """Return what the user gave, or else what the header has."""
    if value is None and found is None:
        raise InputError(f"{name}: expected a number, because the header of {path} has no {keys}; give {name}=")
    return float(value if value is not None else found)  # type: ignore[arg-type]


def _number(header: fits.Header, key: str) -> float | None:
    value = header.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _corner(header: fits.Header) -> tuple[int, int]:
    """Return the detector column and row of array index 0."""
    place = []
    for name, axis in (("COL0", 1), ("ROW0", 2)):
        physical = _number(header, f"CRVAL{axis}P")
        index = None if physical is None else physical + 1.0 - (_number(header, f"CRPIX{axis}P") or 1.0)
        place.append(_number(header, name) if _number(header, name) is not None else index)
    return int(place[0] or 0), int(place[1] or 0)


def _mid_time(header: fits.Header, instrument: Instrument) -> float | None:
    ends = [_number(header, key) for key in ("TSTART", "TSTOP")]
    if ends[0] is None or ends[1] is None:
        return None
    middle = 0.5 * (ends[0] + ends[1])
    reference = (_number(header, "BJDREFI") or 0.0) + (_number(header, "BJDREFF") or 0.0)
    return middle + (0.0 if middle > _JULIAN_DATE else reference) - instrument.time_zero_jd


def _slice(limits: tuple[int, int] | None, size: int, name: str) -> slice:
    if limits is None:
        return slice(0, size)
    first, last = limits
    if not 0 <= first < last <= size:
        raise InputError(f"{name}: expected first and last-plus-one index within 0 to {size}, got {limits!r}")
    return slice(int(first), int(last))


def _describe(path: Path, header: fits.Header, instrument: Instrument) -> dict[str, Any]:
    found = {key.lower(): header_value(header, header, key) for key in _META_KEYS}
    return {
        "files": [path.name],
        "sha256": [sha256_of(path)],
        "mission": instrument.name,
        **{key: value for key, value in found.items() if value is not None},
    }
