"""Files as such: complete under their final name or not there, and known by their checksum."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bayesprf.errors import FileError

_READ_BYTES = 1 << 20


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on leaving, the file written there takes the final name.

    Parameters
    ----------
    path : path-like
        Final name. An older file of that name stays untouched until the new one is complete and on disk.

    Yields
    ------
    Path
        Temporary name in the same directory, with the same ending.

    Raises
    ------
    FileError
        If the directory does not exist, or nothing was written under the temporary name.

    Notes
    -----
    If the body raises, the temporary file is removed and the exception goes on.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileError(
            f"path: expected a name in an existing directory, got {str(path)!r}; create {path.parent} first"
        )
    temporary = path.with_name(f".{secrets.token_hex(6)}.part.{path.name}")
    try:
        yield temporary
        if not temporary.is_file():
            raise FileError(f"{path}: nothing was written, so there is no file to put under this name")
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        _flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    """Ask the system to write a file or directory entry to disk; directories only where it allows that."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 checksum of a file's bytes, in hexadecimal.

    Parameters
    ----------
    path : path-like
        File to read.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as handle:
            while block := handle.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()
