"""Names of the array types used in annotations, and what records that hold arrays share: comparison, and display."""

from collections.abc import Mapping, Sized
from dataclasses import fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import sparray, spmatrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Int32Array = NDArray[np.int32]
# An array as a file or a caller holds it: of any type.
AnyArray = NDArray[Any]
# A PyTensor variable, or an array where numbers do; PyTensor gives its operators no types.
Tensor = Any
# Arrays, numbers and words by name, as files, tables and options hold them.
Named = Mapping[str, Any]
NamedDict = dict[str, Any]


# Rounding: a number beyond this, or below its inverse, is none, as its square and sums of squares are not.
LARGEST = 1e100


def pointers(count: IntArray | BoolArray) -> IntArray:
    """Return where runs of so many entries begin, one after the other, and where the last ends, shape (n + 1,)."""
    return np.concatenate([[0], np.cumsum(count)])


def row_entries(indptr: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Return the pointers of some rows of a sparse matrix taken by themselves, and where their entries stand in it."""
    taken = pointers(np.diff(indptr)[rows])
    return taken, np.arange(taken[-1]) + np.repeat(indptr[rows] - taken[:-1], np.diff(taken))


def shape_of(value: object) -> tuple[int, ...]:
    """Return the shape of an array, or of what NumPy makes one of; of a sequence that is none, its length."""
    try:
        return np.shape(cast("ArrayLike", value))
    except ValueError:  # ragged, or bytes beside texts
        return (len(cast("Sized", value)),)


def same_content(one: object, other: object) -> bool:
    """Return whether two values hold the same numbers, NaN equal to NaN, however deep in records, lists or mappings."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.dtype == other.dtype and _same_numbers(one, other)
    if isinstance(one, sparray | spmatrix) and isinstance(other, sparray | spmatrix):
        return one.shape == other.shape and _same_numbers(one.toarray(), other.toarray())
    if is_dataclass(one):
        return all(same_content(getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_content(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_content, one, other))
    if type(one).__eq__ is object.__eq__:
        return same_content(one.__getstate__(), other.__getstate__())
    return bool(one == other) or bool(one != one and other != other)


def _same_numbers(one: AnyArray, other: AnyArray) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")


def brief(record: object) -> str:
    """Return the first line of what a record says of itself, for its `__repr__`: arrays would fill the screen."""
    return f"<{type(record).__name__}: {str(record).partition(chr(10))[0]}>"


def brief_html(record: object) -> str:
    """Return what a record says of itself, for its `_repr_html_`."""
    return f"<pre>{type(record).__name__}: {escape(str(record))}</pre>"
