"""Strategies of hypothesis for tests of a border: odd values, odd arrays, damaged files."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from bayesprf.arrays import AnyArray


def any_value() -> SearchStrategy[object]:
    """Return a hypothesis strategy of whatever may be given for an argument: right and wrong types, and odd numbers.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        None, flags, whole and real numbers (NaN, infinite, huge), complex numbers, texts, bytes, lists, dicts, arrays.
    """
    number = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.complex_numbers())
    plain = st.one_of(st.none(), st.booleans(), number, st.text(max_size=8), st.binary(max_size=4))
    array = st.builds(np.full, st.lists(st.integers(0, 3), max_size=3).map(tuple), st.floats() | st.integers(-9, 9))
    nested = st.one_of(st.lists(plain, max_size=3), st.dictionaries(st.text(max_size=3), plain, max_size=2))
    return st.one_of(
        plain, nested, array, st.sampled_from(["bin", "joint", "stamp", "sqrt", "centroid", np.float32(2)])
    )


def odd_array(good: object) -> SearchStrategy[AnyArray]:
    """Return a hypothesis strategy of arrays like a good one, with something odd about them.

    Parameters
    ----------
    good : array-like
        An array that is accepted.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        The array with single values or all of them replaced (NaN, infinite, huge, tiny, negative), cut, of another
        shape, order or type.
    """
    array = np.asarray(good)
    odd = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-300, 1e300, -1e30, 1e12, 2.0**31, 0.5])
    place = st.integers(0, max(array.size - 1, 0))
    return st.one_of(
        st.builds(_with_value, st.just(array), place, odd),
        st.builds(lambda value: np.full(array.shape, value), odd),
        st.builds(_scaled, st.just(array), odd, st.booleans()),
        st.sampled_from([array[:0], array[1:], array[None], array.T, array[::-1], array.ravel(), array[..., :1]]),
        st.sampled_from(["f4", "f2", ">f8", "i8", "?", "c16", "O", "U8", "S4", "M8[s]"]).map(
            lambda kind: _cast(array, kind)
        ),
    )


def _with_value(array: AnyArray, place: int, value: float) -> AnyArray:
    changed = np.array(array, np.float64)
    if changed.size:
        changed.ravel()[place] = value
    return changed


def _scaled(array: AnyArray, value: float, add: bool) -> AnyArray:
    with np.errstate(all="ignore"):
        return array + value if add else array * value


def _cast(array: AnyArray, kind: str) -> AnyArray:
    with np.errstate(all="ignore"):
        return array.astype(np.int64).astype(kind) if kind == "M8[s]" else array.astype(kind)


def damaged(content: bytes) -> SearchStrategy[bytes]:
    """Return a hypothesis strategy of a file's content as broken disks, downloads and editors leave it.

    Parameters
    ----------
    content : bytes
        The file as it should be.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Bytes: cut short, with flipped bits, blocks of zeros, bytes put in, taken out or replaced.
    """
    size = len(content)
    place = st.integers(0, max(size - 1, 0))
    piece = st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\0" * 2880, b" " * 80, b"\xff" * 16, b"nan", b"-1", b"1e999", b"'", b'"', b"\r\n", b"/>"]),
    )
    return st.one_of(
        place.map(lambda end: content[:end]),
        st.lists(st.tuples(place, st.integers(0, 7)), min_size=1, max_size=4).map(lambda bits: _flip(content, bits)),
        st.builds(lambda at, new: content[:at] + new + content[at:], place, piece),
        st.builds(lambda at, new: content[:at] + new + content[at + len(new) :], place, piece),
        st.builds(lambda at, count: content[:at] + content[at + count :], place, st.sampled_from([1, 80, 2880])),
    )


def _flip(content: bytes, bits: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, bit in bits:
        if changed:
            changed[place] ^= 1 << bit
    return bytes(changed)
