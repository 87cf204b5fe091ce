"""What differs between two trees, as a small table."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesprf.arrays import FloatArray
from bayesprf.checks import as_float


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two trees differ.

    Parameters
    ----------
    path : str
        Group and name of the variable, as "/photometry/flux"; with "@" before the name of an attribute.
    what : str
        "only in a", "only in b", "shape", "values" or "attribute".
    largest : float
        Largest difference over the larger magnitude of the two; infinite where only one is finite, NaN
        where it does not apply.
    count : int
        Number of entries that differ.
    """

    path: str
    what: str
    largest: float = np.nan
    count: int = 0


def differences(tree_a: xr.DataTree, tree_b: xr.DataTree, rtol: float = 0.0) -> tuple[Difference, ...]:
    """List every variable in which two trees differ.

    Parameters
    ----------
    tree_a, tree_b : xarray.DataTree
        Results, as `build_tree` makes them.
    rtol : float
        Largest accepted relative difference of numbers; 0 asks for equal values. NaN equals NaN.

    Returns
    -------
    tuple of Difference
        Ordered by path; empty if the trees agree.
    """
    a, b = _flatten(tree_a), _flatten(tree_b)
    found = [Difference(path, "only in a") for path in a.keys() - b.keys()]
    found += [Difference(path, "only in b") for path in b.keys() - a.keys()]
    for path in a.keys() & b.keys():
        one = _compare_arrays(path, a[path], b[path], rtol)
        found += [one] if one else []
    names = tree_a.attrs.keys() | tree_b.attrs.keys()
    found += [Difference(f"/@{key}", "attribute") for key in names if tree_a.attrs.get(key) != tree_b.attrs.get(key)]
    return tuple(sorted(found, key=lambda one: one.path))


def _flatten(tree: xr.DataTree) -> dict[str, xr.Variable]:
    return {
        f"{node.path.rstrip('/')}/{name}": array
        for node in tree.subtree
        for name, array in node.to_dataset().variables.items()
    }


def _compare_arrays(path: str, a: xr.Variable, b: xr.Variable, rtol: float) -> Difference | None:
    if a.dims != b.dims or a.shape != b.shape:
        return Difference(path, "shape")
    if not (a.dtype.kind in "fiub" and b.dtype.kind in "fiub"):
        count = int(np.count_nonzero(np.asarray(a.values != b.values)))
        return Difference(path, "values", count=count) if count else None
    relative = _relative_difference(as_float(a.values, path, flags=True), as_float(b.values, path, flags=True))
    count = int(np.count_nonzero(relative > rtol))
    return Difference(path, "values", float(relative.max()), count) if count else None


def _relative_difference(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return |a - b| / max(|a|, |b|), 0 where both are equal or NaN, infinite where only one is finite."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
    return np.where(same, 0.0, np.where(np.isfinite(a) & np.isfinite(b), relative, np.inf))
