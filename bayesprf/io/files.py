"""Files as such: complete under their final name or not there, and known by their checksum."""

import contextlib
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_dir

from bayesprf.checks import say_what_the_system_refused
from bayesprf.errors import FileError, InputError

try:
    import fcntl
except ImportError:  # systems without file locks of this kind
    fcntl = None  # type: ignore[assignment]

_READ_BYTES = 1 << 20
# Lock file of a directory, and the most that is read of it.
_CLAIM, _OWNER_BYTES = ".bayesprf-batch.lock", 300
_PART = re.compile(r"\.[0-9a-f]{12}\.part\..+")


def cache_directory() -> Path:
    """Return the directory in which answers of archives are kept.

    Returns
    -------
    Path
        What the environment variable BAYESPRF_CACHE names, or the user's cache directory.
    """
    return Path(os.environ.get("BAYESPRF_CACHE") or user_cache_dir("bayesprf"))


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
        If the directory does not exist or cannot be written, the disk is full, or nothing was written.

    Notes
    -----
    If the body raises, the temporary file is removed and the exception goes on, as one sentence if the system refused
    to write. A file left by a process that was killed is removed by `sweep_parts`.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileError(
            f"path: expected a name in an existing directory, got {str(path)!r}; create {path.parent} first"
        )
    with say_what_the_system_refused(path):
        temporary, lock = _reserve(path)
        try:
            yield temporary
            if not temporary.is_file() or temporary.stat().st_size == 0:
                raise FileError(f"{path}: nothing was written, so there is no file to put under this name")
            _flush_to_disk(temporary)
            os.replace(temporary, path)
            _flush_to_disk(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(lock)


def _reserve(path: Path) -> tuple[Path, int]:
    """Make an empty temporary file beside `path`, locked as long as this process lives, and return its handle."""
    while True:
        temporary = path.with_name(f".{secrets.token_hex(6)}.part.{path.name}")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        _lock(handle)
        if temporary.exists():  # nothing swept it before it was locked
            return temporary, handle
        os.close(handle)


def _lock(handle: int) -> bool | None:
    """Lock an open file or directory for this process; return False if another has it, None if it cannot be locked."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def sweep_parts(directory: str | Path) -> list[Path]:
    """Remove the temporary files of `atomic_path` whose process is gone.

    Parameters
    ----------
    directory : path-like
        Where they may be.

    Returns
    -------
    list of Path
        The files removed. Those of processes at work are locked, and stay.
    """
    removed = []
    for path in sorted(Path(directory).iterdir()):
        if not _PART.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR)
            try:
                if _lock(handle):
                    path.unlink()
                    removed.append(path)
            finally:
                os.close(handle)
    return removed


@contextmanager
def claim_directory(directory: str | Path) -> Iterator[None]:
    """Claim a directory for this process as long as the body runs, by a lock file that says who has it.

    Parameters
    ----------
    directory : path-like
        An existing directory.

    Raises
    ------
    FileError
        If another process has claimed it, or it cannot be written.

    Notes
    -----
    The system drops the lock with the process, so that the file of one that was killed is taken over. Where the system
    knows no locks, a file of this machine is taken over if no process of its number lives.
    """
    path = Path(directory) / _CLAIM
    with say_what_the_system_refused(path):
        handle = _claim(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _claim(path: Path) -> int:
    """Open and lock the lock file, write who has it, and return its handle."""
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        locked, owner = _lock(handle), os.read(handle, _OWNER_BYTES).decode(errors="replace")
        if locked is False or (locked is None and _lives(owner)):
            os.close(handle)
            raise FileError(
                f"output_dir: expected a directory where no other batch is at work, got {str(path.parent)!r}, which"
                f" {owner or 'another process'} has claimed; wait for it, or choose another (if that process is gone,"
                f" remove {path.name})"
            )
        if path.exists() and os.path.samestat(os.fstat(handle), os.stat(path)):  # it was not removed before the lock
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            return handle
        os.close(handle)


def _lives(owner: str) -> bool:
    """Return whether the process that a lock file names may still be at work."""
    found = re.fullmatch(r"process (\d+) on (.+)", owner)
    if found is None:
        return False
    if found[2] != socket.gethostname():
        return True
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def check_not_input(output: str | Path, inputs: Iterable[object], name: str = "output") -> None:
    """Raise if a file to be written is one of those that are read.

    Parameters
    ----------
    output : path-like
        File to be written.
    inputs : iterable of path-like or object
        What is read; objects that are no paths pass.
    name : str
        Name of the argument, for the message.

    Raises
    ------
    InputError
        If it is.
    """
    place = os.path.realpath(output)
    for one in inputs:
        if isinstance(one, str | os.PathLike) and os.path.realpath(os.fsdecode(one)) == place:
            raise InputError(
                f"{name}: expected a file of its own, got {os.fsdecode(output)!r}, which is an input and would be"
                " overwritten; choose another name"
            )


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
