"""One target pixel file as a Stamp: its usable pixels with their places, times and quality bits."""

import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, FITSFixedWarning, WcsError
from numpy.typing import NDArray

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import FileError
from bayesprf.instruments import INSTRUMENTS, Instrument
from bayesprf.io.files import sha256_of

_REQUIRED_COLUMNS = ("TIME", "CADENCENO", "FLUX", "FLUX_ERR", "QUALITY")
# What astropy raises for a file that is cut short, damaged or not FITS at all.
_DAMAGE = (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError, fits.VerifyError, WcsError)
# Header keywords that say which detector, when and how: files of one stack agree in all of them.
_STACK_KEYS = ("CHANNEL", "CAMERA", "CCD", "QUARTER", "CAMPAIGN", "SECTOR", "OBSMODE", "NUM_FRM")
_TARGET_KEYS = ("KEPLERID", "TICID")
_MAGNITUDE_KEYS = ("KEPMAG", "TESSMAG")
# Bits of the APERTURE extension (Kepler Archive Manual KDMC-10008-006, section 2.3.2; the same for TESS).
_COLLECTED, _OPTIMAL_APERTURE = 1, 2


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
    cadence_number, quality : ndarray of int64, shape (n_cadence,)
        Cadence numbers, each once, and quality bits.
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
    background_subtracted : bool
        Whether the mission took the background off.
    """

    name: str
    sha256: str
    instrument: Instrument
    identity: Mapping[str, Any]
    target: Mapping[str, Any]
    time: FloatArray
    cadence_number: IntArray
    quality: IntArray
    flux: NDArray[np.float32]
    flux_err: NDArray[np.float32]
    pos_corr: FloatArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    column: IntArray
    row: IntArray
    optimal: NDArray[np.bool_]
    background_subtracted: bool


def read_stamp(source: Any) -> Stamp:
    """Read one target pixel file.

    Parameters
    ----------
    source : path-like or object with `hdu`
        A file, or an object that holds the open file as `hdu` (a lightkurve TargetPixelFile).

    Returns
    -------
    Stamp

    Raises
    ------
    FileError
        If the file is missing, cut short, not a target pixel file, or of a mission that is not known.
    """
    if hasattr(source, "hdu"):
        path = _path_of(source)
        return guarded_read(path, lambda: _from_hdus(source.hdu, path), "a target pixel file")
    path = Path(source)
    if not path.is_file():
        raise FileError(f"{path}: expected a target pixel file, found no file of this name")
    return guarded_read(path, lambda: _open_and_read(path), "a target pixel file")


def _path_of(source: Any) -> Path:
    """Return the path of an object's file, or a name for an object made in memory."""
    for path in (getattr(source, "path", None), source.hdu.filename()):
        if isinstance(path, str | Path):
            return Path(path)
    return Path(str(source.hdu[0].header.get("OBJECT") or type(source).__name__))


def guarded_read[T](path: Path, read: Callable[[], T], kind: str) -> T:
    """Run a reader, and turn whatever astropy says about a damaged file into one FileError.

    Parameters
    ----------
    path : Path
        The file, for the message.
    read : callable
        Reads it.
    kind : str
        What the file should be, for the message.

    Returns
    -------
    object
        What `read` returns.

    Raises
    ------
    FileError
        If the file is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyUserWarning)  # headers of real files bend the FITS rules
        warnings.simplefilter("ignore", FITSFixedWarning)
        warnings.filterwarnings("error", ".*truncated.*", AstropyUserWarning)
        try:
            return read()
        except FileError:
            raise
        except (*_DAMAGE, AstropyUserWarning) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise FileError(
                f"{path}: expected {kind}, but it cannot be read ({reason});"
                " it may be cut short or damaged: download it again"
            ) from error


def _open_and_read(path: Path) -> Stamp:
    with fits.open(path, mode="readonly", memmap=True) as hdus:
        return _from_hdus(hdus, path)


def _from_hdus(hdus: fits.HDUList, path: Path) -> Stamp:
    table, aperture = _find_extensions(hdus, path)
    primary, header, data = hdus[0].header, table.header, table.data
    instrument = find_instrument(primary, path)
    place = _Grid(header, aperture, data.columns.names.index("FLUX") + 1, path)
    image = np.asarray(aperture.data).astype(np.int64)
    if image.shape != data["FLUX"].shape[1:]:
        raise FileError(
            f"{path}: expected APERTURE and FLUX images of one shape, got {image.shape} and {data['FLUX'].shape[1:]}"
        )
    keep = (image & _COLLECTED > 0) & np.isfinite(data["FLUX"]).any(axis=0)
    if not keep.any():
        raise FileError(f"{path}: expected pixel data, but no pixel of this file has a finite flux")
    y, x = np.nonzero(keep)
    ra_deg, dec_deg = place.sky(x, y)
    return Stamp(
        name=path.name,
        sha256=sha256_of(path) if path.is_file() else "",
        instrument=instrument,
        identity={key: value for key in _STACK_KEYS if (value := header_value(primary, header, key)) is not None},
        target=_read_target(primary, path),
        time=_read_time(data, header, instrument),
        cadence_number=_read_cadence_number(data, path),
        quality=np.asarray(data["QUALITY"]).astype(np.int64),
        flux=np.asarray(data["FLUX"][:, keep], dtype=np.float32),
        flux_err=np.asarray(data["FLUX_ERR"][:, keep], dtype=np.float32),
        pos_corr=_read_pos_corr(data),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        column=place.column + x,
        row=place.row + y,
        optimal=image[keep] & _OPTIMAL_APERTURE > 0,
        background_subtracted=bool(header.get("BACKAPP", True)),
    )


def _find_extensions(hdus: fits.HDUList, path: Path) -> tuple[fits.BinTableHDU, fits.ImageHDU]:
    """Return the pixel table (first extension) and the APERTURE image, or raise saying what is missing."""
    if len(hdus) < 2 or not isinstance(hdus[1], fits.BinTableHDU):
        raise FileError(f"{path}: expected a target pixel file, but its first extension is not a table of pixels")
    missing = [name for name in _REQUIRED_COLUMNS if name not in hdus[1].columns.names]
    if missing:
        raise FileError(
            f"{path}: expected a target pixel file, but its table has no column {', '.join(missing)};"
            f" it has {', '.join(hdus[1].columns.names)}"
        )
    if "APERTURE" not in [hdu.name for hdu in hdus]:
        raise FileError(f"{path}: expected a target pixel file, but it has no APERTURE extension")
    if len(hdus[1].data) == 0:
        raise FileError(f"{path}: expected a target pixel file, but its table has no cadence")
    return hdus[1], hdus["APERTURE"]


def find_instrument(primary: fits.Header, path: Path) -> Instrument:
    """Return the mission that a header names.

    Parameters
    ----------
    primary : astropy.io.fits.Header
        Header with TELESCOP.
    path : Path
        The file, for the message.

    Returns
    -------
    Instrument

    Raises
    ------
    FileError
        If it is neither Kepler nor TESS.
    """
    telescope = str(primary.get("TELESCOP") or "").strip().upper()
    if telescope == "TESS":
        return INSTRUMENTS["TESS"]
    if telescope == "KEPLER":
        is_k2 = primary.get("MISSION") == "K2" or primary.get("CAMPAIGN") is not None
        return INSTRUMENTS["K2" if is_k2 else "Kepler"]
    raise FileError(f"{path}: expected TELESCOP to be Kepler or TESS, got {primary.get('TELESCOP')!r}")


def header_value(primary: fits.Header, header: fits.Header, key: str) -> Any:
    """Return the value of a keyword, of the first header that has it; None where it is missing or empty.

    Parameters
    ----------
    primary, header : astropy.io.fits.Header
        Where to look.
    key : str
        The keyword.

    Returns
    -------
    object or None
    """
    value = primary.get(key, header.get(key))
    return None if isinstance(value, fits.card.Undefined) else value


def _read_target(primary: fits.Header, path: Path) -> dict[str, Any]:
    number = next((primary[key] for key in _TARGET_KEYS if isinstance(primary.get(key), int)), None)
    return {
        "id": str(primary.get("OBJECT") or number or path.name),
        "ra_deg": _number_or_nan(primary, "RA_OBJ"),
        "dec_deg": _number_or_nan(primary, "DEC_OBJ"),
        "mag": _number_or_nan(primary, *_MAGNITUDE_KEYS),
    }


def _number_or_nan(header: fits.Header, *keys: str) -> float:
    """Return the first of the keywords that holds a number, or NaN."""
    return next((float(header[key]) for key in keys if isinstance(header.get(key), int | float)), np.nan)


def _read_time(data: Any, header: fits.Header, instrument: Instrument) -> FloatArray:
    """Return times since the mission's zero; rows with TIME NaN or 0 carry no time and become NaN."""
    time = np.asarray(data["TIME"]).astype(np.float64)
    time[time == 0] = np.nan
    zero = header.get("BJDREFI", instrument.time_zero_jd) + header.get("BJDREFF", 0.0)
    return time + (zero - instrument.time_zero_jd)


def _read_cadence_number(data: Any, path: Path) -> IntArray:
    """Return cadence numbers; cutouts of full frame images have only zeros, their frames are known by file name."""
    numbers = np.asarray(data["CADENCENO"]).astype(np.int64)
    if np.unique(numbers).size < numbers.size and "FFI_FILE" in data.columns.names:
        stamps = ["".join(c for c in str(one).split("-")[0] if c.isdigit()) for one in data["FFI_FILE"]]
        numbers = np.array([int(one or 0) for one in stamps], np.int64)
    if np.unique(numbers).size < numbers.size:
        raise FileError(f"{path}: expected every cadence number once, but CADENCENO repeats")
    return numbers


def _read_pos_corr(data: Any) -> FloatArray:
    names = ("POS_CORR1", "POS_CORR2")
    if not set(names) <= set(data.columns.names):
        return np.full((len(data), 2), np.nan)
    return np.stack([np.asarray(data[name]).astype(np.float64) for name in names], axis=1)


class _Grid:
    """Where the pixels of one file lie: detector corner, and sky position by the file's own WCS.

    The WCS of the APERTURE image and that of the FLUX column are the same in the missions' files; cutouts of full
    frame images have the detector corner only with the column. Index 0 of the arrays is FITS pixel 1.
    """

    def __init__(self, header: fits.Header, aperture: fits.ImageHDU, number: int, path: Path) -> None:
        corner = []
        for axis in (1, 2):
            value = aperture.header.get(f"CRVAL{axis}P", header.get(f"{axis}CRV{number}P"))
            if value is None:
                raise FileError(
                    f"{path}: expected the detector position of the stamp in CRVAL{axis}P or {axis}CRV{number}P,"
                    " found neither"
                )
            corner.append(int(value))
        self.column, self.row = corner
        self.wcs = WCS(aperture.header)
        if not self.wcs.has_celestial:
            raise FileError(f"{path}: expected sky coordinates in the APERTURE extension, found none")

    def sky(self, x: IntArray, y: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return right ascension and declination of pixel centres, degree, from array indices."""
        ra_deg, dec_deg = self.wcs.all_pix2world(x, y, 0)
        return np.asarray(ra_deg, np.float64), np.asarray(dec_deg, np.float64)
