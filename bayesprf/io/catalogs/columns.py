"""Columns of catalogues, found by name and read as numbers."""

from collections.abc import Iterable

import numpy as np
from astropy import units

from bayesprf.arrays import FloatArray, Named
from bayesprf.checks import as_float
from bayesprf.errors import UnitError

# What masked numbers become in files that hold no mask: the default fill of NumPy.
_FILL = (1e20, float(np.float32(1e20)))


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
        NaN where an entry is masked, or 1e20, which is what masked numbers become in files that hold no mask.

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
    numbers = as_float(values, name, ndim=1)
    numbers = np.where(np.isin(numbers, _FILL), np.nan, numbers)
    if unit is None or not own:
        return numbers
    try:
        return np.asarray(units.Quantity(numbers, own).to_value(unit), np.float64)
    except (units.UnitConversionError, TypeError, ValueError) as error:
        raise UnitError(f"{name}: expected a unit that converts to {unit}, got {own}") from error
