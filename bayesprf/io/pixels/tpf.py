"""Target pixel files of Kepler, K2 and TESS -> PixelTable."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from bayesprf.arrays import AnyArray, BoolArray, FloatArray, IntArray, NamedDict
from bayesprf.checks import check_choice, check_positive, checked, listed
from bayesprf.errors import DataWarning, FileError, InputError, warn
from bayesprf.io.pixels.barycenter import barycentric_shift, parse_direction
from bayesprf.io.pixels.listing import list_files
from bayesprf.io.pixels.noise import check_floor
from bayesprf.io.pixels.stack import (
    check_clocks,
    check_one_stack,
    choose_cadences,
    fill_cadences,
    match_cadences,
    number_cadences,
    parse_bitmask,
    unit_vector,
)
from bayesprf.io.pixels.stamp import Stamp, StampOptions, read_stamp
from bayesprf.scene.pixels import PixelTable

# Stands for sky coordinates that are those of the detector.
_DETECTOR = "detector"


@checked
def read_tpfs(
    files: object,
    *,
    quality_bitmask: str | int = "default",
    on_error: str = "raise",
    cadences: str = "common",
    wcs: object = None,
    exposure: float | None = None,
    error_floor: "float | str | None" = None,
    time_at: object = None,
) -> PixelTable:
    """Read target pixel files of one detector and one quarter, campaign or sector as one stack.

    Parameters
    ----------
    files : path-like, HDUList, object with `hdu`, collection or sequence of them
        Files, directories (every ``*.fits`` and ``*.fits.gz`` in them), glob patterns, open files, or lightkurve
        TargetPixelFile objects and collections (all their cadences; their own quality mask is not used).
    quality_bitmask : str or int
        A file's pixels drop out of cadences in which its QUALITY has any of these bits, and cadences that are left to
        no file are left out: "default" is the mission's `Instrument.quality_bitmask`, "none" keeps all, "hard" and
        "hardest" are lightkurve's.
    on_error : str
        "raise", or "skip" to leave out files that cannot be read, with a warning that names each.
    cadences : str
        "common" keeps those that are in every file; "union" keeps all, with NaN for the pixels of files that lack one:
        these pixels drop out of that cadence.
    wcs : astropy.wcs.WCS, "detector" or sequence of them, optional
        Sky coordinates of the array's indices, for files without or with wrong ones: one per file, None for those
        whose headers are right. "detector" lays files without any on the detector's own plane, about RA 180 Dec 0:
        for stars that are found in the image, `bayesprf.detect_sources`.
    exposure : float, optional
        Time in which the light of one cadence was collected, s, where FLUX counts electrons or errors are missing;
        TIMEDEL times DEADC of the header by default.
    error_floor : float, "noise" or "auto", optional
        Errors below this, electron / s, are raised to it; "noise" is photon and read noise, and "auto" the same for
        files with errors far below it. By default errors stay as they are, with a warning where they are.
    time_at : SkyCoord or pair of float, optional
        Direction (right ascension and declination, degree) of which the times are barycentric; the mean of the files'
        directions by default. `bayesprf.io.pixels.barycenter.barycentric_shift` gives the differences of all stars.

    Returns
    -------
    PixelTable
        `time` in the mission's days since `instrument.time_zero_jd`: the mean over the files, whose
        barycentric corrections differ by the light travel time across the field. `stamp` counts the files.
        `meta` holds `files` (names) and their `sha256`, `mission`, the header's `channel`, `camera`, `ccd`, `quarter`,
        `campaign`, `sector`, ... where present, `background_removed` (per file; None where it does not tell),
        `background_subtracted` (False if any file has its sky, None if one does not tell), `quality_bitmask`,
        `reading` (the other options too, as far as they were given), `n_duplicates`, `n_cadences_rejected`,
        `n_cadences_masked` (per file), `notes` (what was made of oddities of the files), `time_direction`,
        `targets` (one mapping per file: `id`, `ra_deg`, `dec_deg`, `mag`, `pmra` and `pmdec` in mas / yr, `file`, and
        `aperture`, the indices of the pixels in the mission's aperture) and `pipeline_aperture`, int64, shape
        (n_pixel,): the first target whose aperture holds the pixel, or -1.

    Raises
    ------
    FileError
        If a file is missing or cannot be read, or none is found.
    InputError
        If the files do not belong to one stack, share no cadence, disagree in time, or no cadence is left.

    Warns
    -----
    DataWarning
        If cadences are not in every file (with "common" they are left out), if a pixel that lies in several files has
        different values there (the first is used), if a file is skipped, and if something in a file cannot be right:
        pixels that are not those of its DATASUM, two places on the sky, a column of the wrong width, impossible values
        or errors.

    See Also
    --------
    read_image : Full frame images and superstamps.
    fit : Read and fit in one call.

    Notes
    -----
    Files are matched on CADENCENO, or on TIME where one has none. A pixel (column, row) that lies in several files is
    kept once. Empty header values, a magnitude of 0 and a POS_CORR that never changes count as missing.

    Examples
    --------
    >>> import bayesprf as bp
    >>> from bayesprf import datasets
    >>> pixels = bp.read_tpfs(datasets.load("kepler-field").files)
    >>> pixels.instrument.name, pixels.n_time
    ('Kepler', 250)
    """
    check_choice(on_error, ("raise", "skip"), "on_error")
    check_choice(cadences, ("common", "union"), "cadences")
    check_floor(error_floor)
    if exposure is not None:
        check_positive(exposure, "exposure")
    direction = None if time_at is None else parse_direction(time_at, "time_at")
    sources = list_files(files)
    options = [StampOptions(one, exposure, error_floor) for one in _coordinates(sources, wcs)]
    stamps, coordinates = _read_stamps(sources, options, on_error)
    check_one_stack(stamps)
    stamps = number_cadences(stamps)
    stamps = fill_cadences(stamps) if cadences == "union" else stamps
    bitmask = parse_bitmask(quality_bitmask, stamps[0].instrument)
    given: NamedDict = {"cadences": cadences, "exposure": exposure, "error_floor": error_floor, "time_at": direction}
    if wcs is not None:
        given["wcs"] = [one.to_header_string(relax=True) if isinstance(one, WCS) else one for one in coordinates]
    reading = {name: value for name, value in given.items() if value is not None}
    pixels = _stack(stamps, bitmask, {"quality_bitmask": bitmask, **reading})
    return pixels if direction is None else _move_clock(pixels, direction)


def _coordinates(sources: Sequence[object], wcs: object) -> list[WCS | None]:
    """Return the sky coordinates given for each file; a saved tree keeps them as the text of a header."""
    alike = wcs is None or (isinstance(wcs, str) and wcs == _DETECTOR)
    given = list(wcs) if isinstance(wcs, list | tuple) else [wcs] * (len(sources) if alike else 1)
    if len(given) != len(sources):
        raise InputError(
            f"wcs: expected the sky coordinates of each of {len(sources)} files, got {len(given)}; give a list, with"
            " None for files whose headers are right"
        )
    given = [WCS(fits.Header.fromstring(one)) if isinstance(one, str) and "CRVAL1" in one else one for one in given]
    for one in given:
        if not (one is None or (isinstance(one, str) and one == _DETECTOR) or getattr(one, "has_celestial", False)):
            raise InputError(
                f"wcs: expected an astropy.wcs.WCS with sky coordinates or 'detector', got {type(one).__name__}"
            )
    return given


def _read_stamps(
    sources: Sequence[object], options: Sequence[StampOptions], on_error: str
) -> tuple[list[Stamp], list[WCS | str | None]]:
    """Return the stamps that could be read, and the sky coordinates given for them; say what is odd about them."""
    stamps, coordinates = [], []
    for source, one in zip(sources, options, strict=True):
        try:
            stamps.append(read_stamp(source, one))
            coordinates.append(one.wcs)
        except FileError as error:
            if on_error == "raise":
                raise
            warn(f"skipped a file: {error}", DataWarning)
    if not stamps:
        raise FileError(f"files: expected at least one readable file, but none of {len(sources)} could be read")
    for alarm in [*_repeats(stamps), *_alarms(stamps)]:
        warn(alarm, DataWarning)
    return stamps, coordinates


def _alarms(stamps: Sequence[Stamp]) -> list[str]:
    """Return what is odd about the files, once where it is the same of several."""
    names: dict[str, list[str]] = {}
    for stamp in stamps:
        for alarm in stamp.alarms:
            names.setdefault(alarm.removeprefix(f"{stamp.name}: "), []).append(stamp.name)
    return [f"{listed(found)}: {alarm}" for alarm, found in names.items()]


def _repeats(stamps: Sequence[Stamp]) -> list[str]:
    """Say which files have the content of an earlier one."""
    first: dict[str, str] = {}
    again = []
    for stamp in stamps:
        if stamp.sha256 in first:
            again.append(f"{stamp.name} (as {first[stamp.sha256]})")
        elif stamp.sha256:
            first[stamp.sha256] = stamp.name
    said = f"files: expected every file once, got the same content again in {listed(again)}; its pixels count once"
    return [said] if again else []


def _stack(stamps: Sequence[Stamp], bitmask: int, reading: NamedDict) -> PixelTable:
    rows = match_cadences(stamps)
    check_clocks(stamps, rows)
    keep = choose_cadences(stamps, rows, bitmask)
    rows = [index[keep] for index in rows]
    masked = [stamp.quality[index] & bitmask > 0 for stamp, index in zip(stamps, rows, strict=True)]
    owners = _first_owners(stamps)
    with np.errstate(invalid="ignore"):  # NaN of some bit patterns
        flux, flux_err = _gather(stamps, rows, masked, owners)
    own = [(stamp, owners.own[i]) for i, stamp in enumerate(stamps)]
    return PixelTable(
        time=_nan_mean([stamp.time[index] for stamp, index in zip(stamps, rows, strict=True)]),
        flux=flux,
        flux_err=flux_err,
        ra_deg=np.concatenate([stamp.ra_deg[first] for stamp, first in own]),
        dec_deg=np.concatenate([stamp.dec_deg[first] for stamp, first in own]),
        column=np.concatenate([stamp.column[first] for stamp, first in own]),
        row=np.concatenate([stamp.row[first] for stamp, first in own]),
        stamp=np.repeat(np.arange(len(stamps)), [first.sum() for _, first in own]),
        cadence_number=None if stamps[0].cadence_number is None else stamps[0].cadence_number[rows[0]],  # type: ignore[arg-type]
        pos_corr=_mean_motion(stamps, rows),
        instrument=stamps[0].instrument,
        meta={
            **_describe(stamps, owners),
            **_describe_clocks(stamps, rows),
            "quality_bitmask": bitmask,
            "reading": reading,
            "n_cadences_rejected": int((~keep).sum()),
            "n_cadences_masked": [int(one.sum()) for one in masked],
        },
    )


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


def _gather(
    stamps: Sequence[Stamp], rows: Sequence[IntArray], masked: Sequence[BoolArray], owners: _Owners
) -> tuple[FloatArray, FloatArray]:
    """Return flux and error of the kept cadences and pixels as float64, shape (n_time, n_pixel).

    A pixel that the first file has lost in a cadence comes from the next file that holds it.
    """
    flux = np.empty((rows[0].size, owners.n_pixel))
    flux_err = np.empty_like(flux)
    for stamp, index, lost, own, place in zip(stamps, rows, masked, owners.own, owners.index, strict=True):
        flux[:, place[own]] = stamp.flux[index][:, own]
        flux_err[:, place[own]] = stamp.flux_err[index][:, own]
        if lost.any():
            flux[np.ix_(lost, place[own])] = np.nan
    for stamp, index, lost, own, place in zip(stamps, rows, masked, owners.own, owners.index, strict=True):
        if not own.all():
            copies = stamp.flux[index][:, ~own], stamp.flux_err[index][:, ~own]
            _use_copies(flux, flux_err, place[~own], (*copies, lost), stamp.name)
    return flux, flux_err


def _use_copies(
    flux: FloatArray, flux_err: FloatArray, place: IntArray, copies: tuple[AnyArray, AnyArray, BoolArray], name: str
) -> None:
    """Fill what is lost from a file's copies of the pixels, and warn where both files have a value and they differ."""
    copy, copy_err, lost = copies
    kept, kept_err = flux[:, place], flux_err[:, place]
    differs = (np.abs(copy - kept) > 1e-5 * np.abs(kept)) & ~lost[:, None]  # float32 keeps seven digits
    if differs.any():
        warn(
            f"{int(differs.any(axis=0).sum())} pixels of {name} lie in an earlier file too, with other"
            f" fluxes (by up to {np.abs(copy - kept)[differs].max():.3g} electron / s); the earlier file's are used",
            DataWarning,
        )
    usable = np.isfinite(kept) & np.isfinite(kept_err) & (kept_err > 0)
    fill = ~usable & np.isfinite(copy) & np.isfinite(copy_err) & (copy_err > 0) & ~lost[:, None]
    flux[:, place] = np.where(fill, copy, kept)
    flux_err[:, place] = np.where(fill, copy_err, kept_err)


def _mean_motion(stamps: Sequence[Stamp], rows: Sequence[IntArray]) -> FloatArray | None:
    motion = _nan_mean([stamp.pos_corr[index] for stamp, index in zip(stamps, rows, strict=True)])
    return motion if np.isfinite(motion).any() else None


def _nan_mean(arrays: Sequence[FloatArray]) -> FloatArray:
    """Return the mean over the arrays of what is finite, and NaN where nothing is."""
    stacked = np.stack(arrays)
    finite = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        return np.where(finite, stacked, 0.0).sum(axis=0) / finite.sum(axis=0)


def _describe(stamps: Sequence[Stamp], owners: _Owners) -> NamedDict:
    first, names = stamps[0], _unique_names(stamps)
    apertures = [np.sort(place[stamp.optimal]) for stamp, place in zip(stamps, owners.index, strict=True)]
    pipeline_aperture = np.full(owners.n_pixel, -1, np.int64)
    for number in reversed(range(len(stamps))):
        pipeline_aperture[apertures[number]] = number
    removed = [stamp.background_removed for stamp in stamps]
    return {
        "files": names,
        "sha256": [stamp.sha256 for stamp in stamps],
        "mission": first.instrument.name,
        **{key.lower(): value for key, value in first.identity.items()},
        "background_removed": removed,
        "background_subtracted": False if False in removed else None if None in removed else True,
        "notes": [note for stamp in stamps for note in (*stamp.notes, *stamp.alarms)],
        "targets": [
            {**stamp.target, "file": name, "aperture": aperture}
            for stamp, name, aperture in zip(stamps, names, apertures, strict=True)
        ],
        "pipeline_aperture": pipeline_aperture,
        "n_duplicates": int(sum((~own).sum() for own in owners.own)),
    }


def _describe_clocks(stamps: Sequence[Stamp], rows: Sequence[IntArray]) -> NamedDict:
    """Return for which direction the times are, and how those of the files differ from their mean, day."""
    directions = np.array([unit_vector(*stamp.direction) for stamp in stamps])
    times = np.stack([stamp.time[index] for stamp, index in zip(stamps, rows, strict=True)])
    return {
        "time_direction": directions.mean(axis=0),
        "file_directions": directions,
        "file_time_offsets": times - _nan_mean(list(times)),
    }


def _move_clock(pixels: PixelTable, direction: tuple[float, float]) -> PixelTable:
    shift = barycentric_shift(pixels, *direction)[:, 0]
    return replace(pixels, time=pixels.time + shift, meta={**pixels.meta, "time_direction": unit_vector(*direction)})


def _unique_names(stamps: Sequence[Stamp]) -> list[str]:
    """Return the file names, with a count added where two directories hold files of one name."""
    names: list[str] = []
    for stamp in stamps:
        copies = sum(name == stamp.name or name.startswith(f"{stamp.name} (") for name in names)
        names.append(f"{stamp.name} ({copies + 1})" if copies else stamp.name)
    return names
