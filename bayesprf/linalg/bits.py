"""The bits of a float64 inside compiled code: exponent and mantissa without a call to log."""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic


def _cast(_: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Reinterpret a float64 as an int64, or back."""
    target = types.int64 if value == types.float64 else types.float64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(target))

    return target(value), codegen


cast_bits: Any = intrinsic(_cast)
"""Return the bits of a float64 as an int64, or the float64 of an int64's bits."""
