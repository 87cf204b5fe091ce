"""How the compiled modules are compiled: cached on disk, without the GIL, only multiply-add contracted."""

import contextlib
import glob
import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event

from bayesprf.arrays import NamedDict

OPTIONS: NamedDict = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "no_cfunc_wrapper": True,
}
"""Contraction alone keeps the order of every sum, so the same call gives the same bits; nothing is called from C."""


def _digest() -> str:
    """Return a digest of all sources that compiled code is made from."""
    here = Path(__file__).parent
    sources = [*sorted(here.glob("*.py")), here.parent / "singular.py"]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


SOURCES = _digest()


def kernel[F: Callable[..., object]](function: F) -> F:
    """Compile a function on its first call; the compiled code is kept beside the module or in numba's cache.

    Numba looks for changes only in the file of the function itself, yet its code contains that of every function it
    calls: the version under which the code is kept therefore names all sources.
    """
    return _compile(function)


def inner[F: Callable[..., object]](function: F) -> F:
    """Compile a function, once, for the kernels that call it: what Python would call it by is left out."""
    return _compile(function, no_cpython_wrapper=True)


def inlined[F: Callable[..., object]](function: F) -> F:
    """Compile a function into every kernel that calls it: a call would move a hundred pointers."""
    return _compile(function, forceinline=True, no_cpython_wrapper=True)


def _compile(function: Callable[..., object], **further: bool) -> Any:
    """Compile with the code kept on disk, or for this process alone where no place for it can be written."""
    options: NamedDict = {**OPTIONS, **further}
    try:
        compiled: Any = njit(**options)(function)
    except RuntimeError:  # numba found no directory to write to
        return njit(**(options | {"cache": False}))(function)
    cache = compiled._cache
    cache._cache_file = _FileOfEach(cache._cache_file)
    cache.save_overload = _forgive_the_disk(cache.save_overload)
    return compiled


class _FileOfEach:
    """Keeps compiled code in files that are named after everything the code depends on.

    Numba numbers the files of one function and lists them in an index. Two processes that compile the same function
    for different types at the same time give their files the same number, and from then on one of the types is
    answered by the code of the other. A name that no other code can have needs neither number nor index.
    """

    def __init__(self, numbered: Any) -> None:
        self._numbered = numbered
        self._stem = Path(numbered._index_name).stem
        self._made_from = _short_digest((numbered._version, numbered._source_stamp, SOURCES))

    def _name(self, key: object) -> str:
        return f"{self._stem}.{self._made_from}.{_short_digest(key)}.nbc"

    def save(self, key: object, data: object) -> None:
        """Keep code, in place of what was made from other sources."""
        for old in Path(self._numbered._cache_path).glob(f"{glob.escape(self._stem)}.*.nb[ci]"):
            if not old.name.startswith(f"{self._stem}.{self._made_from}."):
                old.unlink(missing_ok=True)
        self._numbered._save_data(self._name(key), data)

    def load(self, key: object) -> object:
        """Return what was kept, or None where there is nothing or the file is damaged."""
        try:
            return self._numbered._load_data(self._name(key))
        except (OSError, EOFError, pickle.UnpicklingError):
            return None


def _short_digest(content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _forgive_the_disk(save: Callable[..., None]) -> Callable[..., None]:
    """Return a function that keeps compiled code, or does nothing where the disk is full."""

    def save_if_possible(*arguments: object) -> None:
        with contextlib.suppress(OSError):
            save(*arguments)

    return save_if_possible


class _FirstCompilation(event.Listener):  # type: ignore[misc]
    """Calls a function when something is compiled for the first time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call, self._called = call, False

    def on_start(self, _: object) -> None:
        if not self._called:
            self._called = True
            self._call()

    def on_end(self, _: object) -> None:
        """Nothing."""


@contextmanager
def when_compiling(call: Callable[[], None]) -> Iterator[None]:
    """Call a function once if anything is compiled, and not taken from the cache, while the body runs.

    Parameters
    ----------
    call : callable
        Called without arguments.
    """
    with event.install_listener("numba:compile", _FirstCompilation(call)):
        yield
