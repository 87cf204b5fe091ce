"""How the compiled modules are compiled: cached on disk, without the GIL, only multiply-add contracted."""

from collections.abc import Callable
from typing import Any

from numba import njit

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
"""Contraction alone keeps the order of every sum, so the same call gives the same bits."""


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compile a function on its first call; the compiled code is kept beside the module or in numba's cache."""
    compiled: F = njit(**OPTIONS)(function)
    return compiled
