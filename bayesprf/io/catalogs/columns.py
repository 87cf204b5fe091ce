"""Columns of catalogues, found by name and read as numbers."""

import re
from collections.abc import Iterable

import numpy as np
from astropy import units

from bayesprf.arrays import FloatArray, Named
from bayesprf.checks import as_float, shown
from bayesprf.errors import InputError, UnitError
from bayesprf.results.columns import texts_of

# What masked numbers become in files that hold no mask: the default fill of NumPy.
_FILL = (1e20, float(np.float32(1e20)))
# What tables write as text where there is no number; an epoch may begin with the J of Julian years.
_NOTHING = frozenset({"", "-", "--", "---", "~", "...", "null", "none", "nan", "na", "n/a", "<na>", "\\n"})
_COMMA = re.compile(r"[-+]?\d{1,3}(,\d+)+(\.\d*)?")
_YEAR = re.compile(r"^J(\d{4}(\.\d*)?)$")


def find_column(columns: Named, names: Iterable[str]) -> str | None:
    """Return the first of the names that a table has, in its own case where it has several that differ by case.

    Parameters
    ----------
    columns : mapping of str to array-like
        The table.
    names : iterable of str
        Names to look for, the preferred first.

    Returns
    -------
    str or None
        The name as the table writes it; None if it has none of them.
    """
    lower = {name.lower(): name for name in reversed(list(columns))}
    for name in names:
        if name in columns:
            return name
        if name.lower() in lower:
            return lower[name.lower()]
    return None


def numbers_of(columns: Named, name: str, unit: str | None = None, *, default: str = "") -> FloatArray:
    """Return a column as float64.

    Parameters
    ----------
    columns : mapping of str to array-like
        The table.
    name : str
        Name of the column.
    unit : str, optional
        Unit to convert to, where the column carries one.
    default : str
        Unit of a column that carries none; `unit` itself if empty.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        NaN where an entry is masked, text that stands for nothing ("--", "null"), or 1e20, which is what masked numbers
        become in files that hold no mask.

    Raises
    ------
    InputError
        If the column does not hold numbers.
    UnitError
        If its unit cannot be converted.
    """
    column = columns[name]
    own = str(getattr(column, "unit", None) or "") or default
    values: object = getattr(column, "value", column)
    if hasattr(values, "filled") and hasattr(values, "unmasked"):  # astropy's own masked arrays, beside NumPy's
        values = values.filled(np.nan)
    if np.asarray(values).dtype.kind in "OUS":
        values = _numbers_in(texts_of(values), name)
    numbers = as_float(values, name, ndim=1)
    numbers = np.where(np.isin(numbers, _FILL), np.nan, numbers)
    if unit is None or not own:
        return numbers
    try:
        return np.asarray(units.Quantity(numbers, own).to_value(unit), np.float64)
    except (units.UnitConversionError, TypeError, ValueError) as error:
        raise UnitError(f"{name}: expected a unit that converts to {unit}, got {own}") from error


def _numbers_in(texts: Iterable[str], name: str) -> list[float]:
    """Return the numbers that texts hold, NaN where they stand for nothing, or raise naming the first that is none."""
    return [_number_in(text, name, row) for row, text in enumerate(texts)]


def _number_in(text: str, name: str, row: int) -> float:
    if text.lower() in _NOTHING:
        return np.nan
    try:
        return float(_YEAR.sub(r"\1", text))
    except ValueError as error:
        cure = comma_cure(text) or "correct that row, or give another column"
        raise InputError(f"{name}: expected numbers, got {shown(text)} in row {row}; {cure}") from error


def comma_cure(text: str) -> str:
    """Return what to do about a number with a comma, which may stand for the point or for thousands, or nothing."""
    return "write numbers with a point for decimals, and without commas" if _COMMA.fullmatch(text) else ""
