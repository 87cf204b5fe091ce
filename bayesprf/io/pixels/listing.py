"""From what a caller names to single files and objects: patterns, directories, lists, collections."""

import contextlib
import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from astropy.io import fits

from bayesprf.errors import FileError, InputError
from bayesprf.io.pixels.fits_file import check_local

_PATTERNS = ("*.fits", "*.fits.gz")


def list_files(files: object, kind: str = "target pixel file") -> list[object]:
    """Return the single files and objects that `files` stands for; patterns and directories in sorted order.

    Parameters
    ----------
    files : path-like, HDUList, object with `hdu`, collection or sequence of them
        As for `bayesprf.read_tpfs`. Files that begin with a dot are left out of directories.
    kind : str
        What the files are, for messages.

    Returns
    -------
    list
        Paths and objects.

    Raises
    ------
    FileError
        If a pattern or directory holds no file.
    InputError
        If an entry is neither a path nor an object with `hdu`, an address, a table, or the list is empty.
    """
    if hasattr(files, "columns"):
        raise InputError(
            f"files: expected {kind}s, got a table or light curve ({type(files).__name__}); give the file of the pixels"
        )
    if hasattr(files, "hdu") or isinstance(files, fits.HDUList):
        return [files]
    if isinstance(files, str | os.PathLike):
        return _expand(os.fsdecode(files), kind)
    entries = _entries(files)
    if entries is None:
        raise InputError(
            f"files: expected a path, a pattern, a directory, an HDUList, a lightkurve object or a list of them, each"
            f" for a {kind}, got {type(files).__name__}"
        )
    found = [one for entry in entries for one in list_files(entry, kind)]
    if not found:
        raise InputError(f"files: expected at least one {kind}, got an empty list")
    return found


def named_files(files: Sequence[object]) -> list[object]:
    """Return the files that patterns and directories stand for; as they are where the reader will refuse them."""
    with contextlib.suppress(FileError, InputError):
        return list_files(files)
    return list(files)


def _entries(files: object) -> list[object] | None:
    """Return the members of a sequence or of a collection that has only a length and an index, or None."""
    if isinstance(files, bytes | dict):
        return None
    if isinstance(files, Iterable):
        with contextlib.suppress(TypeError):  # arrays without axes and the like are iterable by name alone
            return list(files)
        return None
    if hasattr(files, "__len__") and hasattr(files, "__getitem__"):
        return [files[place] for place in range(len(files))]
    return None


def _expand(text: str, kind: str) -> list[object]:
    check_local(text, "files")
    if os.path.isdir(text):
        found = {path for pattern in _PATTERNS for path in Path(text).glob(pattern) if not path.name.startswith(".")}
        if not found:
            raise FileError(f"files: expected {kind}s ({', '.join(_PATTERNS)}) in {text!r}, found none")
        return [*sorted(found)]
    if not os.path.exists(text) and glob.has_magic(text):
        matches = sorted(glob.glob(_escape_folder(text), recursive=True))
        if not matches:
            raise FileError(f"files: expected files that match {text!r}, found none")
        return [Path(match) for match in matches]
    return [Path(text)]


def _escape_folder(pattern: str) -> str:
    """Return the pattern with the longest folder that exists as it stands taken literally."""
    folder, rest = os.path.split(pattern)
    while folder and not os.path.isdir(folder):
        folder, last = os.path.split(folder)
        rest = os.path.join(last, rest)
        if not last:
            break
    return os.path.join(glob.escape(folder), rest)
