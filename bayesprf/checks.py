"""Checks at the border: each raises one sentence that names the argument, what was expected and what came."""

import difflib
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeGuard, cast, get_args, get_origin

import numpy as np

from bayesprf.arrays import AnyArray, BoolArray, FloatArray, IntArray, Named, shape_of
from bayesprf.errors import BayesprfError, FileError, InputError, ShapeError, UnitError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from astropy.units import Quantity
    from numpy.typing import ArrayLike


# Kinds of NumPy that turn into real numbers without a word, but are none.
_NO_NUMBERS = {"b": "they are flags", "c": "it is complex", "M": "they are dates", "m": "they are lengths of time"}


def as_float(
    value: object, name: str, *, ndim: int | None = None, unit: str | None = None, flags: bool = False
) -> FloatArray:
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
    flags : bool
        True and False count as 1 and 0, as where a mask is meant.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    UnitError
        If a quantity cannot be converted to `unit`.
    InputError
        If the values are not real numbers: dates and lengths of time are none, flags only where they are asked for.
    ShapeError
        If `ndim` does not match.
    """
    value = _in_unit(value, name, unit) if hasattr(value, "unit") else value
    try:
        kind = np.asarray(value).dtype.kind
        if kind in _NO_NUMBERS and not (flags and kind == "b"):
            raise TypeError(_NO_NUMBERS[kind])
        if isinstance(value, np.ma.MaskedArray):
            value = np.ma.filled(value.astype(np.float64), np.nan)
        given = cast("ArrayLike", value)  # NumPy raises if it is none
        array = np.ascontiguousarray(given, dtype=np.float64) if np.ndim(given) else np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: expected an array of real numbers, got {shown(value)} ({error})") from error
    if ndim is not None and array.ndim != ndim:
        raise ShapeError(f"{name}: expected {ndim} dimension(s), got shape {array.shape}")
    return array


def _in_unit(value: object, name: str, unit: str | None) -> object:
    """Return the numbers of a quantity in the unit; of a column without a unit as they are."""
    own = getattr(value, "unit", None)
    if unit is None or own is None:
        return getattr(value, "value", value)
    try:
        quantity: Quantity = getattr(value, "quantity", value)
        return quantity.to_value(unit)
    except ValueError as error:
        raise UnitError(f"{name}: expected a unit that converts to {unit}, got {own}") from error


def as_integer(value: object, name: str) -> IntArray:
    """Return an array of int64, or raise unless all values are whole numbers.

    Parameters
    ----------
    value : array-like
        Numbers; 3.0 is a whole number.
    name : str
        Name of the argument in error messages.

    Returns
    -------
    ndarray of int64

    Raises
    ------
    InputError
        If a value is no whole number, or beyond 2**63.
    """
    array = as_array(value, name)
    if array.dtype.kind not in "iu":
        number = as_float(value, name)
        if not np.all(np.abs(number) < 2.0**63) or np.any(number != np.rint(number)):
            raise InputError(f"{name}: expected whole numbers, got {shown(value)}")
        array = number
    return array.astype(np.int64)


def as_flag(value: object, name: str) -> BoolArray:
    """Return an array of True and False, or raise unless all values are, or are 0 and 1."""
    array = as_array(value, name)
    if array.dtype.kind not in "biuf" or not np.all((array == 0) | (array == 1)):
        raise InputError(f"{name}: expected True or False for each, got {shown(value)}")
    return array.astype(bool)


def as_array(value: object, name: str) -> AnyArray:
    """Return what NumPy makes of a value, or raise if that is nothing: ragged lists, bytes beside texts."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: expected an array, got {shown(value)} ({error})") from error


def check_shape(array: object, shape: tuple[int, ...], name: str, meaning: str) -> None:
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
    if shape_of(array) != shape:
        raise ShapeError(f"{name}: expected shape {shape} ({meaning}), got {shape_of(array)}")


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
        raise InputError(f"{name}: expected a finite number above 0, got {shown(value)}")


def check_range(value: object, name: str, low: float, high: float, unit: str) -> None:
    """Raise unless the value is a number between two bounds, both included; `unit` is for the message."""
    if not is_number(value) or not low <= value <= high:
        raise InputError(f"{name}: expected a number from {low:g} to {high:g} {unit}, got {shown(value)}")


def check_choice(value: object, choices: tuple[object, ...], name: str) -> None:
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
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise InputError(f"{name}: expected one of {', '.join(repr(c) for c in choices)}, got {shown(value)}{hint}")


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
            raise InputError(f"{name}: expected some of {', '.join(known)}, got {one}{did_you_mean(one, known)}")


def did_you_mean(given: object, known: Iterable[object]) -> str:
    """Return the end of a message that names the known word nearest to what came, or nothing."""
    near = difflib.get_close_matches(str(given), [str(one) for one in known], 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""


def check_absent(given: Named, name: str, reason: str) -> None:
    """Raise if an option was given that is not to choose here."""
    if name in given:
        raise InputError(f"{name}: expected no such option here, got {shown(given[name])}; {reason}")


@contextmanager
def say_what_the_system_refused(path: Path) -> Iterator[None]:
    """Turn what the system says about a file that it does not write into a sentence."""
    if "\0" in str(path):
        raise InputError(f"path: expected a name of a file, got {str(path)!r} with a null character")
    if not path.name:
        raise InputError(f"path: expected a name of a file, got {str(path)!r}; add a name")
    try:
        yield
    except BayesprfError:
        raise
    except OSError as error:
        raise FileError(
            f"{path}: cannot be written ({error.strerror or error}); make room, or choose another place"
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under its name once all of it is on disk; an earlier one stays if the system refuses."""
    with say_what_the_system_refused(path):
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


# What a field of a record may hold, by its annotation.
_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool, np.bool_), "True or False"),
    int: ((int, np.integer), "a whole number"),
    float: ((Real, np.floating, np.integer), "a number"),
    str: ((str,), "a text"),
    NoneType: ((NoneType,), "None"),
    Path: ((os.PathLike,), "a path"),
}
# How to come by a record of the package.
_MADE_BY = {
    "PixelTable": "; read_tpfs and read_image make one of files",
    "SourceTable": "; read_catalog makes one of a file or a table",
    "Instrument": "; bayesprf.instruments has those of the missions",
    "DataTree": "; Machine.to_datatree makes one",
    "FluxWidths": "; Machine.learn_widths makes one",
    "FitOptions": "; bayesprf.pipeline has it",
}
# Shown: letters of a value in a message; longer ones are described.
_LONGEST_SHOWN = 80


def check_types(record: "DataclassInstance") -> None:
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
        if one.init:
            _check_kind(getattr(record, one.name), one.type, one.name)


def checked[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """Make a function look at its arguments before it runs: their names, and what is annotated with plain types.

    Parameters
    ----------
    function : callable
        Annotated with types, not with texts. Numbers, texts, flags, paths, classes, and unions of them are looked at.

    Returns
    -------
    callable
        The same, but it raises `InputError` with the name of the argument for one of a wrong type, or of a name that
        it does not know.
    """
    signature = inspect.signature(function)
    open_ended = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
    named = [name for name, one in signature.parameters.items() if one.kind is not one.VAR_KEYWORD and name != "self"]

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if not open_ended:
            check_names(kwargs, named, function.__name__)
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # too few or too many: Python's own sentence says it well
            return function(*args, **kwargs)
        for name, value in given.items():
            parameter = signature.parameters[name]
            each = value if parameter.kind is parameter.VAR_KEYWORD else {name: value}
            for one, content in each.items():
                _check_kind(content, parameter.annotation, one)
        return function(*args, **kwargs)

    return run


def checked_methods[T: type](owner: T) -> T:
    """Make every public method of a class, and its constructor, look at its arguments: see `checked`."""
    for name, one in list(vars(owner).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if inspect.isfunction(one):
            setattr(owner, name, checked(one))
        elif isinstance(one, classmethod):
            setattr(owner, name, classmethod(checked(one.__func__)))
    return owner


def _check_kind(value: object, annotation: object, name: str) -> None:
    """Raise unless a value is what an annotation of plain types says; any other annotation says nothing."""
    given = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    kinds = [kind for kind in given if _is_plain(kind)]
    if len(kinds) == len(given) and not any(_is(value, kind) for kind in kinds):
        cure = "".join(_MADE_BY[kind.__name__] for kind in kinds if kind.__name__ in _MADE_BY)
        raise InputError(f"{name}: expected {' or '.join(_words_of(kinds))}, got {shown(value)}{cure}")


def _is_plain(kind: object) -> TypeGuard[type]:
    """Return whether an annotation is a plain class."""
    is_class = isinstance(kind, type) and get_origin(kind) is None and not getattr(kind, "_is_protocol", False)
    return is_class and kind not in (Any, inspect.Parameter.empty)


def _words_of(kinds: Iterable[type]) -> Iterator[str]:
    for kind in kinds:
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        yield _KINDS[kind][1] if kind in _KINDS else f"{article} {kind.__name__}"


def check_integer(value: object, name: str, *, low: int, high: int | None = None) -> None:
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
        raise InputError(f"{name}: expected a whole number from {low} {upper}, got {shown(value)}")


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is one finite real number."""
    return _is(value, float) and _is_finite(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is[T](value: object, kind: type[T]) -> TypeGuard[T]:
    """Return whether a value can stand for a kind: a whole number for a real one, but no flag for a number."""
    accepted = _KINDS[kind][0] if kind in _KINDS else (kind,)
    return isinstance(value, accepted) and (kind in (bool, object) or not isinstance(value, bool | np.bool_))


def make_directory(directory: Path, name: str = "") -> None:
    """Make a directory and those above it, or raise `FileError`; `name` is that of the argument, for the message."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        came = f", got {str(directory)!r}" if name else ""
        raise FileError(
            f"{name or directory}: expected a directory that exists or can be made{came} ({error.strerror or error});"
            " choose another"
        ) from error


def listed(items: Sequence[object], most: int = 5) -> str:
    """Return the first of several things as a message names them."""
    return ", ".join(str(one) for one in items[:most]) + (", ..." if len(items) > most else "")


def shown(value: object) -> str:
    """Return a value as an error message shows it: in full if short, else its type and shape."""
    text = repr(value)
    if len(text) <= _LONGEST_SHOWN and text.isprintable():
        return text
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {shape}" if shape is not None else "")


def make_generator(random_seed: object) -> np.random.Generator:
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
        return np.random.default_rng(cast("int | None", random_seed))  # NumPy raises if it is none
    except (TypeError, ValueError) as error:
        raise InputError(
            f"random_seed: expected None, a whole number from 0 up, several, or a Generator, got {shown(random_seed)}"
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
