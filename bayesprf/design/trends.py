"""Time columns: polynomial, segments, focus decay and given vectors; column 0 is one, the others have mean zero."""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import check_integer, check_positive, check_shape, check_types

# A gap longer than this many median steps starts a new segment, as in PSFMachine (Hedges et al. 2021).
SEGMENT_GAP = 5.0
# Rounding: a column whose spread is below this share of its size is a constant, and is left out.
_FLAT = 1e-12


@dataclass(frozen=True, slots=True)
class TrendOptions:
    """Which time columns `build_trends` makes.

    Parameters
    ----------
    poly_order : int
        Highest power of time; 0 for none.
    segments : bool
        Give every segment its own columns.
    focus : bool
        Add a decay from the start of every segment.
    focus_exptime : float
        Time after which the focus term has fallen to 1/e, day.

    Raises
    ------
    InputError
        If `poly_order` is negative or `focus_exptime` not positive.
    """

    poly_order: int = 3
    segments: bool = False
    focus: bool = False
    focus_exptime: float = 50.0

    def __post_init__(self) -> None:
        check_types(self)
        check_integer(self.poly_order, "poly_order", low=0)
        check_positive(self.focus_exptime, "focus_exptime")


@dataclass(frozen=True, slots=True, eq=False)
class Trends:
    """Time columns and what each of them is.

    Parameters
    ----------
    columns : ndarray of float64, shape (n_time, n_vector)
        The columns, the constant first.
    names : tuple of str, shape (n_vector,)
        What each is.
    """

    columns: FloatArray
    names: tuple[str, ...]


def find_breaks(time: FloatArray) -> IntArray:
    """Return the index of the first cadence after each gap of more than `SEGMENT_GAP` median steps.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Increasing times, any unit.

    Returns
    -------
    ndarray of int64, shape (n_break,)
        Empty for one cadence, or for times that do not advance.
    """
    steps = np.diff(time)
    median = float(np.median(steps)) if steps.size else 0.0
    if median <= 0.0:
        return np.zeros(0, np.int64)
    return np.flatnonzero(steps > SEGMENT_GAP * median).astype(np.int64) + 1


def label_segments(time: FloatArray) -> IntArray:
    """Assign every cadence to a segment between gaps.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Times, day.

    Returns
    -------
    ndarray of int64, shape (n_time,)
        Segment of every cadence: 0, 1, 2, ...
    """
    labels = np.zeros(time.size, np.int64)
    labels[find_breaks(time)] = 1
    return np.cumsum(labels)


def whiten_time(time: FloatArray) -> FloatArray:
    """Move and scale times to run from -1 to 1.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Times, day.

    Returns
    -------
    ndarray of float64, shape (n_time,)
        Zeros if the times are all equal.
    """
    low, high = float(time.min()), float(time.max())
    if high <= low:
        return np.zeros_like(time)
    return (2.0 * time - low - high) / (high - low)


def focus_decay(time: FloatArray, exptime: float) -> FloatArray:
    """Evaluate the decay of focus after every gap.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Times, day.
    exptime : float
        Decay time, day.

    Returns
    -------
    ndarray of float64, shape (n_time,)
        exp(-(t - t_start) / exptime), t_start the first time of the segment.
    """
    starts = np.concatenate([[0], find_breaks(time)])
    return np.exp(-(time - time[starts][label_segments(time)]) / exptime)


def build_trends(
    time: FloatArray,
    options: TrendOptions,
    *,
    others: FloatArray | None = None,
    names: tuple[str, ...] = (),
    used: BoolArray | None = None,
) -> Trends:
    """Build the time columns v_k(t) of a perturbation with mean one.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Times, day; increasing where segments or focus are asked for.
    options : TrendOptions
        Which columns to make.
    others : ndarray of float64, shape (n_time, n_other), optional
        Given columns; NaN is read as 0.
    names : tuple of str, optional
        Names of the given columns; numbered by default.
    used : ndarray of bool, shape (n_time,), optional
        Cadences over which the means are taken; all by default.

    Returns
    -------
    Trends
        Column 0 is one everywhere; every other has mean zero over the used cadences and largest size
        one. Columns that would be flat (a single cadence, say) are left out.

    Raises
    ------
    ShapeError
        If `others` or `used` does not have one row per cadence.
    """
    used = np.ones(time.size, bool) if used is None else used
    check_shape(used, (time.size,), "used", "n_time")
    shared = _shared_columns(time, options, others, names)
    labels = label_segments(time) if options.segments else np.zeros(time.size, np.int64)
    found = [("constant", np.ones(time.size))]
    for label in range(int(labels[-1]) + 1):
        inside = labels == label
        columns = _segment_columns(time, shared, options.poly_order, inside, inside & used)
        if label:
            columns = [("constant", inside - float(inside[used].mean())), *columns]
        found += [(f"{name}, segment {label}" if options.segments else name, one) for name, one in columns]
    kept = [(name, one / np.abs(one).max()) for name, one in found[1:] if np.ptp(one) > _FLAT]
    return Trends(
        columns=np.stack([found[0][1], *(one for _, one in kept)], axis=1),
        names=("constant", *(name for name, _ in kept)),
    )


def _shared_columns(
    time: FloatArray, options: TrendOptions, others: FloatArray | None, names: tuple[str, ...]
) -> list[tuple[str, FloatArray]]:
    """Return names and columns that are not powers of time: focus and given vectors."""
    columns = [("focus", focus_decay(time, options.focus_exptime))] if options.focus else []
    if others is not None:
        check_shape(others, (time.size, np.shape(others)[-1]), "other_vectors", "n_time, n_vector")
        names = names or tuple(f"other {number}" for number in range(others.shape[1]))
        columns += list(zip(names, np.nan_to_num(others).T, strict=True))
    return columns


def _segment_columns(
    time: FloatArray, shared: list[tuple[str, FloatArray]], order: int, inside: BoolArray, used: BoolArray
) -> list[tuple[str, FloatArray]]:
    """Return the columns of one segment: zero outside it, mean zero over its used cadences."""
    if not used.any():
        return []
    order = min(order, int(used.sum()) - 1)
    powers = legendre.legvander(whiten_time(time[inside]), order)[:, 1:]
    found = []
    for name, values in [(f"time {k + 1}", one) for k, one in enumerate(powers.T)] + [
        (name, one[inside]) for name, one in shared
    ]:
        column = np.zeros(time.size)
        column[inside] = values
        column[inside] -= column[used].mean()
        if np.ptp(values) > _FLAT * max(1.0, float(np.abs(values).max())):
            found.append((name, column))
    return found
