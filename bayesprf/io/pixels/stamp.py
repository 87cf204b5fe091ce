"""One target pixel file as a Stamp: its usable pixels with their places, times and quality bits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from bayesprf.arrays import AnyArray, FloatArray, IntArray, Named, NamedDict
from bayesprf.errors import FileError
from bayesprf.instruments import Instrument
from bayesprf.io.files import sha256_of
from bayesprf.io.pixels.fits_file import Unit, check_local, drop_wrong_shapes, guarded_read, open_fits
from bayesprf.io.pixels.headers import (
    STACK_KEYS,
    Header,
    find_instrument,
    plain_header,
    read_exposure,
    read_noise_of,
    read_number,
    read_target,
    settle_mission,
)
from bayesprf.io.pixels.noise import Noise, question_errors, question_flux, rate_factor
from bayesprf.io.pixels.place import Place, check_positions, find_place

if TYPE_CHECKING:
    import os

_KIND = "a target pixel file"
_REQUIRED_COLUMNS = ("TIME", "FLUX", "FLUX_ERR", "QUALITY")
_OPTIONAL_COLUMNS = ("CADENCENO", "FLUX_BKG", "POS_CORR1", "POS_CORR2", "FFI_FILE")
# Bits of the APERTURE extension (Kepler Archive Manual KDMC-10008-006, section 2.3.2; the same for TESS).
COLLECTED, OPTIMAL_APERTURE = 1, 2
# Format: times outside the years 2000 to 2100 are no times of these missions, Julian date.
_JULIAN_DATES = (2451545.0, 2488070.0)
# Format: detector position for which times of full frame images of TESS are barycentric: BTC_PIX1, BTC_PIX2 of their
# headers.
_FRAME_CENTRE = (1068.0, 1024.0)


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """The content of one target pixel file, without the pixels that were not downloaded.

    Parameters
    ----------
    name : str
        File name.
    sha256 : str
        Checksum of the file; empty for an object that has no file.
    instrument : Instrument
        Numbers of the mission.
    identity : mapping of str to object
        Detector, quarter and exposure mode: the same for all files of a stack.
    target : mapping of str to object
        `id`, `ra_deg`, `dec_deg` and `mag` of the target as the header gives them.
    time : ndarray of float64, shape (n_cadence,)
        Mid-exposure times, day since `instrument.time_zero_jd`; NaN where the file has none.
    cadence_number : ndarray of int64, shape (n_cadence,), or None
        Cadence numbers, each once; None where the file has none and its times tell cadences apart.
    quality : ndarray of int64, shape (n_cadence,)
        Quality bits.
    flux, flux_err : ndarray of float32, shape (n_cadence, n_pixel)
        Flux and standard deviation, electron / s.
    pos_corr : ndarray of float64, shape (n_cadence, 2)
        Image motion in column and row, pixel; NaN where the file has none.
    ra_deg, dec_deg : ndarray of float64, shape (n_pixel,)
        Sky position of the pixel centres, degree.
    column, row : ndarray of int64, shape (n_pixel,)
        Detector position.
    optimal : ndarray of bool, shape (n_pixel,)
        Pixels of the mission's aperture.
    background_removed : bool or None
        Whether the mission subtracted the sky; None where the file does not tell.
    direction : tuple of float
        Right ascension and declination for which the times are those of the solar-system barycentre, degree.
    notes, alarms : tuple of str
        What was made of the file's oddities: harmless ones, and those worth a warning.
    """

    name: str
    sha256: str
    instrument: Instrument
    identity: Named
    target: Named
    time: FloatArray
    cadence_number: IntArray | None
    quality: IntArray
    flux: NDArray[np.float32]
    flux_err: NDArray[np.float32]
    pos_corr: FloatArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    column: IntArray
    row: IntArray
    optimal: NDArray[np.bool_]
    background_removed: bool | None
    direction: tuple[float, float]
    notes: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StampOptions:
    """What the caller of the reader knows better than the file.

    Parameters
    ----------
    wcs : astropy.wcs.WCS or "detector", optional
        Sky coordinates of the array's indices, or the detector's own plane where a file has none.
    exposure : float, optional
        Time in which the light of one cadence was collected, s.
    error_floor : float, "noise", "auto" or None
        Errors below this, electron / s, or below the photon and read noise, are raised to it; "auto" does so where
        they are impossible.
    """

    wcs: WCS | str | None = None
    exposure: float | None = None
    error_floor: float | str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """What astropy reads from one file: headers without empty cards, columns, their units, and the aperture."""

    primary: Header
    header: Header
    columns: Mapping[str, AnyArray]
    units: Mapping[str, str]
    number: int
    aperture: IntArray
    aperture_header: Header
    broken: tuple[str, ...]
    intact: bool | None


def read_stamp(source: object, options: StampOptions | None = None) -> Stamp:
    """Read one target pixel file.

    Parameters
    ----------
    source : path-like, HDUList or object with `hdu`
        A file, an open one, or an object that holds it as `hdu` (a lightkurve TargetPixelFile).
    options : StampOptions, optional
        What the caller knows better than the file.

    Returns
    -------
    Stamp

    Raises
    ------
    FileError
        If the file is missing, cut short, not a target pixel file, or of a mission that is not known.
    """
    options = options or StampOptions()
    hdus = source if isinstance(source, fits.HDUList) else getattr(source, "hdu", None)
    if hdus is not None:
        path = _path_of(source, hdus)
        parts = guarded_read(path, lambda: _read_parts(hdus, [], path), _KIND)
    else:
        path = _existing(source)
        parts = guarded_read(path, lambda: _open_and_read(path), _KIND)
    with np.errstate(invalid="ignore", over="ignore"):  # damaged numbers are judged, not computed with
        return _make_stamp(parts, path, options)


def _existing(source: object) -> Path:
    check_local(source, "files")
    path = Path(cast("str | os.PathLike[str]", source))
    if not path.is_file():
        raise FileError(f"{path}: expected a target pixel file, found no file of this name")
    return path


def _path_of(source: object, hdus: fits.HDUList) -> Path:
    """Return the path of an object's file, or a name for an object made in memory."""
    for path in (getattr(source, "path", None), hdus.filename()):
        if isinstance(path, str | Path):
            return Path(path)
    return Path(str((hdus[0].header.get("OBJECT") if len(hdus) else None) or type(source).__name__))


def _open_and_read(path: Path) -> _Parts:
    with open_fits(path) as (hdus, units):
        return _read_parts(hdus, units, path)


def _read_parts(hdus: fits.HDUList, units: list[Unit], path: Path) -> _Parts:
    table, aperture = _find_extensions(hdus, path)
    broken = drop_wrong_shapes(table)
    names = [str(name) for name in table.columns.names]
    missing = [name for name in _REQUIRED_COLUMNS if name not in names]
    if missing:
        raise FileError(
            f"{path}: expected a target pixel file, but its table has no column {', '.join(missing)};"
            f" it has {', '.join(names)}"
        )
    if table.header.get("NAXIS1", table.columns.dtype.itemsize) != table.columns.dtype.itemsize:
        raise FileError(f"{path}: expected rows of {table.header['NAXIS1']} bytes, but its columns do not add up to it")
    if len(table.data) == 0:
        raise FileError(f"{path}: expected a target pixel file, but its table has no cadence")
    columns = {name: np.array(table.data[name]) for name in _REQUIRED_COLUMNS}
    for name in set(_OPTIONAL_COLUMNS) & set(names) - broken:
        try:
            columns[name] = np.array(table.data[name])
        except Exception:  # whatever is wrong with a column that is not needed
            broken.add(name)
    return _Parts(
        primary=plain_header(hdus[0].header),
        header=plain_header(table.header),
        columns=columns,
        units={name: str(table.columns[name].unit) for name in columns if table.columns[name].unit},
        number=names.index("FLUX") + 1,
        aperture=np.array(aperture.data).astype(np.int64),
        aperture_header=plain_header(aperture.header),
        broken=tuple(sorted(broken & {*_REQUIRED_COLUMNS, *_OPTIONAL_COLUMNS})),
        intact=units[1].intact if len(units) > 1 else None,
    )


def _find_extensions(hdus: fits.HDUList, path: Path) -> tuple[fits.BinTableHDU, fits.ImageHDU]:
    """Return the pixel table (first extension) and the APERTURE image, or raise saying what is missing."""
    if len(hdus) < 2 or not isinstance(hdus[1], fits.BinTableHDU):
        is_image = any(
            isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU) and hdu.header.get("NAXIS") in (2, 3) for hdu in hdus
        )
        cure = "; an image is read by bayesprf.read_image, whose pixels bayesprf.fit takes" if is_image else ""
        raise FileError(f"{path}: expected a target pixel file, but its first extension is not a table of pixels{cure}")
    if _is_light_curve(hdus[1].header):
        raise FileError(
            f"{path}: expected a target pixel file, got a light curve, whose FLUX is one number per cadence; give the"
            " file of the pixels (targ.fits, tp.fits)"
        )
    if "APERTURE" not in [hdu.name for hdu in hdus]:
        raise FileError(
            f"{path}: expected a target pixel file, but it has no APERTURE extension; its table has the columns"
            f" {', '.join(_column_numbers(hdus[1].header))}"
        )
    return hdus[1], hdus["APERTURE"]


def _is_light_curve(header: fits.Header) -> bool:
    """Whether a table holds one flux per cadence, as light curves of the archives and of this package do.

    By its header: columns are not looked at before `drop_wrong_shapes` has mended their shapes.
    """
    number = _column_numbers(header)
    if "FLUX" not in number:
        return "SAP_FLUX" in number
    k = number["FLUX"]
    return str(header.get(f"TFORM{k}")).strip().removeprefix("1") in ("E", "D") and f"TDIM{k}" not in header


def _column_numbers(header: fits.Header) -> dict[str, int]:
    """Return the number of every column that a header names."""
    return {str(header.get(f"TTYPE{k}")): k for k in range(1, int(header.get("TFIELDS", 0)) + 1)}


def _make_stamp(parts: _Parts, path: Path, options: StampOptions) -> Stamp:
    instrument = find_instrument(parts.primary, path)
    keep = _choose_pixels(parts, path)
    place = _find_place(parts, path, options, instrument)
    y, x = np.nonzero(keep)
    ra_deg, dec_deg = guarded_read(path, lambda: place.sky(x, y), _KIND)
    check_positions(ra_deg, dec_deg, path)
    notes, alarms = list(place.notes), [*_damage(parts, path), *place.alarms]
    time = _read_time(parts, instrument, path)
    instrument = settle_mission(instrument, parts.primary, time)
    cadence_number, said = _read_cadence_number(parts, time, path)
    pos_corr, motion = _read_pos_corr(parts, path)
    pixels = _read_pixels(parts, keep, time, instrument, path, options)
    target = read_target(parts.primary, path.name)
    return Stamp(
        name=path.name,
        sha256=sha256_of(path) if path.is_file() else "",
        instrument=instrument,
        identity=_read_identity(parts),
        target=target,
        time=time,
        cadence_number=cadence_number,
        quality=parts.columns["QUALITY"].astype(np.int64),
        flux=pixels.flux,
        flux_err=pixels.flux_err,
        pos_corr=pos_corr,
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        column=place.column + x,
        row=place.row + y,
        optimal=parts.aperture[keep] & OPTIMAL_APERTURE > 0,
        background_removed=_find_background(parts),
        direction=_find_direction(parts, place, target, (ra_deg, dec_deg), path),
        notes=(*notes, *said, *motion, *pixels.notes),
        alarms=(*alarms, *pixels.alarms),
    )


def _find_place(parts: _Parts, path: Path, options: StampOptions, instrument: Instrument) -> Place:
    given = options.wcs if isinstance(options.wcs, WCS) else None
    plane = None if options.wcs is None else instrument.pixel_scale
    return find_place(parts.header, parts.aperture_header, parts.number, path, wcs=given, plane=plane)


def _choose_pixels(parts: _Parts, path: Path) -> NDArray[np.bool_]:
    """Return which pixels were downloaded and have a finite flux, shape (n_row, n_column)."""
    flux, errors = parts.columns["FLUX"], parts.columns["FLUX_ERR"]
    if flux.ndim != 3 or parts.aperture.shape != flux.shape[1:] or errors.shape != flux.shape:
        turned = parts.aperture.shape == flux.shape[:0:-1]
        cure = "; lightkurve saves a cutout that is no square so: give its object itself" if turned else ""
        raise FileError(
            f"{path}: expected APERTURE, FLUX and FLUX_ERR images of one shape, got {parts.aperture.shape},"
            f" {flux.shape[1:]} and {errors.shape[1:]}{cure}"
        )
    finite = np.isfinite(flux).any(axis=0)
    keep = (parts.aperture & COLLECTED > 0) & finite
    if finite.any() and not keep.any():
        raise FileError(
            f"{path}: expected APERTURE to mark the pixels that were collected with bit {COLLECTED}, but it marks none"
            f" of {np.count_nonzero(finite)} with a finite flux; set it where the pixels are good"
        )
    if not keep.any():
        raise FileError(f"{path}: expected pixel data, but no pixel of this file has a finite flux")
    return np.asarray(keep, bool)


def _damage(parts: _Parts, path: Path) -> list[str]:
    found = []
    if parts.intact is False:
        found.append(
            f"{path.name}: expected the pixels that DATASUM was made from, got others: the file was changed after it"
            " was written, by a tool or by damage; download it again if you did not change it"
        )
    if set(parts.broken) & {"FLUX", "FLUX_ERR", "TIME", "QUALITY"}:
        raise FileError(f"{path}: expected columns as wide as TDIM says, but {', '.join(parts.broken)} is not")
    if parts.broken:
        found.append(f"{path.name}: left out {', '.join(parts.broken)}, which cannot be read as its header says")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Pixels:
    flux: NDArray[np.float32]
    flux_err: NDArray[np.float32]
    notes: list[str]
    alarms: list[str]


def _read_pixels(
    parts: _Parts, keep: NDArray[np.bool_], time: FloatArray, instrument: Instrument, path: Path, options: StampOptions
) -> _Pixels:
    """Return flux and errors in electron / s, and what was found about them."""
    exposure = options.exposure or read_exposure(parts.header, instrument, _median_step(time))
    noise = Noise(exposure, None if exposure is None else read_noise_of(parts.header, instrument, exposure))
    cubes: dict[str, NDArray[np.float32]] = {}
    alarms = []
    for name in ("FLUX", "FLUX_ERR", "FLUX_BKG"):
        if name not in parts.columns or parts.columns[name].shape[1:] != keep.shape:
            continue
        unit = parts.units.get(name, parts.units.get("FLUX"))
        factor = rate_factor(unit, noise, name, path)
        values = np.asarray(parts.columns[name][:, keep], np.float32)
        cubes[name] = values if factor == 1.0 else values * np.float32(factor)
        if factor != 1.0 and name == "FLUX":
            alarms.append(f"{path.name}: FLUX is in {unit}; divided by {exposure:.6g} s of light in each cadence")
    flux, notes, doubts = question_flux(cubes["FLUX"], instrument, path)
    unit, floor = parts.units.get("FLUX"), options.error_floor
    flux_err, more = question_errors(
        flux, cubes["FLUX_ERR"], cubes.get("FLUX_BKG"), noise, floor=floor, unit=unit, path=path
    )
    return _Pixels(flux, flux_err, notes, [*alarms, *doubts, *more])


def _median_step(time: FloatArray) -> float | None:
    """Return the median time between cadences, day."""
    known = np.sort(time[np.isfinite(time)])
    return float(np.median(np.diff(known))) if known.size > 1 else None


def _read_identity(parts: _Parts) -> NamedDict:
    both = {**parts.header, **parts.primary}
    return {key: both[key] for key in STACK_KEYS if key in both}


def _read_time(parts: _Parts, instrument: Instrument, path: Path) -> FloatArray:
    """Return times since the mission's zero; rows with TIME NaN or 0 carry no time and become NaN."""
    time = parts.columns["TIME"].astype(np.float64)
    time[(time == 0) | ~np.isfinite(time)] = np.nan
    whole = read_number(parts.header, "BJDREFI")
    zero = (instrument.time_zero_jd if whole is None else whole) + (read_number(parts.header, "BJDREFF") or 0.0)
    with np.errstate(invalid="ignore"):
        outside = (time + zero < _JULIAN_DATES[0]) | (time + zero > _JULIAN_DATES[1])
    if outside.any():
        raise FileError(
            f"{path}: expected TIME and BJDREFI to give a date of this century, got Julian date"
            f" {time[outside][0] + zero:.6g}; the file is damaged or counts from elsewhere"
        )
    return time + (zero - instrument.time_zero_jd)


def _read_cadence_number(parts: _Parts, time: FloatArray, path: Path) -> tuple[IntArray | None, list[str]]:
    """Return cadence numbers, or None where TIME must tell cadences apart, and a note that says so.

    Cutouts of full frame images have only zeros: their frames are known by file name.
    """
    numbers = parts.columns.get("CADENCENO")
    numbers = None if numbers is None or numbers.ndim != 1 else numbers.astype(np.int64)
    if numbers is None or _is_constant(numbers):
        stamps = [
            "".join(c for c in str(one).split("-")[0] if c.isdigit()) for one in parts.columns.get("FFI_FILE", ())
        ]
        numbers = np.array([int(one[:18] or 0) for one in stamps], np.int64) if stamps else None
    if numbers is None or _is_constant(numbers):
        _check_order(time, np.argsort(time), path, "row to row")
        return None, [f"{path.name}: has no cadence numbers, TIME tells its cadences apart"]
    if np.unique(numbers).size < numbers.size:
        raise FileError(f"{path}: expected every cadence number once, but CADENCENO repeats")
    _check_order(time, np.argsort(numbers), path, "cadence to cadence")
    return numbers, []


def _is_constant(numbers: IntArray) -> bool:
    return numbers.size > 1 and bool((numbers == numbers[0]).all())


def _check_order(time: FloatArray, order: IntArray, path: Path, step: str) -> None:
    known = time[order][np.isfinite(time[order])]
    back = np.flatnonzero(np.diff(known) <= 0)
    if back.size:
        raise FileError(
            f"{path}: expected TIME to grow from {step}, but after {known[back[0]]:.6f} day comes"
            f" {known[back[0] + 1]:.6f}; the file is damaged"
        )


def _read_pos_corr(parts: _Parts, path: Path) -> tuple[FloatArray, list[str]]:
    """Return the image motion, NaN where the file has none; one that never changes stands for none."""
    names = ("POS_CORR1", "POS_CORR2")
    n_time = parts.columns["TIME"].size
    missing = np.full((n_time, 2), np.nan)
    if any(name not in parts.columns or parts.columns[name].shape != (n_time,) for name in names):
        return missing, []
    motion = np.stack([parts.columns[name].astype(np.float64) for name in names], axis=1)
    known = motion[np.isfinite(motion).all(axis=1)]
    if known.size and (known == known[0]).all() and (len(known) > 1 or not known.any()):
        return missing, [f"{path.name}: POS_CORR is {known[0].tolist()} in every cadence, which stands for none"]
    return motion, []


def _find_background(parts: _Parts) -> bool | None:
    """Return whether the sky was subtracted: BACKAPP, or what the columns tell where it is empty."""
    said = parts.header.get("BACKAPP")
    if isinstance(said, int | float):
        return bool(said)
    if "FFI_FILE" in parts.columns:
        return False
    sky = parts.columns.get("FLUX_BKG")
    return True if sky is not None and np.any(np.isfinite(sky) & (sky != 0)) else None


def _find_direction(
    parts: _Parts, place: Place, target: Named, sky: tuple[FloatArray, FloatArray], path: Path
) -> tuple[float, float]:
    """Return the direction for which the times are barycentric: the target, or the middle of a full frame."""
    if "FFI_FILE" in parts.columns:
        x, y = _FRAME_CENTRE[0] - place.column, _FRAME_CENTRE[1] - place.row
        ra_deg, dec_deg = guarded_read(path, lambda: place.sky(x, y), _KIND)
        if np.isfinite(ra_deg) and np.isfinite(dec_deg):
            return float(ra_deg), float(dec_deg)
    if np.isfinite(target["ra_deg"]) and np.isfinite(target["dec_deg"]):
        return float(target["ra_deg"]), float(target["dec_deg"])
    middle = len(sky[0]) // 2
    return float(sky[0][middle]), float(sky[1][middle])
