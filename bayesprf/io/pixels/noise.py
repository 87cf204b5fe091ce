"""Units and errors of pixels as files give them: converted, made where they are missing, questioned where impossible.

A pixel that collects f electron / s for T seconds, sky included, and is read n times with a noise of s electron has a
variance of at least (f T + n s**2) / T**2.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.checks import check_positive, shown
from bayesprf.errors import FileError, InputError
from bayesprf.instruments import Instrument

Cube = NDArray[np.float32]

_ELECTRON = r"(e|e-|el|electron|electrons)"
_RATE = re.compile(rf"{_ELECTRON}(\s*/\s*(s|sec|second)|[\s.*]*(s|sec)\s*(\^|\*\*)?\s*\(?-1\)?)", re.IGNORECASE)
_COUNT = re.compile(_ELECTRON, re.IGNORECASE)
# Derived: errors of a tenth of the least noise are impossible: exposures guessed wrong change the noise by the square
# root of the co-added frames, a factor of 2 to 4. In 24 files of the missions the smallest ratio is 1.02.
_IMPOSSIBLE_ERROR = 0.1
# Cost: cadences, evenly spaced, that tell whether a pixel's errors are in doubt.
_LOOKED_AT = 128
# Derived: a pixel cannot hold ten times the full well. Of a file with a hundredth of such values the unit is in doubt.
_IMPOSSIBLE_WELLS, _IMPOSSIBLE_SHARE = 10.0, 0.01
# Derived: numbers of 32 bit with noise are equal once in thousands, three of them once in millions.
_FEWEST_TO_CHANGE = 3


@dataclass(frozen=True, slots=True)
class Noise:
    """What makes the noise of one file.

    Parameters
    ----------
    exposure : float or None
        Time in which the light of one cadence was collected, s; None where not known.
    read : tuple of float or None
        Noise of one read, electron, and number of reads; None where not known.
    """

    exposure: float | None
    read: tuple[float, float] | None

    def least(self, light: FloatArray | Cube) -> FloatArray:
        """Return the photon and read noise of pixels that hold this light, electron / s, same shape."""
        if self.exposure is None or self.read is None:
            raise InputError("exposure: expected a time in seconds, got none; give exposure=")
        electrons = np.maximum(light, 0.0) * self.exposure + self.read[1] * self.read[0] ** 2
        return np.asarray(np.sqrt(electrons) / self.exposure, np.float64)


def rate_factor(unit: str | None, noise: Noise, name: str, path: object) -> float:
    """Return what turns values of this unit into electron / s.

    Parameters
    ----------
    unit : str or None
        As the file gives it; None is taken as electron / s.
    noise : Noise
        Its exposure divides electrons per cadence.
    name : str
        What has the unit, for the message.
    path : path-like
        The file, for the message.

    Returns
    -------
    float

    Raises
    ------
    FileError
        If the unit is another, or the exposure is needed and not known.
    """
    if unit is None or _RATE.fullmatch(unit.strip()):
        return 1.0
    if _COUNT.fullmatch(unit.strip()):
        if noise.exposure is None:
            raise FileError(
                f"{path}: expected {name} in electron / s, got {unit!r}, and neither TIMEDEL nor the times tell how"
                " long light was collected; give exposure="
            )
        return 1.0 / noise.exposure
    raise FileError(
        f"{path}: expected {name} in electron / s or electron, got {unit!r}; convert the pixels and make a PixelTable"
    )


def question_flux(flux: Cube, instrument: Instrument, path: Path) -> tuple[Cube, list[str], list[str]]:
    """Return the flux with NaN for values that no pixel can have, and sentences that say so.

    Parameters
    ----------
    flux : ndarray of float32, shape (n_cadence, n_pixel)
        electron / s.
    instrument : Instrument
        Its saturation level is the measure.
    path : path-like
        The file, for messages.

    Returns
    -------
    flux : ndarray of float32, shape (n_cadence, n_pixel)
    notes, alarms : list of str
        Of cadences that hold nothing, and of single values.

    Raises
    ------
    FileError
        If they are too many for damage of a few values.
    """
    notes, alarms = [], []
    with np.errstate(invalid="ignore"):
        impossible = np.isfinite(flux) & (np.abs(flux) > _IMPOSSIBLE_WELLS * instrument.saturation)
    count, finite = int(impossible.sum()), np.isfinite(flux)
    if count > max(1, _IMPOSSIBLE_SHARE * finite.sum()):
        raise FileError(
            f"{path}: expected FLUX in electron / s, but {count} of {int(finite.sum())} values are beyond ten times the"
            f" full well ({instrument.saturation:.2g} electron / s); its unit must be another, or the file is damaged"
        )
    if count:
        cadence, pixel = (int(one) for one in np.argwhere(impossible)[0])
        alarms.append(
            f"{path.name}: left out {count} impossible values of FLUX, the first {flux[cadence, pixel]:.3g} electron /"
            f" s in row {cadence}; the file may be damaged"
        )
    empty = (flux.shape[1] > 1) & finite.any(axis=1) & ~(finite & (flux != 0)).any(axis=1)
    if empty.any():
        notes.append(f"{path.name}: left out {int(empty.sum())} cadences in which every pixel is exactly 0")
    frozen = _frozen(flux, finite & ~empty[:, None])
    if frozen.any():
        value = flux[np.argmax(finite[:, np.argmax(frozen)]), np.argmax(frozen)]
        alarms.append(
            f"{path.name}: left out {int(frozen.sum())} of {frozen.size} pixels that hold the same number in all"
            f" {len(flux)} cadences, the first {value:.6g}, which stands for none"
        )
    if count or empty.any() or frozen.any():
        flux = np.where(impossible | empty[:, None] | frozen, np.float32(np.nan), flux)
    return flux, notes, alarms


def _frozen(flux: Cube, known: BoolArray) -> BoolArray:
    """Return which pixels hold one number in every cadence while others change, shape (n_pixel,)."""
    low = np.where(known, flux, np.inf).min(axis=0)
    high = np.where(known, flux, -np.inf).max(axis=0)
    same = (low == high) & (known.sum(axis=0) >= _FEWEST_TO_CHANGE)
    return same if np.any(low < high) else np.zeros_like(same)


def question_errors(
    flux: Cube,
    flux_err: Cube,
    sky: Cube | None,
    noise: Noise,
    *,
    floor: str | float | None,
    unit: str | None,
    path: Path,
) -> tuple[Cube, list[str]]:
    """Return errors that can be used, and sentences that say what was made, raised or is in doubt.

    Parameters
    ----------
    flux, flux_err : ndarray of float32, shape (n_cadence, n_pixel)
        electron / s.
    sky : ndarray of float32, shape (n_cadence, n_pixel), optional
        Light that the mission subtracted, electron / s.
    noise : Noise
        Of the file.
    floor : float, "noise", "auto" or None
        Errors below this, electron / s, or below the photon and read noise, are raised to it; "auto" raises them to
        that noise if those of some pixels are impossible.
    unit : str or None
        Unit of FLUX in the file, for messages.
    path : path-like
        The file, for messages.

    Returns
    -------
    flux_err : ndarray of float32, shape (n_cadence, n_pixel)
    alarms : list of str

    Raises
    ------
    FileError
        If an error is negative, or all are missing and the noise is not known.
    """
    with np.errstate(invalid="ignore"):
        if (flux_err < 0).any():
            cadence, pixel = (int(one) for one in np.argwhere(flux_err < 0)[0])
            raise FileError(
                f"{path}: expected FLUX_ERR of 0 or more, got {flux_err[cadence, pixel]} in row {cadence}; the file is"
                " damaged: download it again"
            )
        usable = np.isfinite(flux) & np.isfinite(flux_err) & (flux_err > 0)
    light = flux if sky is None else flux + np.nan_to_num(np.maximum(sky, 0))
    known = noise.exposure is not None and noise.read is not None
    if not usable.any():
        return _made_errors(light, noise, known=known, unit=unit, path=path)
    doubts = _doubts(light, flux_err, usable, noise, path) if known and floor in (None, "auto") else []
    if floor == "auto":
        floor = "noise" if doubts else None
        doubts = [f"{one}; raised to it" for one in doubts]
    elif floor is None:
        doubts = [f"{one}; raise them with error_floor='noise' or a number of electron / s" for one in doubts]
    if floor is not None:
        lowest = noise.least(light) if floor == "noise" else np.full(flux.shape, float(floor))
        with np.errstate(invalid="ignore"):
            return np.where(usable & (flux_err < lowest), lowest, flux_err).astype(np.float32), doubts
    return flux_err, doubts


def _made_errors(light: Cube, noise: Noise, *, known: bool, unit: str | None, path: Path) -> tuple[Cube, list[str]]:
    """Return photon and read noise in place of errors that are 0 or NaN everywhere."""
    said = f"FLUX is in {unit or 'an unnamed unit'} and FLUX_ERR is 0 or NaN everywhere"
    if not known:
        raise FileError(
            f"{path}: expected errors, but {said}, and neither header nor instrument tell exposure and read noise;"
            " give exposure=, or make a PixelTable with errors of your own"
        )
    errors = noise.least(light).astype(np.float32)
    reads, count = noise.read or (0.0, 0.0)
    return errors, [
        f"{path.name}: {said}; the errors are photon noise in {noise.exposure:.4g} s of light and {count:.0f} reads of"
        f" {reads:.3g} electron"
    ]


def _doubts(light: Cube, flux_err: Cube, usable: BoolArray, noise: Noise, path: Path) -> list[str]:
    """Return a sentence if most errors of some pixels are far below photon and read noise."""
    part = slice(None, None, max(1, len(light) // _LOOKED_AT))
    light, flux_err, usable = light[part], flux_err[part], usable[part]
    with np.errstate(invalid="ignore", divide="ignore"):
        low = usable & (flux_err < _IMPOSSIBLE_ERROR * noise.least(light))
    pixels = low.sum(axis=0) > 0.5 * np.maximum(usable.sum(axis=0), 1)
    if not pixels.any():
        return []
    return [
        f"{path.name}: expected errors of about the photon and read noise, but those of {int(pixels.sum())} of"
        f" {pixels.size} pixels are more than ten times smaller (down to {flux_err[low].min():.2g} electron / s), and"
        " would decide every fit"
    ]


def check_floor(floor: object) -> None:
    """Raise unless an error floor is None, "noise", "auto" or a number above 0.

    Parameters
    ----------
    floor : object
        What came.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if floor is None or (isinstance(floor, str) and floor in ("noise", "auto")):
        return
    if isinstance(floor, str | bool) or not isinstance(floor, int | float | np.number):
        raise InputError(f"error_floor: expected None, 'noise', 'auto' or a number of electron / s, got {shown(floor)}")
    check_positive(float(floor), "error_floor")
