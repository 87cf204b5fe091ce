"""Checks at the border: each raises one sentence that names the argument, what was expected and what came."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import fields
from numbers import Real
from types import NoneType
from typing import Any, get_args

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
        value = np.ma.filled(value.astype(np.float64), np.nan)
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
    if not (_is(value, float) and _is_finite(value) and value > 0):
        raise InputError(f"{name}: expected a finite number above 0, got {value!r}")


def check_choice(value: object, choices: tuple[Any, ...], name: str) -> None:
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
    if not any(isinstance(value, type(one)) and value == one for one in choices):
        raise InputError(f"{name}: expected one of {', '.join(repr(c) for c in choices)}, got {_shown(value)}")


def check_names(given: Iterable[str], known: Iterable[str], name: str) -> None:
    """Raise unless all names are known, and suggest the nearest known one.

    Parameters
    ----------
    given : iterable of str
        What came.
    known : iterable of str
        What was expected.
    name : str
        Name of the argument in the error message.

    Raises
    ------
    InputError
        If one is not known.
    """
    known = list(known)
    for one in given:
        if one not in known:
            near = difflib.get_close_matches(str(one), known, 1, 0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"{name}: expected some of {', '.join(known)}, got {one}{hint}")


# What a field of a record may hold, by its annotation.
_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool, np.bool_), "True or False"),
    int: ((int, np.integer), "a whole number"),
    float: ((Real, np.floating, np.integer), "a number"),
    str: ((str,), "a text"),
    NoneType: ((NoneType,), "None"),
}
_LONGEST_SHOWN = 80


def check_types(record: Any) -> None:
    """Raise unless every field of a dataclass that is annotated as plain numbers, texts or flags holds such a thing.

    Parameters
    ----------
    record : dataclass instance
        Fields with other annotations are not looked at.

    Raises
    ------
    InputError
        If a field holds something else, naming it.
    """
    for one in fields(record):
        kinds = get_args(one.type) or (one.type,)
        value = getattr(record, one.name)
        if all(kind in _KINDS for kind in kinds) and not any(_is(value, kind) for kind in kinds):
            expected = " or ".join(_KINDS[kind][1] for kind in kinds)
            raise InputError(f"{one.name}: expected {expected}, got {_shown(value)}")


def check_integer(value: Any, name: str, *, low: int, high: int | None = None) -> None:
    """Raise unless the value is a whole number between two bounds, both included.

    Parameters
    ----------
    value : object
        What came.
    name : str
        Name of the argument in the error message.
    low, high : int
        Smallest and largest number allowed; no largest by default.

    Raises
    ------
    InputError
        If it is something else.
    """
    if not _is(value, int) or value < low or (high is not None and value > high):
        upper = "up" if high is None else f"to {high}"
        raise InputError(f"{name}: expected a whole number from {low} {upper}, got {_shown(value)}")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, _KINDS[kind][0]) and (kind is bool or not isinstance(value, bool | np.bool_))


def _shown(value: object) -> str:
    """Return a value as an error message shows it: in full if short, else its type and shape."""
    text = repr(value)
    if len(text) <= _LONGEST_SHOWN and "\n" not in text:
        return text
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {shape}" if shape is not None else "")


def make_generator(random_seed: Any) -> np.random.Generator:
    """Return the generator of a seed.

    Parameters
    ----------
    random_seed : int, sequence of int, numpy.random.Generator or None
        The seed.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    InputError
        If it is something else.
    """
    try:
        return np.random.default_rng(random_seed)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"random_seed: expected None, a whole number from 0 up, several, or a Generator, got {_shown(random_seed)}"
        ) from error


def check_pair(value: object, name: str, meaning: str) -> FloatArray:
    """Return two finite numbers, shape (2,).

    Parameters
    ----------
    value : array-like, shape (2,)
        What came.
    name : str
        Name of the argument in the error message.
    meaning : str
        What the two are, in the error message.

    Returns
    -------
    ndarray of float64, shape (2,)

    Raises
    ------
    InputError
        If it is something else.
    """
    pair = as_float(value, name, ndim=1)
    check_shape(pair, (2,), name, meaning)
    check_finite(pair, name)
    return pair
