"""Target pixel files of Kepler, K2 and TESS -> PixelTable."""

import glob
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import check_choice
from bayesprf.errors import DataWarning, FileError, InputError
from bayesprf.instruments import Instrument
from bayesprf.io.stamp import Stamp, read_stamp
from bayesprf.scene.pixels import PixelTable

_PATTERNS = ("*.fits", "*.fits.gz")


def read_tpfs(
    files: Any, *, quality_bitmask: str | int = "default", on_error: str = "raise", cadences: str = "common"
) -> PixelTable:
    """Read target pixel files of one detector and one quarter, campaign or sector as one stack.

    Parameters
    ----------
    files : path-like, object with `hdu`, or sequence of them
        Files, directories (every ``*.fits`` and ``*.fits.gz`` in them), glob patterns, or lightkurve
        TargetPixelFile objects (all their cadences; their own quality mask is not used).
    quality_bitmask : str or int
        Cadences with any of these QUALITY bits in any file are left out: "default" is the mission's
        `Instrument.quality_bitmask`, "none" keeps all.
    on_error : str
        "raise", or "skip" to leave out files that cannot be read, with a warning that names each.
    cadences : str
        "common" keeps those that are in every file; "union" keeps all, with NaN for the pixels of files that lack one:
        these pixels drop out of that cadence.

    Returns
    -------
    PixelTable
        `time` in the mission's days since `instrument.time_zero_jd`: the mean over the files, whose
        barycentric corrections differ by the light travel time across the field. `stamp` counts the files.
        `meta` holds `files` (names) and their `sha256`, `mission`, the header's `channel`, `camera`, `ccd`, `quarter`,
        `campaign`, `sector`, ... where present, `background_subtracted`, `quality_bitmask`, `n_duplicates`,
        `n_cadences_rejected`, `targets` (one mapping per file: `id`, `ra_deg`, `dec_deg`, `mag`, `file`, and
        `aperture`, the indices of the pixels in the mission's aperture) and `pipeline_aperture`, int64, shape
        (n_pixel,): the first target whose aperture holds the pixel, or -1.

    Raises
    ------
    FileError
        If a file is missing or cannot be read, or none is found.
    InputError
        If the files do not belong to one stack, share no cadence, or no cadence is left.

    Warns
    -----
    DataWarning
        If cadences are not in every file (with "common" they are left out), if a pixel that lies in several files has
        different values there (the first is used), or if a file is skipped.

    Notes
    -----
    Files are matched on CADENCENO. A pixel (column, row) that lies in several files is kept once.
    """
    check_choice(on_error, ("raise", "skip"), "on_error")
    check_choice(cadences, ("common", "union"), "cadences")
    stamps = _read_stamps(list_tpfs(files), on_error)
    _check_one_stack(stamps)
    if cadences == "union":
        every = np.unique(np.concatenate([stamp.cadence_number for stamp in stamps]))
        stamps = [_fill_cadences(stamp, every) for stamp in stamps]
    instrument = stamps[0].instrument
    bitmask = _parse_bitmask(quality_bitmask, instrument)
    rows = _match_cadences(stamps)
    keep = _choose_cadences(stamps, rows, bitmask)
    rows = [index[keep] for index in rows]
    owners = _first_owners(stamps)
    flux, flux_err = _gather(stamps, rows, owners)
    _check_copies(stamps, rows, owners, flux)
    own = [(stamp, owners.own[i]) for i, stamp in enumerate(stamps)]
    return PixelTable(
        time=_mean_time(stamps, rows),
        flux=flux,
        flux_err=flux_err,
        ra_deg=np.concatenate([stamp.ra_deg[first] for stamp, first in own]),
        dec_deg=np.concatenate([stamp.dec_deg[first] for stamp, first in own]),
        column=np.concatenate([stamp.column[first] for stamp, first in own]),
        row=np.concatenate([stamp.row[first] for stamp, first in own]),
        stamp=np.repeat(np.arange(len(stamps)), [first.sum() for _, first in own]),
        cadence_number=stamps[0].cadence_number[rows[0]],
        pos_corr=_mean_motion(stamps, rows),
        instrument=instrument,
        meta=_describe(stamps, owners) | {"quality_bitmask": bitmask, "n_cadences_rejected": int((~keep).sum())},
    )


def list_tpfs(files: Any) -> list[Any]:
    """Return the single files and objects that `files` stands for; patterns and directories in sorted order.

    Parameters
    ----------
    files : path-like, object with `hdu`, or sequence of them
        As for `read_tpfs`.

    Returns
    -------
    list
        Paths and objects.

    Raises
    ------
    FileError
        If a pattern or directory holds no file.
    InputError
        If an entry is neither a path nor an object with `hdu`, or the list is empty.
    """
    if hasattr(files, "hdu"):
        return [files]
    if isinstance(files, str | os.PathLike):
        return _expand(str(os.fspath(files)))
    if not isinstance(files, Iterable):
        raise InputError(
            "files: expected a path, a pattern, a directory, a lightkurve TargetPixelFile or a list of them,"
            f" got {type(files).__name__}"
        )
    found = [one for entry in files for one in list_tpfs(entry)]
    if not found:
        raise InputError("files: expected at least one target pixel file, got an empty list")
    return found


def _expand(text: str) -> list[Any]:
    if os.path.isdir(text):
        found = sorted(path for pattern in _PATTERNS for path in Path(text).glob(pattern))
        if not found:
            raise FileError(f"files: expected target pixel files ({', '.join(_PATTERNS)}) in {text!r}, found none")
        return list(found)
    if not os.path.exists(text) and glob.has_magic(text):
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            raise FileError(f"files: expected files that match {text!r}, found none")
        return [Path(match) for match in matches]
    return [Path(text)]


def _read_stamps(sources: Sequence[Any], on_error: str) -> list[Stamp]:
    stamps = []
    for source in sources:
        try:
            stamps.append(read_stamp(source))
        except FileError as error:
            if on_error == "raise":
                raise
            warnings.warn(f"skipped a file: {error}", DataWarning, stacklevel=3)
    if not stamps:
        raise FileError(f"files: expected at least one readable file, but none of {len(sources)} could be read")
    return stamps


def _check_one_stack(stamps: Sequence[Stamp]) -> None:
    """Raise InputError unless all files come from one mission, detector, quarter and exposure mode."""
    first = stamps[0]
    expected = {"mission": first.instrument.name, **first.identity}
    for stamp in stamps[1:]:
        found = {"mission": stamp.instrument.name, **stamp.identity}
        for key in {**expected, **found}:
            if expected.get(key) != found.get(key):
                raise InputError(
                    f"files: expected one {key} in a stack, got {expected.get(key)} in {first.name} and"
                    f" {found.get(key)} in {stamp.name}; read them in separate calls"
                )


def _parse_bitmask(quality_bitmask: str | int, instrument: Instrument) -> int:
    if isinstance(quality_bitmask, str) and quality_bitmask in ("default", "none"):
        return instrument.quality_bitmask if quality_bitmask == "default" else 0
    whole = isinstance(quality_bitmask, int | np.integer) and not isinstance(quality_bitmask, bool)
    if not whole or int(quality_bitmask) < 0:
        raise InputError(
            f"quality_bitmask: expected 'default', 'none' or a sum of QUALITY bits, got {quality_bitmask!r}"
        )
    return int(quality_bitmask)


def _match_cadences(stamps: Sequence[Stamp]) -> list[IntArray]:
    """Return per file the rows of the cadences that are in every file, in the order of the cadence number."""
    common = np.unique(stamps[0].cadence_number)
    for stamp in stamps[1:]:
        previous, common = common, np.intersect1d(common, stamp.cadence_number)
        if common.size == 0:
            raise InputError(
                f"files: expected files with cadences in common, but {stamp.name} (CADENCENO"
                f" {stamp.cadence_number.min()} to {stamp.cadence_number.max()}) shares none with"
                f" {stamps[0].name} and those after it ({previous.min()} to {previous.max()});"
                " read them in separate calls"
            )
    _warn_unmatched(stamps, common)
    rows = []
    for stamp in stamps:
        order = np.argsort(stamp.cadence_number)
        rows.append(order[np.searchsorted(stamp.cadence_number, common, sorter=order)])
    return rows


def _warn_unmatched(stamps: Sequence[Stamp], common: IntArray) -> None:
    every = np.unique(np.concatenate([stamp.cadence_number for stamp in stamps]))
    if every.size == common.size:
        return
    lacking = [f"{s.name} lacks {every.size - s.time.size}" for s in stamps if s.time.size < every.size]
    warnings.warn(
        f"{every.size - common.size} of {every.size} cadences are not in every file and were left out:"
        f" {', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}",
        DataWarning,
        stacklevel=4,
    )


def _fill_cadences(stamp: Stamp, every: IntArray) -> Stamp:
    """Return the stamp with all these cadences: NaN, and no quality bit, at those that it lacks."""
    place = np.searchsorted(every, stamp.cadence_number)

    def fill(values: Any, empty: float) -> Any:
        filled = np.full((every.size, *values.shape[1:]), empty, values.dtype)
        filled[place] = values
        return filled

    return replace(
        stamp,
        cadence_number=every,
        quality=fill(stamp.quality, 0),
        **{name: fill(getattr(stamp, name), np.nan) for name in ("time", "flux", "flux_err", "pos_corr")},
    )


def _choose_cadences(stamps: Sequence[Stamp], rows: Sequence[IntArray], bitmask: int) -> BoolArray:
    """Return which cadences have a time, no rejected quality bit and a finite pixel; raise if none has."""
    timed = np.logical_or.reduce([np.isfinite(s.time[index]) for s, index in zip(stamps, rows, strict=True)])
    quality = np.bitwise_or.reduce([stamp.quality[index] for stamp, index in zip(stamps, rows, strict=True)])
    finite = np.logical_or.reduce(
        [np.isfinite(stamp.flux).any(axis=1)[index] for stamp, index in zip(stamps, rows, strict=True)]
    )
    good = quality & bitmask == 0
    keep = timed & good & finite
    if not keep.any():
        instrument = stamps[0].instrument
        counts = {bit: int((quality & bit > 0).sum()) for bit in (1 << i for i in range(32)) if bit & bitmask}
        said = [f"{count} by bit {instrument.describe_quality(bit)[0]}" for bit, count in counts.items() if count]
        raise InputError(
            f"quality_bitmask: expected some cadence to remain, but of {keep.size} in {stamps[0].name}"
            f"{' and others' if len(stamps) > 1 else ''} {int((~good).sum())} were rejected"
            f" ({', '.join(said) or 'no quality bit'}), {int((~timed).sum())} have no time and"
            f" {int((~finite).sum())} no finite pixel; try quality_bitmask='none'"
        )
    return keep


@dataclass(frozen=True, slots=True, eq=False)
class _Owners:
    """Which copy of each detector pixel is used.

    Parameters
    ----------
    own : list of ndarray of bool, shape (n_pixel of the file,)
        Which pixels of each file are used.
    index : list of ndarray of int64, shape (n_pixel of the file,)
        Place of each file's pixels in the stack, whether this copy is used or another.
    """

    own: list[BoolArray]
    index: list[IntArray]

    @property
    def n_pixel(self) -> int:
        """Number of pixels in the stack."""
        return int(sum(first.sum() for first in self.own))


def _first_owners(stamps: Sequence[Stamp]) -> _Owners:
    """Give every detector pixel to the first file that holds it."""
    seen: dict[tuple[int, int], int] = {}
    own, index = [], []
    for stamp in stamps:
        places = list(zip(stamp.column.tolist(), stamp.row.tolist(), strict=True))
        own.append(np.array([place not in seen for place in places], bool))
        for place in places:
            seen.setdefault(place, len(seen))
        index.append(np.array([seen[place] for place in places], np.int64))
    return _Owners(own, index)


def _gather(stamps: Sequence[Stamp], rows: Sequence[IntArray], owners: _Owners) -> tuple[FloatArray, FloatArray]:
    """Return flux and error of the kept cadences and pixels as float64, shape (n_time, n_pixel)."""
    flux = np.empty((rows[0].size, owners.n_pixel))
    flux_err = np.empty_like(flux)
    for stamp, index, own, place in zip(stamps, rows, owners.own, owners.index, strict=True):
        flux[:, place[own]] = stamp.flux[index][:, own]
        flux_err[:, place[own]] = stamp.flux_err[index][:, own]
    return flux, flux_err


def _check_copies(stamps: Sequence[Stamp], rows: Sequence[IntArray], owners: _Owners, flux: FloatArray) -> None:
    """Warn if a pixel that lies in several files has different fluxes there."""
    for stamp, index, own, place in zip(stamps, rows, owners.own, owners.index, strict=True):
        copy, kept = stamp.flux[index][:, ~own], flux[:, place[~own]]
        differs = np.abs(copy - kept) > 1e-5 * np.abs(kept)  # float32 keeps seven digits
        if differs.any():
            warnings.warn(
                f"{int(differs.any(axis=0).sum())} pixels of {stamp.name} lie in an earlier file too, with other"
                f" fluxes (by up to {np.nanmax(np.abs(copy - kept)):.3g} electron / s); the earlier file's are used",
                DataWarning,
                stacklevel=3,
            )


def _mean_time(stamps: Sequence[Stamp], rows: Sequence[IntArray]) -> FloatArray:
    return _nan_mean([stamp.time[index] for stamp, index in zip(stamps, rows, strict=True)])


def _mean_motion(stamps: Sequence[Stamp], rows: Sequence[IntArray]) -> FloatArray | None:
    motion = _nan_mean([stamp.pos_corr[index] for stamp, index in zip(stamps, rows, strict=True)])
    return motion if np.isfinite(motion).any() else None


def _nan_mean(arrays: Sequence[FloatArray]) -> FloatArray:
    """Return the mean over the arrays of what is finite, and NaN where nothing is."""
    stacked = np.stack(arrays)
    finite = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        return np.where(finite, stacked, 0.0).sum(axis=0) / finite.sum(axis=0)


def _describe(stamps: Sequence[Stamp], owners: _Owners) -> dict[str, Any]:
    first, names = stamps[0], _unique_names(stamps)
    apertures = [np.sort(place[stamp.optimal]) for stamp, place in zip(stamps, owners.index, strict=True)]
    pipeline_aperture = np.full(owners.n_pixel, -1, np.int64)
    for number in reversed(range(len(stamps))):
        pipeline_aperture[apertures[number]] = number
    return {
        "files": names,
        "sha256": [stamp.sha256 for stamp in stamps],
        "mission": first.instrument.name,
        **{key.lower(): value for key, value in first.identity.items()},
        "background_subtracted": all(stamp.background_subtracted for stamp in stamps),
        "targets": [
            {**stamp.target, "file": name, "aperture": aperture}
            for stamp, name, aperture in zip(stamps, names, apertures, strict=True)
        ],
        "pipeline_aperture": pipeline_aperture,
        "n_duplicates": int(sum((~own).sum() for own in owners.own)),
    }


def _unique_names(stamps: Sequence[Stamp]) -> list[str]:
    """Return the file names, with a count added where two directories hold files of one name."""
    names: list[str] = []
    for stamp in stamps:
        copies = sum(name == stamp.name or name.startswith(f"{stamp.name} (") for name in names)
        names.append(f"{stamp.name} ({copies + 1})" if copies else stamp.name)
    return names
