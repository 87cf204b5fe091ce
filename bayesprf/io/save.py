"""DataTrees on disk: written under a temporary name, then renamed."""

from pathlib import Path
from typing import Any

import xarray as xr

from bayesprf.errors import FileError, InputError
from bayesprf.io.files import atomic_path, sha256_of

__all__ = ["atomic_path", "load_attributes", "load_tree", "save_tree", "sha256_of"]


def save_tree(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a DataTree as netCDF-4; the final name appears only when the file is complete.

    Parameters
    ----------
    tree : xarray.DataTree
        Results; every attribute must be a number, a string or a list of them.
    path : path-like
        File to write, replaced if it exists.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If `tree` is not a DataTree.
    FileError
        If the directory does not exist.
    """
    if not isinstance(tree, xr.DataTree):
        raise InputError(f"tree: expected an xarray.DataTree, got {type(tree).__name__}; make one with to_datatree()")
    path = Path(path)
    with atomic_path(path) as temporary:
        tree.to_netcdf(temporary, engine="h5netcdf")
    return path


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
        If the file is missing, cut short or not netCDF-4.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"path: expected a file written by save_tree, found no file at {str(path)!r}")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            return tree.load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # what HDF5 raises for damaged files
        raise FileError(f"{path}: expected a complete netCDF-4 file, but it cannot be read ({error})") from error


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
        If the file is missing, cut short or not netCDF-4.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"path: expected a file written by save_tree, found no file at {str(path)!r}")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as root:
            return dict(root.attrs)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # what HDF5 raises for damaged files
        raise FileError(f"{path}: expected a complete netCDF-4 file, but it cannot be read ({error})") from error
