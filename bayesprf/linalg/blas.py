"""One BLAS thread: small factorisations slow down up to 100 times when threads fight over them, and sums round anew."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, wraps
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@cache
def _controller() -> "ThreadpoolController":
    """Find the loaded BLAS libraries, once: the search costs milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[object]:
    """Pin BLAS to one thread for as long as a ``with`` block lasts.

    Returns
    -------
    context manager
    """
    limits: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limits


def in_one_blas_thread[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """Make a function run with one BLAS thread, so that its numbers are the same bits whatever the machine allows."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with one_blas_thread():
            return function(*args, **kwargs)

    return run
