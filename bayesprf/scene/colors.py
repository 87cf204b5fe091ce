"""Colours of stars, read from a catalogue and scaled for the PRF that follows them."""

import logging

import numpy as np

from bayesprf.arrays import AnyArray, FloatArray, Named
from bayesprf.checks import did_you_mean, listed, shown
from bayesprf.errors import InputError
from bayesprf.scene.sources import SourceTable
from bayesprf.stats import mad_sigma

# Derived: colours beyond three scatters count as three: so far normal numbers reach, and an outlier among the colours,
# as that of a galaxy or a faint star's, is no measure of the PRF.
_USUAL = 3.0
# Derived: a slope with colour, a mean and a scatter about them take at least so many stars.
_MIN_COLORS = 5
_log = logging.getLogger("bayesprf")


def color_names(name: str, columns: Named) -> tuple[str, ...]:
    """Return the columns of a colour: itself, or the two of which it is the difference; raise if there are none."""
    lower = {one.lower(): one for one in reversed(list(columns))}
    for cut in (None, *(place for place, one in enumerate(name) if one == "-")):
        parts = (name,) if cut is None else (name[:cut], name[cut + 1 :])
        names = [one.strip() for one in parts]
        found = [one if one in columns else lower.get(one.lower()) for one in names]
        if None not in found:
            return tuple(str(one) for one in found)
    raise InputError(
        f"color_column: expected a column of the catalogue, or the difference of two such as 'bp - rp', got"
        f" {shown(name)}{did_you_mean(name, columns)}; the catalogue has {listed(list(columns), 40) or 'no columns'}"
    )


def read_colors(sources: SourceTable, name: str) -> FloatArray:
    """Return the colours of a catalogue as they stand, shape (n_source,); NaN where there is none."""
    first, *second = (_numbers(sources.columns[one], one) for one in color_names(name, sources.columns))
    return first - second[0] if second else first


def _numbers(column: AnyArray, name: str) -> FloatArray:
    """Return a column as numbers, NaN where an entry is masked or empty."""
    values = np.ma.asarray(column)
    if values.dtype.kind in "OUS":
        texts = [str(one).strip() for one in values.tolist()]
        values = np.ma.asarray([np.nan if one in ("", "--", "None", "null") else one for one in texts])
    try:
        return np.ma.filled(values.astype(np.float64), np.nan)
    except (TypeError, ValueError) as error:
        first = next(one for one in values.tolist() if not _is_number(one))
        raise InputError(
            f"color_column: expected a column of numbers, got {name} with {shown(first)}; name another column"
        ) from error


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def scaled_colors(sources: SourceTable, name: str) -> FloatArray:
    """Return the colours less their median, over their scatter, -3 to 3, shape (n_source,); 0 where there is none.

    Parameters
    ----------
    sources : SourceTable
        The catalogue.
    name : str
        Column, or difference of two.

    Raises
    ------
    InputError
        If there is no such column, it does not hold numbers, or fewer than five of them or no two that differ.
    """
    color = read_colors(sources, name)
    known = np.isfinite(color)
    if not known.all():
        _log.info("%d of %d stars have no colour, and count as of median colour", np.sum(~known), known.size)
    if np.count_nonzero(known) < _MIN_COLORS:
        raise InputError(
            f"color_column: expected colours of at least {_MIN_COLORS} stars, got {np.count_nonzero(known)} in"
            f" {name}; leave it out"
        )
    away = color - np.median(color[known])
    width = float(mad_sigma(away[known])) or float(np.std(away[known]))
    if not width > 0.0:
        raise InputError(f"color_column: expected colours that differ, got {name} with one for all; leave it out")
    return np.where(known, np.clip(away / width, -_USUAL, _USUAL), 0.0)
