"""Checks at the border: each raises one sentence that names the argument, what was expected and what came."""

from typing import Any

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import InputError, ShapeError, UnitError


def as_float(value: Any, name: str, *, ndim: int | None = None, unit: str | None = None) -> FloatArray:
    """Return a native, C-contiguous float64 array, without a copy where the input already is one.

    Parameters
    ----------
    value : array-like
        Numbers; big-endian, integer, float32, masked (masked becomes NaN) and quantities are accepted.
    name : str
        Name of the argument in error messages.
    ndim : int, optional
        Required number of dimensions.
    unit : str, optional
        Unit to which a quantity is converted; numbers without a unit are taken to have it.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    UnitError
        If a quantity cannot be converted to `unit`.
    InputError
        If the values are not real numbers.
    ShapeError
        If `ndim` does not match.
    """
    value = _in_unit(value, name, unit) if hasattr(value, "unit") else value
    if isinstance(value, np.ma.MaskedArray):
        value = value.astype(np.float64).filled(np.nan)
    try:
        array = np.ascontiguousarray(value, dtype=np.float64) if np.ndim(value) else np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected an array of real numbers, got {type(value).__name__} ({error})") from error
    if ndim is not None and array.ndim != ndim:
        raise ShapeError(f"{name}: expected {ndim} dimension(s), got shape {array.shape}")
    return array


def _in_unit(value: Any, name: str, unit: str | None) -> Any:
    """Return the numbers of a quantity in the unit; of a column without a unit as they are."""
    if unit is None or value.unit is None:
        return getattr(value, "value", value)
    try:
        return getattr(value, "quantity", value).to_value(unit)
    except ValueError as error:
        raise UnitError(f"{name}: expected a unit that converts to {unit}, got {value.unit}") from error


def check_shape(array: Any, shape: tuple[int, ...], name: str, meaning: str) -> None:
    """Raise unless the array has the shape.

    Parameters
    ----------
    array : array-like
        What came.
    shape : tuple of int
        What was expected.
    name : str
        Name of the argument in the error message.
    meaning : str
        What the axes are, in the error message.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    if np.shape(array) != shape:
        raise ShapeError(f"{name}: expected shape {shape} ({meaning}), got {np.shape(array)}")


def check_finite(array: FloatArray, name: str) -> None:
    """Raise if any value is NaN or infinite, naming the first.

    Parameters
    ----------
    array : ndarray of float64
        Values of any shape.
    name : str
        Name of the argument in the error message.

    Raises
    ------
    InputError
        If a value is not finite.
    """
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{name}: expected finite numbers, got {array[first]} at index {first if len(first) > 1 else first[0]}"
            f" ({int(bad.sum())} in all); drop or mask these entries"
        )


def check_positive(value: float, name: str) -> None:
    """Raise unless the number is finite and above zero.

    Parameters
    ----------
    value : float
        What came.
    name : str
        Name of the argument in the error message.

    Raises
    ------
    InputError
        If it is zero, negative, NaN or infinite.
    """
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name}: expected a finite number above 0, got {value!r}")


def check_choice(value: Any, choices: tuple[Any, ...], name: str) -> None:
    """Raise unless the value is one of the choices.

    Parameters
    ----------
    value : object
        What came.
    choices : tuple of object
        What was expected.
    name : str
        Name of the argument in the error message.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(repr(c) for c in choices)}, got {value!r}")
