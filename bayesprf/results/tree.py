"""Plain arrays in, one labelled xarray.DataTree out."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import cast

import numpy as np
import xarray as xr

from bayesprf.arrays import AnyArray, Named, NamedDict
from bayesprf.errors import InputError, ShapeError
from bayesprf.results.schema import COORDINATES, GROUP_SENTENCES, Variable, find_variable

_PACKAGES = ("bayesprf", "numpy", "scipy", "xarray")


def build_tree(groups: Mapping[str, Named], coords: Named, attrs: Named) -> xr.DataTree:
    """Label arrays by the schema and gather them in one tree.

    Parameters
    ----------
    groups : mapping of str to mapping of str to array-like
        Per group the arrays by name, in the shapes, units and types of `bayesprf.results.schema`. Names and
        groups that were not computed are left out, or None.
    coords : mapping of str to array-like
        `time` (n_time,) in day, `cadence_number` (n_time,), `source` (n_source,): names of the sources.
    attrs : mapping of str to object
        Attributes of the root; what is not text or a number is stored as JSON.

    Returns
    -------
    xarray.DataTree
        Every variable carries `units` and `long_name`; every group carries the coordinates of its dimensions.

    Raises
    ------
    InputError
        If a group, name or coordinate is unknown, or values cannot be stored as the schema says.
    ShapeError
        If an array does not have the dimensions of the schema, or two disagree in their length.
    """
    labelled = _label_coordinates(coords)
    sizes: dict[str, int] = {name: labelled[name].size for name in ("time", "source") if name in labelled}
    datasets = {}
    for group, arrays in groups.items():
        chosen = {name: values for name, values in arrays.items() if values is not None}
        if chosen:
            datasets[f"/{group}"] = _build_dataset(group, chosen, labelled, sizes)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=_plain_attributes(attrs)), **datasets})


def creation_time() -> str:
    """Return the time of creation of results, UTC, ISO 8601: now, or what SOURCE_DATE_EPOCH says.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If the environment variable SOURCE_DATE_EPOCH is not a whole number of seconds.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        when = datetime.now(UTC) if given is None else datetime.fromtimestamp(int(given), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(f"SOURCE_DATE_EPOCH: expected a whole number of seconds since 1970, got {given!r}") from error
    return when.isoformat(timespec="seconds")


def root_attributes(
    *,
    instrument: str,
    time_zero_jd: float,
    options: Named,
    recipes: Named,
    files: Mapping[str, str],
    created: str,
) -> dict[str, str | float]:
    """Return the attributes of the root: what made this tree, from what, when.

    Parameters
    ----------
    instrument : str
        Name of the mission.
    time_zero_jd : float
        Julian date of time 0, day.
    options : mapping of str to object
        Every setting of the fit.
    recipes : mapping of str to mapping
        Options of every stage that has run, and of the reader.
    files : mapping of str to str
        Checksum of every input file, by its name.
    created : str
        Time of creation, ISO 8601, UTC.

    Returns
    -------
    dict
        Text and numbers only; mappings as JSON.
    """
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    return {
        "title": "bayesprf photometry",
        "instrument": instrument,
        "time_zero_jd": float(time_zero_jd),
        "created": created,
        "versions": _as_json(versions),
        "options": _as_json(dict(options)),
        "recipes": _as_json(dict(recipes)),
        "input_files": _as_json(dict(files)),
    }


def _label_coordinates(coords: Named) -> dict[str, xr.DataArray]:
    known = {variable.name: variable for variable in COORDINATES}
    unknown = set(coords) - set(known)
    if unknown:
        raise InputError(f"coords: expected some of {', '.join(known)}, got {sorted(unknown)[0]!r}")
    return {name: _label(known[name], values, f"coords[{name!r}]", {}) for name, values in coords.items()}


def _build_dataset(
    group: str, arrays: Named, coords: Mapping[str, xr.DataArray], sizes: Mapping[str, int]
) -> xr.Dataset:
    found = dict(sizes)
    variables = {}
    for name, values in arrays.items():
        variables[name] = _label(find_variable(group, name), values, f"groups[{group!r}][{name!r}]", found)
        found.update({str(dim): size for dim, size in variables[name].sizes.items()})
    used = {dim for array in variables.values() for dim in array.dims}
    here = {name: array for name, array in coords.items() if set(array.dims) <= used}
    return xr.Dataset(variables, coords=here, attrs={"description": GROUP_SENTENCES[group]})


def _label(variable: Variable, values: object, argument: str, sizes: Mapping[str, int]) -> xr.DataArray:
    array = _convert(values, variable.dtype, argument)
    expected = tuple(sizes.get(dim) for dim in variable.dims)
    fits = array.ndim == len(expected) and all(
        want in (None, got) for want, got in zip(expected, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(f"{dim} = {sizes.get(dim, 'any')}" for dim in variable.dims)
        raise ShapeError(f"{argument}: expected shape ({wanted}), got {array.shape}")
    attrs: dict[str, object] = {"units": variable.unit, "long_name": variable.long_name}
    if _is_masked(values) and array.dtype.kind in "iu":
        attrs["masked_value"] = _masked_value(array.dtype)
    return xr.DataArray(array, dims=variable.dims, attrs=attrs)


def _convert(values: object, dtype: str, argument: str) -> AnyArray:
    """Return the values as the type of the schema; catalogue columns keep theirs, mixed ones become text."""
    array = _fill_masked(values) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    try:
        if dtype == "as given":
            return array.astype(array.dtype.newbyteorder("=")) if array.dtype.kind in "fiub" else _as_text(array)
        return _as_text(array) if dtype == "str" else array.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{argument}: expected values that are {dtype}, got {array.dtype} ({error})") from error


def _is_masked(values: object) -> bool:
    return isinstance(values, np.ma.MaskedArray) and bool(np.any(values.mask))


def _masked_value(dtype: np.dtype[np.generic]) -> np.integer:
    """Return what stands for a masked whole number: the smallest of its type, or the largest of an unsigned one."""
    whole = cast("np.dtype[np.integer]", dtype)
    limits = np.iinfo(whole)
    return whole.type(limits.min if limits.min < 0 else limits.max)


def _fill_masked(values: np.ma.MaskedArray[tuple[int, ...], np.dtype[np.generic]]) -> AnyArray:
    """Return numbers with NaN, or `_masked_value`, where they are masked, or text with "" there."""
    if not _is_masked(values):
        return np.asarray(values.data)
    if values.dtype.kind in "iu":
        return np.ma.filled(values, _masked_value(values.dtype))
    if values.dtype.kind in "fb":
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.ma.filled(values.astype(object), "")


def _as_text(array: AnyArray) -> AnyArray:
    missing = np.array([one is None or one != one for one in array.ravel()], bool).reshape(array.shape)
    return np.where(missing, "", array.astype(str)).astype(object)


def _plain_attributes(attrs: Named) -> NamedDict:
    return {name: value if isinstance(value, str | int | float) else _as_json(value) for name, value in attrs.items()}


def _as_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=_json_default)


def _json_default(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
