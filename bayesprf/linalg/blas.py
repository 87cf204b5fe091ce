"""One BLAS thread for small factorisations, which slow down up to 100 times when threads fight over them."""

from contextlib import AbstractContextManager
from functools import cache
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
