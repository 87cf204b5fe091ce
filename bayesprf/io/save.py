"""DataTrees on disk: made in memory, written under a temporary name, then renamed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from bayesprf.errors import FileError, InputError
from bayesprf.io.files import atomic_path, sha256_of
from bayesprf.io.pixels.fits_file import check_local

__all__ = ["atomic_path", "load_attributes", "load_tree", "save_tree", "sha256_of"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ENDINGS = (".nc", ".nc4", ".netcdf", ".h5", ".hdf5")
# Deflate packs at most 1032 to 1 (RFC 1951): values that need more than that were never written.
_DENSEST = 1032
_TITLE = "bayesprf photometry"
_JSON_ATTRIBUTES = ("versions", "options", "input_files")
# What HDF5, h5netcdf and xarray raise for damaged files.
_DAMAGE = (
    OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError, IndexError, AssertionError, ArithmeticError,
    MemoryError,
)  # fmt: skip


def save_tree(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a DataTree as netCDF-4; the final name appears only when the file is complete.

    Parameters
    ----------
    tree : xarray.DataTree
        Results; every attribute must be a number, a string or a list of them.
    path : path-like
        File to write, replaced if it exists and holds results; another kind of file is not overwritten.

    Returns
    -------
    Path
        The file written. The same tree gives the same bytes.

    Raises
    ------
    InputError
        If `tree` is not a DataTree, or `path` names a file of another kind, such as an input.
    FileError
        If the directory does not exist, or the system refuses to write: a full disk, a read-only place.

    Notes
    -----
    Numbers are stored with their checksums (Fletcher-32), so that a damaged file is found when it is read.
    """
    if not isinstance(tree, xr.DataTree):
        raise InputError(f"tree: expected an xarray.DataTree, got {type(tree).__name__}; make one with to_datatree()")
    check_local(path, "path")
    path = Path(path)
    _check_replaceable(path)
    # HDF5 ends the process when a disk is full: it writes to memory, and plain bytes go to disk.
    with memoryview(tree.to_netcdf(engine="h5netcdf", encoding=_with_checksums(tree))) as made:
        content = bytes(made)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def _check_replaceable(path: Path) -> None:
    if path.suffix.lower() in _ENDINGS or not path.is_file() or path.stat().st_size == 0:
        return
    with open(path, "rb") as handle:
        if handle.read(len(_HDF5)) != _HDF5:
            raise InputError(
                f"path: expected a new file or earlier results, got {str(path)!r}, which is of another kind and would"
                " be overwritten; choose another name"
            )


def _with_checksums(tree: xr.DataTree) -> dict[str, dict[str, dict[str, bool]]]:
    """Return the encoding that stores every array of numbers with its checksums, by group and name."""
    found = {}
    for node in tree.subtree:
        variables = node.to_dataset(inherit=False).variables
        numbers = [str(name) for name, one in variables.items() if one.dtype.kind in "fiub" and one.ndim and one.size]
        if numbers:
            found[node.path] = {name: {"fletcher32": True} for name in numbers}
    return found


def load_tree(path: str | Path) -> xr.DataTree:
    """Read a DataTree written by `save_tree` into memory and close the file.

    Parameters
    ----------
    path : path-like
        File to read.

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    FileError
        If the file is missing, damaged, cut short or not netCDF-4.
    """

    def read(path: Path) -> xr.DataTree:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            if tree.nbytes > _DENSEST * path.stat().st_size:
                raise ValueError(f"it names {tree.nbytes} bytes of values, more than a file of its size can hold")
            found = tree.load()
        _check_results(found)
        return found

    return _guarded(path, read)


def _check_results(tree: xr.DataTree) -> None:
    """Raise if results of a fit lack what all of them have."""
    if tree.attrs.get("title") != _TITLE:
        return
    for name in _JSON_ATTRIBUTES:
        try:
            sound = isinstance(json.loads(tree.attrs.get(name, "")), dict)
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise ValueError(f"its attribute {name} is damaged")
    if "catalog" not in tree.children or "source" not in tree["catalog"].coords:
        raise ValueError("it has no catalogue")


def load_attributes(path: str | Path) -> dict[str, Any]:
    """Read only the root attributes of a file written by `save_tree`.

    Parameters
    ----------
    path : path-like
        File to read.

    Returns
    -------
    dict
        Attributes by name.

    Raises
    ------
    FileError
        If the file is missing, damaged, cut short or not netCDF-4.
    """

    def read(path: Path) -> dict[str, Any]:
        with xr.open_dataset(path, engine="h5netcdf") as root:
            return dict(root.attrs)

    return _guarded(path, read)


def check_intact(path: str | Path) -> None:
    """Read every group, attribute and value of a file of `save_tree`, and compare the values with their checksums.

    Parameters
    ----------
    path : path-like
        File to read.

    Raises
    ------
    FileError
        If the file is missing, damaged, cut short or not netCDF-4.
    """
    _guarded(path, lambda path: _walk(path, values=True))


def _walk(path: Path, *, values: bool = False) -> None:
    """Look at every group and attribute; h5netcdf does not close a file that it fails to open for their damage."""
    import h5py

    def look(name: str, one: Any) -> None:
        list(one.attrs.items())
        if values and isinstance(one, h5py.Dataset) and one.shape is not None and one.id.get_storage_size():
            one[()]

    with h5py.File(path, "r") as file:
        list(file.attrs.items())
        file.visititems(look)


def _guarded[T](path: str | Path, read: Callable[[Path], T]) -> T:
    """Run a reader, and turn what damaged files raise into one FileError."""
    check_local(path, "path")
    path = Path(path)
    if not path.is_file():
        raise FileError(f"path: expected a file written by save_tree, found no file at {str(path)!r}")
    try:
        _walk(path)
        return read(path)
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(
            f"{path}: expected a complete netCDF-4 file, but it cannot be read ({reason}); make it anew"
        ) from error
