"""DataTrees on disk: made in memory, written under a temporary name, then renamed."""

import hashlib
import json
import mmap
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from bayesprf.arrays import NamedDict
from bayesprf.checks import checked
from bayesprf.errors import FileError, InputError
from bayesprf.io.files import atomic_path, sha256_of
from bayesprf.io.pixels.fits_file import check_local
from bayesprf.report.accessor import with_pictures

__all__ = ["atomic_path", "load_attributes", "load_tree", "save_tree", "sha256_of"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01\0\0\0"
_SEAL = b"bayesprf sha256:"
_SEAL_SIZE = len(_SEAL) + 64
_ENDINGS = (".nc", ".nc4", ".netcdf", ".h5", ".hdf5")
# Deflate packs at most 1032 to 1 (RFC 1951): values that need more than that were never written.
_DENSEST = 1032
_TITLE = "bayesprf photometry"
_JSON_ATTRIBUTES = ("versions", "options", "input_files")
# Those that results of earlier versions lack.
_LATER_ATTRIBUTES = ("recipes",)
# What HDF5, h5netcdf and xarray raise for damaged files.
_DAMAGE = (
    OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError, IndexError, AssertionError, ArithmeticError,
    MemoryError,
)  # fmt: skip


@checked
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
    Behind the netCDF stands a checksum of the whole, so that a damaged file is found when it is read.
    """
    if not isinstance(tree, xr.DataTree):
        raise InputError(f"tree: expected an xarray.DataTree, got {type(tree).__name__}; make one with to_datatree()")
    check_local(path, "path")
    path = Path(path)
    _check_replaceable(path)
    # HDF5 ends the process when a disk is full: it writes to memory, and plain bytes go to disk.
    with _outside_of_dask(), memoryview(tree.to_netcdf(engine="h5netcdf")) as made:
        content = bytes(made)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content + _seal(content))
    return path


@contextmanager
def _outside_of_dask() -> Iterator[None]:
    """Keep xarray from asking a Dask cluster for the lock of a file that is in this process's memory."""
    dask = sys.modules.get("dask")
    if dask is None:
        yield
        return
    with dask.config.set(scheduler="synchronous"):
        yield


def _check_replaceable(path: Path) -> None:
    if path.suffix.lower() in _ENDINGS or not path.is_file() or path.stat().st_size == 0:
        return
    with open(path, "rb") as handle:
        if handle.read(len(_HDF5)) != _HDF5:
            raise InputError(
                f"path: expected a new file or earlier results, got {str(path)!r}, which is of another kind and would"
                " be overwritten; choose another name"
            )


@checked
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
        _check_seal(path)
        _walk(path)
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            if tree.nbytes > _DENSEST * path.stat().st_size:
                raise ValueError(f"it names {tree.nbytes} bytes of values, more than a file of its size can hold")
            found = tree.load()
        _check_axes(found)
        _check_results(found)
        return with_pictures(found)

    return _guarded(path, read)


def _check_axes(tree: xr.DataTree) -> None:
    """Raise if a variable has lost the names of its axes."""
    for node in tree.subtree:
        for name, variable in node.variables.items():
            if len(variable.dims) != variable.ndim:
                raise ValueError(f"its variable {node.path}/{name} has lost an axis")


def _check_results(tree: xr.DataTree) -> None:
    """Raise if results of a fit lack what all of them have."""
    if tree.attrs.get("title") != _TITLE:
        return
    later = [name for name in _LATER_ATTRIBUTES if name in tree.attrs]
    for name in (*_JSON_ATTRIBUTES, *later):
        try:
            sound = isinstance(json.loads(tree.attrs.get(name, "")), dict)
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise ValueError(f"its attribute {name} is damaged")
    if "catalog" not in tree.children or "source" not in tree["catalog"].coords:
        raise ValueError("it has no catalogue")


@checked
def load_attributes(path: str | Path) -> NamedDict:
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

    def read(path: Path) -> NamedDict:
        _walk(path)
        with xr.open_dataset(path, engine="h5netcdf") as root:
            return dict(root.attrs)

    return _guarded(path, read)


def check_intact(path: str | Path) -> None:
    """Compare a file of `save_tree` with the checksum at its end.

    Parameters
    ----------
    path : path-like
        File to read.

    Raises
    ------
    FileError
        If the file is missing, or is not as it was written.
    """
    _guarded(path, _check_seal)


def _seal(content: bytes) -> bytes:
    """Return what ends a file of this content; HDF5 knows where its own data end, and looks no further."""
    return _SEAL + hashlib.sha256(content).hexdigest().encode()


def _check_seal(path: Path) -> None:
    """Raise unless a file is as it was written; files of others have no seal, and pass."""
    content = path.read_bytes()
    body, seal = content[:-_SEAL_SIZE], content[-_SEAL_SIZE:]
    if seal.startswith(_SEAL) and seal != _seal(body):
        raise ValueError("it is not as it was written: its checksum is another")


def _walk(path: Path) -> None:
    """Look at every group and attribute; h5netcdf does not close a file that it fails to open for their damage."""
    import h5py

    _check_heaps(path)
    with h5py.File(path, "r") as file:
        list(file.attrs.items())
        file.visititems(lambda name, one: list(one.attrs.items()) and None)


def _check_heaps(path: Path) -> None:
    """Raise if a heap, where HDF5 keeps texts, is damaged so that HDF5 would walk along it without end."""
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_HEAP)
        while start >= 0:
            _check_heap(content, start)
            start = content.find(_HEAP, start + len(_HEAP))


def _check_heap(content: mmap.mmap, start: int) -> None:
    """Raise unless the objects of a heap lie in it one after the other (HDF5 file format, III.E)."""
    size = int.from_bytes(content[start + 8 : start + 16], "little")
    if size > len(content) - start:
        raise ValueError("a heap of its texts ends beyond the file")
    place, end = start + 16, start + size
    while place + 16 <= end:
        number, _, _, length = struct.unpack_from("<HHIQ", content, place)
        step = length if number == 0 else 16 + 8 * -(-length // 8)  # what is free counts its own head
        if not 16 <= step <= end - place:
            raise ValueError("a heap of its texts is damaged")
        place += step


def _guarded[T](path: str | Path, read: Callable[[Path], T]) -> T:
    """Run a reader, and turn what damaged files raise into one FileError."""
    check_local(path, "path")
    path = Path(path)
    if not path.is_file():
        raise FileError(f"path: expected results that were saved, found no file at {str(path)!r}")
    try:
        return read(path)
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if not _is_netcdf(path):
            raise FileError(f"{path}: expected results in netCDF-4, got a file of another kind") from error
        raise FileError(
            f"{path}: expected a complete netCDF-4 file, but it cannot be read ({reason}); make it anew"
        ) from error


def _is_netcdf(path: Path) -> bool:
    """Whether a file begins as netCDF-4 does, or has lost its first bytes to damage alone."""
    with open(path, "rb") as handle:
        return b"HDF" in handle.read(8)
