"""Columns of a catalogue as results can hold them."""

import numpy as np

from bayesprf.arrays import AnyArray, BoolArray, Named
from bayesprf.results.schema import COORDINATES, SCHEMA

_RESERVED = frozenset(one.name for one in (*COORDINATES, *SCHEMA["catalog"]))


def is_missing(column: object) -> BoolArray:
    """Return which entries of a column are masked, NaN, None or empty text, shape (n_source,)."""
    values = _values_of(column)
    missing = np.array(np.broadcast_to(np.asarray(getattr(values, "mask", False), bool), values.shape))
    if values.dtype.kind == "f":
        missing |= np.isnan(np.asarray(values))
    if values.dtype.kind in "OUS":
        missing |= np.array([_is_nothing(one) for one in np.asarray(values).tolist()], bool)
    return missing


def texts_of(column: object) -> list[str]:
    """Return a column as text without blanks around, "" where an entry is missing."""
    missing = is_missing(column).tolist()
    values = np.asarray(_values_of(column)).tolist()
    return ["" if gone else _as_text(one) for one, gone in zip(values, missing, strict=True)]


def plain_columns(columns: Named) -> dict[str, AnyArray]:
    """Return columns as results and netCDF can hold them, with nothing left out.

    Parameters
    ----------
    columns : mapping of str to array-like
        A table; pandas, NumPy and astropy columns, times and sky coordinates.

    Returns
    -------
    dict of str to ndarray, shape (n_source,)
        Numbers as they are, masked where they are missing; everything else as text, "" where it is missing. A sky
        coordinate becomes two columns in degree, ICRS; a time becomes text in ISO 8601. In names a slash or a control
        character becomes "_"; one that results use themselves gets "_given" at its end, an empty one the number of its
        column, and of two that become the same the later one a number.
    """
    plain: dict[str, AnyArray] = {}
    for number, (name, column) in enumerate(columns.items()):
        for one, values in _split(_clean_name(str(name), number), column).items():
            plain[_free_name(one, plain)] = values
    return plain


def _clean_name(name: str, number: int) -> str:
    clean = "".join("_" if one == "/" or not one.isprintable() else one for one in name).strip()
    clean = f"column_{number}" if clean in ("", ".", "..") else clean
    return f"{clean}_given" if clean in _RESERVED else clean


def _free_name(name: str, taken: Named) -> str:
    count, free = 2, name
    while free in taken:
        free, count = f"{name}_{count}", count + 1
    return free


def _split(name: str, column: object) -> dict[str, AnyArray]:
    if hasattr(column, "icrs"):
        sky = column.icrs
        return {f"{name}_ra_deg": np.asarray(sky.ra.deg), f"{name}_dec_deg": np.asarray(sky.dec.deg)}
    if hasattr(column, "isot"):
        return {name: np.array([str(one) for one in np.ma.filled(np.ma.asarray(column.isot), "")], object)}
    return {name: _as_stored(column)}


def _values_of(column: object) -> AnyArray:
    """Return the values of a column as an array of NumPy, masked if they are."""
    values: object = getattr(column, "value", column)
    if hasattr(values, "unmasked") and hasattr(values, "mask"):
        return np.ma.MaskedArray(np.asarray(values.unmasked), mask=values.mask)
    return np.ma.MaskedArray(values) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)


def _as_stored(column: object) -> AnyArray:
    values = _values_of(column)
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind in "iub" or (kind == "f" and size in (4, 8)):
        native = values.astype(values.dtype.newbyteorder("="))
        return native if np.any(getattr(native, "mask", False)) else np.asarray(native)
    if kind == "f":
        return values.astype(np.float32 if size < 4 else np.float64)
    if kind == "M":
        return np.where(np.isnat(values), "", np.datetime_as_string(values)).astype(object)
    return np.array(texts_of(values), object)


def _as_text(value: object) -> str:
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()


def _is_nothing(value: object) -> bool:
    if isinstance(value, str | bytes):
        return not value.strip()
    return value is None or type(value).__name__ == "NAType" or bool(value != value)
