"""Images of the sky, such as full frame images or superstamps, one or a series -> PixelTable."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.stats import sigma_clipped_stats
from astropy.units import Unit
from astropy.wcs import WCS

from bayesprf.arrays import FloatArray, Named, NamedDict
from bayesprf.checks import as_float, check_positive, checked, shown
from bayesprf.errors import DataWarning, FileError, InputError, ShapeError, warn
from bayesprf.instruments import GENERIC, Instrument
from bayesprf.io.pixels.headers import Header, find_instrument, read_noise_of, read_number
from bayesprf.io.pixels.image_file import ImageFile, open_image, read_corner, read_image_exposure, read_mid_time
from bayesprf.io.pixels.listing import list_files
from bayesprf.io.pixels.noise import Noise, rate_factor
from bayesprf.io.pixels.place import sky_of
from bayesprf.io.pixels.stack import unit_vector
from bayesprf.scene.pixels import PixelTable

_META_KEYS = ("CHANNEL", "CAMERA", "CCD", "QUARTER", "CAMPAIGN", "SECTOR", "NUM_FRM")
# Definition: images of a series whose coordinates move by less than this, pixel, have not moved; by more than this many
# pixels they show another place.
_STILL, _ELSEWHERE = 1e-3, 20.0


@checked
def read_image(
    file: object,
    *,
    extension: int | str | None = None,
    columns: tuple[int, int] | None = None,
    rows: tuple[int, int] | None = None,
    exposure: float | None = None,
    read_noise: float | None = None,
    n_read: int | None = None,
    sky_block: int | None = None,
    time: object = None,
    instrument: Instrument | None = None,
    wcs: WCS | None = None,
) -> PixelTable:
    """Read FITS images with sky coordinates, in electron / s or electron, as a stack with one cadence per image.

    Parameters
    ----------
    file : path-like, HDUList, or sequence of them
        A file, pattern or directory: Kepler or TESS full frame images, K2 superstamps, or any images with a celestial
        WCS. Several, or a cube of images, make a series in the order of their times.
    extension : int or str, optional
        Which image, by number or name; needed if a file holds several besides their errors.
    columns, rows : tuple of int, optional
        First and last-plus-one array index to use, as for a slice: leaves overscan out. All by default.
    exposure : float, optional
        Time in which light was collected for each image, s; EXPOSURE of the header, or INT_TIME times NUM_FRM, by
        default.
    read_noise : float, optional
        Noise of one read, electron; READNOIS of the header, or the quadratic mean of READNOIA to READNOID, by default.
    n_read : int, optional
        Number of reads that were added up; NREADOUT or NUM_FRM of the header by default.
    sky_block : int, optional
        Subtract the sky: the clipped median of each block of this side, pixel. By default it stays, for
        `Machine(background=...)` to fit.
    time : float or sequence of float, optional
        Mid-exposure time of each image, day since `instrument.time_zero_jd`; from TSTART, TSTOP and BJDREFI of the
        header by default.
    instrument : Instrument, optional
        Numbers of the mission; from TELESCOP of the header by default.
    wcs : astropy.wcs.WCS, optional
        Sky coordinates of the array's indices; those of the first header by default.

    Returns
    -------
    PixelTable
        Errors are those of the extension of errors that follows the image (UNCERT, ERR), and else, or beyond it,
        those of `image_pixels`. `column` and `row` are CCD positions where the header has them (COL0 and
        ROW0, or CRVAL1P and CRVAL2P), and array indices otherwise. `pos_corr` is how far the coordinates of later
        images moved from the first's, None if they did not. `meta` holds `files`, `sha256`, `mission`,
        `background_subtracted`, `time_direction` and CHANNEL, QUARTER, ... of the header.

    Raises
    ------
    FileError
        If a file is missing or damaged, holds no image or several, or lacks sky coordinates or a unit.
    InputError
        If an argument is out of range, or missing here and in the header, or the images do not make a series.
    ShapeError
        If the images have different shapes.

    Warns
    -----
    DataWarning
        If an image is not the one its DATASUM was made from, or its errors cover only part of it.

    See Also
    --------
    read_tpfs : Target pixel files and cutouts.
    Background : Fit the sky that the image holds.

    Examples
    --------
    >>> import bayesprf as bp
    >>> pixels = bp.read_image("ffi.fits", extension="MOD.OUT 2.1", columns=(12, 1112))  # doctest: +SKIP
    """
    images = [open_image(one, extension, wcs) for one in list_files(file, "FITS image")]
    first = images[0]
    mission = find_instrument(first.header, first.path) if instrument is None else instrument
    _check_series(images, instrument)
    given = _given_times(time, sum(len(one.flux) for one in images))
    used = _slice(rows, first.flux.shape[1], "rows"), _slice(columns, first.flux.shape[2], "columns")
    noises = [_noise(one, exposure, read_noise, n_read, used) for one in images]
    frames = [_reduce(one, noise, used) for one, noise in zip(images, noises, strict=True)]
    times = given if given is not None else np.concatenate([_times(one, mission) for one in images])
    motion = np.concatenate([np.repeat(_motion(one, first, used), len(one.flux), axis=0) for one in images])
    order = np.argsort(times, kind="stable")
    grid = _Grid(first.wcs, used, read_corner(first.header), sky_block, mission)
    return grid.table(
        times[order],
        np.concatenate([flux for flux, _ in frames])[order],
        np.concatenate([errors for _, errors in frames])[order],
        pos_corr=motion[order] if np.abs(motion).max() > _STILL else None,
        meta=_describe(images, mission, sky_block),
    )


@checked
def image_pixels(
    image: object,
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
    meta: dict[str, object] | None = None,
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
        Subtract the clipped median of each block of this side, pixel.
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
    noise = _check_noise(exposure, read_noise, n_read)
    used = _slice(rows, full.shape[0], "rows"), _slice(columns, full.shape[1], "columns")
    part = full[used][None]
    grid = _Grid(wcs, used, corner, sky_block, instrument)
    return grid.table(np.array([time], np.float64), part, noise.least(part), pos_corr=None, meta=meta or {})


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """The part of an image that is used, as pixels."""

    wcs: WCS
    used: tuple[slice, slice]
    corner: tuple[int, int]
    sky_block: int | None
    instrument: Instrument

    def table(
        self, time: FloatArray, flux: FloatArray, errors: FloatArray, *, pos_corr: FloatArray | None, meta: Named
    ) -> PixelTable:
        """Return images of shape (n_image, n_row, n_column) as a stack."""
        row, column = (np.arange(part.start, part.stop) for part in self.used)
        row, column = (one.ravel() for one in np.meshgrid(row, column, indexing="ij"))
        ra_deg, dec_deg = sky_of(self.wcs, column, row)
        with np.errstate(invalid="ignore"):
            saturated = (flux > self.instrument.saturation).mean(axis=0) >= 0.01
        if self.sky_block is not None:
            flux = np.stack([one - block_sky(one, self.sky_block) for one in flux])
        return PixelTable(
            time,
            flux.reshape(time.size, -1),
            errors.reshape(time.size, -1),
            ra_deg,
            dec_deg,
            column + float(self.corner[0]),
            row + float(self.corner[1]),
            saturated=saturated.ravel(),
            pos_corr=pos_corr,
            instrument=self.instrument,
            meta=meta,
        )


def block_sky(image: FloatArray, side: int) -> FloatArray:
    """Return the median of each block of an image, clipped at three sigma until nothing changes, in every pixel.

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

    Notes
    -----
    The clipping is that of SExtractor's background (Bertin & Arnouts 1996, A&AS 117, 393).

    Raises
    ------
    InputError
        If the side is below 5 pixels, too few for a median to be sky.
    """
    if isinstance(side, bool) or not isinstance(side, int | np.integer) or side < 5:
        raise InputError(f"sky_block: expected a whole number of 5 pixels or more, got {shown(side)}")
    sky = np.zeros_like(image)
    for row in range(0, image.shape[0], side):
        for column in range(0, image.shape[1], side):
            block = slice(row, row + side), slice(column, column + side)
            values = image[block][np.isfinite(image[block])]
            if values.size:
                sky[block] = sigma_clipped_stats(values, sigma=3.0, maxiters=None)[1]
    return sky


def _check_series(images: Sequence[ImageFile], instrument: Instrument | None) -> None:
    """Raise unless all images have one shape, place on the detector and mission; warn of changed pixels."""
    first = images[0]
    for one in images:
        if one.intact is False:
            warn(
                f"{one.path.name}: expected the image that DATASUM was made from, got another: the file was changed"
                " after it was written, by a tool or by damage; download it again if you did not change it",
                DataWarning,
            )
        if one.flux.shape[1:] != first.flux.shape[1:]:
            raise ShapeError(
                f"file: expected images of one shape, got {first.flux.shape[1:]} in {first.path.name} and"
                f" {one.flux.shape[1:]} in {one.path.name}; read them in separate calls"
            )
        same = read_corner(one.header) == read_corner(first.header)
        if not same or (instrument is None and one.header.get("TELESCOP") != first.header.get("TELESCOP")):
            raise InputError(
                f"file: expected images of one part of one detector, but {one.path.name} is not of that of"
                f" {first.path.name}; read them in separate calls"
            )


def _check_noise(exposure: float, read_noise: float, n_read: float) -> Noise:
    check_positive(exposure, "exposure")
    check_positive(n_read, "n_read")
    if not (np.isfinite(read_noise) and read_noise >= 0):
        raise InputError(f"read_noise: expected a finite number of electrons, 0 or more, got {shown(read_noise)}")
    return Noise(float(exposure), (float(read_noise), float(n_read)))


def _noise(
    image: ImageFile, exposure: float | None, read_noise: float | None, n_read: int | None, used: tuple[slice, slice]
) -> Noise:
    """Return exposure and read noise, given or of the header; they are needed where the file has no errors."""
    header, path = image.header, image.path
    if _covers(image, used) and exposure is None and read_noise is None:
        return Noise(read_image_exposure(header), None)
    seconds = _given(exposure, read_image_exposure(header), "exposure", "INT_TIME and NUM_FRM", path)
    read = read_noise_of(header, GENERIC, seconds) if read_number(header, "NREADOUT") else None
    noise = read_noise_of({**header, "NREADOUT": 1}, GENERIC, seconds)
    count = read[1] if read else read_number(header, "NUM_FRM")
    return _check_noise(
        seconds,
        _given(read_noise, None if noise is None else noise[0], "read_noise", "READNOIS", path),
        _given(n_read, count, "n_read", "NUM_FRM", path),
    )


def _covers(image: ImageFile, used: tuple[slice, slice]) -> bool:
    """Return whether the file's own errors cover the part that is used."""
    if image.errors is None:
        return False
    return all(part.stop <= size for part, size in zip(used, image.errors.shape[1:], strict=True))


def _reduce(image: ImageFile, noise: Noise, used: tuple[slice, slice]) -> tuple[FloatArray, FloatArray]:
    """Return flux and errors of the part that is used, electron / s, shape (n_image, n_row, n_column)."""
    factor = _factor(image.header, noise, image.path)
    flux = image.flux[(slice(None), *used)] * factor
    if image.errors is None:
        return flux, noise.least(flux)
    own = image.errors[(slice(None), *used)] * factor
    with np.errstate(invalid="ignore"):
        own = np.where(own > 0, own, 0.0)
    if own.shape == flux.shape:
        return flux, own
    errors = noise.least(flux)
    errors[:, : own.shape[1], : own.shape[2]] = own
    warn(
        f"{image.path.name}: expected errors for all {flux[0].size} pixels, but those of the file cover"
        f" {own.shape[1]} rows and {own.shape[2]} columns; beyond them they are photon and read noise",
        DataWarning,
    )
    return flux, errors


def _factor(header: Header, noise: Noise, path: Path) -> float:
    """Return what turns the image into electron / s."""
    unit = header.get("BUNIT")
    text = re.sub(r"\be-(?!\w)", "electron", str(unit or "")).replace("electrons", "electron")
    if text and Unit(text, parse_strict="silent") == Unit("electron / s"):
        return 1.0
    if text and Unit(text, parse_strict="silent") == Unit("electron"):
        return rate_factor("electron", noise, "the image", path)
    raise FileError(
        f"{path}: expected an image in electron / s, got BUNIT = {unit!r};"
        " convert it and use bayesprf.io.pixels.ffi.image_pixels"
    )


def _motion(image: ImageFile, first: ImageFile, used: tuple[slice, slice]) -> FloatArray:
    """Return how far the stars of an image moved from the first image, column and row, pixel, shape (1, 2)."""
    if image.wcs is first.wcs:
        return np.zeros((1, 2))
    row, column = (grid.ravel() for grid in np.meshgrid(*(np.linspace(p.start, p.stop - 1, 3) for p in used)))
    sky = first.wcs.all_pix2world(column, row, 0)
    moved = np.stack(image.wcs.all_world2pix(*sky, 0, quiet=True), axis=1) - np.stack([column, row], axis=1)
    shift = moved.mean(axis=0)
    if not np.hypot(*shift) < _ELSEWHERE:
        raise InputError(
            f"file: expected images of one place on the sky, but {image.path.name} lies {np.hypot(*shift):.3g} pixels"
            f" from {first.path.name}; read them in separate calls, or give wcs="
        )
    return np.asarray(shift[None], np.float64)


def _given(value: float | None, found: float | None, name: str, keys: str, path: Path) -> float:
    """Return what the user gave, or else what the header has."""
    if value is None and found is None:
        raise InputError(f"{name}: expected a number, because the header of {path} has no {keys}; give {name}=")
    return float(value if value is not None else found)  # type: ignore[arg-type]


def _given_times(time: object, n_image: int) -> FloatArray | None:
    if time is None:
        return None
    times = np.atleast_1d(as_float(time, "time", unit="day"))
    if times.shape != (n_image,):
        raise ShapeError(f"time: expected one number for each of {n_image} images, got shape {times.shape}")
    return times


def _times(image: ImageFile, mission: Instrument) -> FloatArray:
    """Return the time of the image of a file."""
    if len(image.flux) > 1:
        raise InputError(
            f"time: expected the times of the {len(image.flux)} images of {image.path}, because a header has one only;"
            " give time= with one number each"
        )
    return np.array(
        [_given(None, read_mid_time(image.header, mission), "time", "TSTART, TSTOP and BJDREFI", image.path)]
    )


def _slice(limits: tuple[int, int] | None, size: int, name: str) -> slice:
    if limits is None:
        return slice(0, size)
    first, last = limits
    if not 0 <= first < last <= size:
        raise InputError(f"{name}: expected first and last-plus-one index within 0 to {size}, got {shown(limits)}")
    return slice(int(first), int(last))


def _describe(images: Sequence[ImageFile], instrument: Instrument, sky_block: int | None) -> NamedDict:
    header, wcs = images[0].header, images[0].wcs
    said = header.get("BACKAPP")
    removed = True if sky_block is not None else bool(said) if isinstance(said, int | float) else None
    x, y = read_number(header, "BTC_PIX1"), read_number(header, "BTC_PIX2")
    centre = (0.5 * images[0].flux.shape[2], 0.5 * images[0].flux.shape[1])
    direction = sky_of(wcs, *(centre if x is None or y is None else (x - 1.0, y - 1.0)))
    return {
        "files": [one.path.name for one in images],
        "sha256": [one.sha256 for one in images],
        "mission": instrument.name,
        "background_removed": [removed] * len(images),
        "background_subtracted": removed,
        "time_direction": unit_vector(float(direction[0]), float(direction[1])),
        **{key.lower(): header[key] for key in _META_KEYS if key in header},
    }
