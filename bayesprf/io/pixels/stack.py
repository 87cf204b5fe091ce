"""Stamps that belong together: one detector, one set of cadences, one clock."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bayesprf.arrays import AnyArray, BoolArray, FloatArray, IntArray
from bayesprf.checks import listed
from bayesprf.errors import DataWarning, InputError, warn
from bayesprf.instruments import SECONDS_PER_DAY, Instrument
from bayesprf.io.pixels.stamp import Stamp

# Light crosses the radius of the Earth's orbit in this time, s (IAU 2012 astronomical unit), and Kepler's at its
# farthest in 1.05 of it.
_LIGHT_SECONDS = 499.0048 * 1.05


def check_one_stack(stamps: Sequence[Stamp]) -> None:
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


def number_cadences(stamps: Sequence[Stamp]) -> list[Stamp]:
    """Return the stamps with cadence numbers; where a file has none, the times of all tell which cadence is which."""
    if all(stamp.cadence_number is not None for stamp in stamps):
        return list(stamps)
    steps = [one for stamp in stamps if (one := _median_step(stamp.time)) is not None]
    every = np.sort(np.concatenate([stamp.time[np.isfinite(stamp.time)] for stamp in stamps]))
    gap = 0.5 * min(steps, default=0.0)
    first = every[np.diff(every, prepend=-np.inf) > gap]
    numbered = []
    for stamp in stamps:
        number = np.searchsorted(first, stamp.time, side="right") - 1
        untimed = ~np.isfinite(stamp.time)
        number[untimed] = -1 - np.flatnonzero(untimed)
        if np.unique(number).size < number.size:
            raise InputError(
                f"files: expected times that tell the cadences of {stamp.name} apart, because a file of the stack has"
                " no CADENCENO, but they lie too close to those of other files; read them in separate calls"
            )
        numbered.append(replace(stamp, cadence_number=number.astype(np.int64)))
    return numbered


def _median_step(time: FloatArray) -> float | None:
    known = np.sort(time[np.isfinite(time)])
    return float(np.median(np.diff(known))) if known.size > 1 else None


def match_cadences(stamps: Sequence[Stamp]) -> list[IntArray]:
    """Return per file the rows of the cadences that are in every file, in the order of the cadence number."""
    common = np.unique(_numbers(stamps[0]))
    for stamp in stamps[1:]:
        previous, common = common, np.intersect1d(common, _numbers(stamp))
        if common.size == 0:
            raise InputError(
                f"files: expected files with cadences in common, but {stamp.name} (CADENCENO"
                f" {_numbers(stamp).min()} to {_numbers(stamp).max()}) shares none with"
                f" {stamps[0].name} and those after it ({previous.min()} to {previous.max()});"
                " read them in separate calls"
            )
    _warn_unmatched(stamps, common)
    rows = []
    for stamp in stamps:
        order = np.argsort(_numbers(stamp))
        rows.append(order[np.searchsorted(_numbers(stamp), common, sorter=order)])
    return rows


def _numbers(stamp: Stamp) -> IntArray:
    if stamp.cadence_number is None:
        raise InputError(f"files: expected cadence numbers in {stamp.name}, got none")
    return stamp.cadence_number


def _warn_unmatched(stamps: Sequence[Stamp], common: IntArray) -> None:
    every = np.unique(np.concatenate([_numbers(stamp) for stamp in stamps]))
    if every.size == common.size:
        return
    lacking = [f"{s.name} lacks {every.size - s.time.size}" for s in stamps if s.time.size < every.size]
    warn(
        f"{every.size - common.size} of {every.size} cadences are not in every file and were left out:"
        f" {listed(lacking)}",
        DataWarning,
    )


def check_clocks(stamps: Sequence[Stamp], rows: Sequence[IntArray]) -> None:
    """Raise InputError if the times of a file differ from the first file's by what light travel cannot explain.

    Times are those of the solar-system barycentre, each file's for its own direction n: they differ by r (n - n') / c,
    at most 2 sin(angle / 2) times the light travel time to the Sun; half a cadence more is another cadence.
    """
    first = stamps[0].time[rows[0]]
    step = _median_step(first)
    for stamp, index in zip(stamps[1:], rows[1:], strict=True):
        both = stamp.time[index] - first
        both = both[np.isfinite(both)]
        if both.size == 0:
            continue
        away = float(np.median(both)) * SECONDS_PER_DAY
        apart = float(np.linalg.norm(unit_vector(*stamp.direction) - unit_vector(*stamps[0].direction)))
        allowed = _LIGHT_SECONDS * apart + (0.5 * step * SECONDS_PER_DAY if step else _LIGHT_SECONDS)
        if abs(away) > allowed:
            raise InputError(
                f"files: expected one time for one CADENCENO in a stack, but the times of {stamp.name} are {away:.6g} s"
                f" from those of {stamps[0].name}, and light travel explains {_LIGHT_SECONDS * apart:.3g} s; TIME, "
                "BJDREFI or CADENCENO of one of them is wrong: leave it out"
            )


def unit_vector(ra_deg: FloatArray | float, dec_deg: FloatArray | float) -> FloatArray:
    """Return the unit vectors of sky positions, last axis x, y, z."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack(np.broadcast_arrays(np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)), axis=-1)


def fill_cadences(stamps: Sequence[Stamp]) -> list[Stamp]:
    """Return the stamps with the cadences of all: NaN, and no quality bit, at those that one lacks."""
    every = np.unique(np.concatenate([_numbers(stamp) for stamp in stamps]))
    return [_fill(stamp, every) for stamp in stamps]


def _fill(stamp: Stamp, every: IntArray) -> Stamp:
    place = np.searchsorted(every, _numbers(stamp))

    def fill(values: AnyArray, empty: float) -> AnyArray:
        filled = np.full((every.size, *values.shape[1:]), empty, values.dtype)
        filled[place] = values
        return filled

    return replace(
        stamp,
        cadence_number=every,
        quality=fill(stamp.quality, 0),
        time=fill(stamp.time, np.nan),
        flux=fill(stamp.flux, np.nan),
        flux_err=fill(stamp.flux_err, np.nan),
        pos_corr=fill(stamp.pos_corr, np.nan),
    )


def choose_cadences(stamps: Sequence[Stamp], rows: Sequence[IntArray], bitmask: int) -> BoolArray:
    """Return which cadences have a time and, in some file, a finite pixel and no rejected bit; raise if none has."""
    quality = [stamp.quality[index] for stamp, index in zip(stamps, rows, strict=True)]
    timed = np.logical_or.reduce([np.isfinite(s.time[index]) for s, index in zip(stamps, rows, strict=True)])
    finite = [np.isfinite(stamp.flux).any(axis=1)[index] for stamp, index in zip(stamps, rows, strict=True)]
    good = [bits & bitmask == 0 for bits in quality]
    keep = timed & np.logical_or.reduce([one & has for one, has in zip(good, finite, strict=True)])
    if keep.any():
        return np.asarray(keep, bool)
    every, instrument = np.bitwise_or.reduce(quality), stamps[0].instrument
    counts = {bit: int((every & bit > 0).sum()) for bit in (1 << i for i in range(32)) if bit & bitmask}
    said = [f"{count} by bit {instrument.describe_quality(bit)[0]}" for bit, count in counts.items() if count]
    rejected = int((~np.logical_or.reduce(good)).sum())
    others = bool((timed & np.logical_or.reduce(finite)).any())
    cure = "try quality_bitmask='none'" if others else "give files with times and pixels"
    raise InputError(
        f"quality_bitmask: expected some cadence to remain, but of {keep.size} in {stamps[0].name}"
        f"{' and others' if len(stamps) > 1 else ''} {rejected} were rejected ({', '.join(said) or 'no quality bit'}),"
        f" {int((~timed).sum())} have no time and {int((~np.logical_or.reduce(finite)).sum())} no finite pixel; {cure}"
    )


# What lightkurve 2.6 (KeplerQualityFlags, TessQualityFlags) calls by these words: Kepler and K2, TESS.
_LIGHTKURVE_BITS = {"hard": (1664431, 24319), "hardest": (2096639, 65535)}


def parse_bitmask(quality_bitmask: str | int, instrument: Instrument) -> int:
    """Return the quality bits that are rejected; raise InputError for anything but "default", "none" and a number."""
    if isinstance(quality_bitmask, str) and quality_bitmask in ("default", "none"):
        return instrument.quality_bitmask if quality_bitmask == "default" else 0
    if isinstance(quality_bitmask, str) and quality_bitmask in _LIGHTKURVE_BITS:
        return _LIGHTKURVE_BITS[quality_bitmask][instrument.name == "TESS"]
    whole = isinstance(quality_bitmask, int | np.integer) and not isinstance(quality_bitmask, bool)
    if not whole or int(quality_bitmask) < 0:
        raise InputError(
            "quality_bitmask: expected 'default', 'none', 'hard', 'hardest' or a sum of QUALITY bits, got"
            f" {quality_bitmask!r}"
        )
    return int(quality_bitmask)
