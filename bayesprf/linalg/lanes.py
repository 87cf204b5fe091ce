"""Lanes: a SIMD vector inside compiled code, one number for each of several batch rows.

`load` and `store` move a row of a C-contiguous array of shape (n, n_lanes); `+ - * /` work lane by lane, with another
vector or one float. The width is part of the type. Sums keep the order in which they are written.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

BITS = ir.IntType(64)
SIGN = 0x7FFFFFFFFFFFFFFF
MANTISSA = 0x000FFFFFFFFFFFFF
ONE = 0x3FF0000000000000
TWO_TO_52 = 0x4330000000000000
TILE = 8
"""Rows and columns transposed at once: one 64-byte cache line of each row."""

OPERATIONS = {
    operator.add: "fadd",
    operator.iadd: "fadd",
    operator.sub: "fsub",
    operator.isub: "fsub",
    operator.mul: "fmul",
    operator.imul: "fmul",
    operator.truediv: "fdiv",
}


class Lanes(types.Type):  # type: ignore[misc]
    """The type of `count` float64 side by side."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Lanes({count})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """A vector register."""

    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(ir.DoubleType(), lanes.count))


class _Arithmetic(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        vectors = [a for a in args if isinstance(a, Lanes)]
        if len(args) == 2 and vectors and all(isinstance(a, Lanes | types.Float) for a in args):
            return signature(vectors[0], *args)
        return None


def _splat(builder: Any, number: Any, vector: Any) -> Any:
    """Return a vector with the same number in all lanes."""
    if isinstance(number.type, ir.VectorType):
        return number
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _register(operation: Callable[..., Any], instruction: str) -> None:
    infer_global(operation)(type(f"Lanes_{instruction}", (_Arithmetic,), {"key": operation}))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = context.get_value_type(sig.return_type)
        return getattr(builder, instruction)(*(_splat(builder, a, vector) for a in args))

    for pair in ((Lanes, Lanes), (Lanes, types.Float), (types.Float, Lanes)):
        lower_builtin(operation, *pair)(lower)


for _operation, _instruction in OPERATIONS.items():
    _register(_operation, _instruction)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, row: Any, vector: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    offset = builder.mul(row, ir.Constant(row.type, vector.count))
    return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())


def _load(_: Any, array: Any, row: Any, lanes: Any) -> tuple[Any, Callable[..., Any]]:
    """Return row `row` of an array whose rows hold as many numbers as the tuple `lanes`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        vector = context.get_value_type(sig.return_type)
        return builder.load(_pointer(context, builder, sig.args[0], args[0], index, vector), align=8)

    return Lanes(lanes.count)(array, row, lanes), codegen


def _store(_: Any, array: Any, row: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Write a vector to row `row` of an array."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        builder.store(args[2], _pointer(context, builder, sig.args[0], args[0], index, args[2].type), align=8)
        return context.get_dummy_value()

    return types.void(array, row, value), codegen


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the transpose of a square tile, given as a list of vectors, in log2(n) rounds of shuffles."""
    n = len(rows)
    step = 1
    while step < n:
        low = [j if j & step == 0 else j - step + n for j in range(n)]
        high = [j + step if j & step == 0 else j + n for j in range(n)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), n), mask) for mask in (low, high)]
        for i in (i for i in range(n) if i & step == 0):
            pair = rows[i], rows[i + step]
            rows[i], rows[i + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        step *= 2
    return rows


def _copy_tile(_: Any, source: Any, rows: Any, column: Any, target: Any, place: Any) -> tuple[Any, Callable[..., Any]]:
    """Write TILE columns of TILE rows of `source` to `target`, transposed.

    `rows` are the source's rows (TILE numbers, as a tuple), `column` the first column; `place` is the row and lane of
    the target's corner. Both arrays are C-contiguous.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.DoubleType(), TILE)
        arrays = [context.make_array(t)(context, builder, a) for t, a in ((source, args[0]), (target, args[3]))]
        widths = [cgutils.unpack_tuple(builder, array.shape)[1] for array in arrays]

        def pointer(which: int, row: Any, column: Any) -> Any:
            offset = builder.add(builder.mul(row, widths[which]), column)
            return builder.bitcast(builder.gep(arrays[which].data, [offset]), vector.as_pointer())

        numbers = cgutils.unpack_tuple(builder, args[1])
        tile = [builder.load(pointer(0, number, args[2]), align=8) for number in numbers]
        row, lane = cgutils.unpack_tuple(builder, args[4])
        for i, line in enumerate(_transposed(builder, tile)):
            builder.store(line, pointer(1, builder.add(row, ir.Constant(row.type, i)), lane), align=8)
        return context.get_dummy_value()

    return types.void(source, rows, types.intp, target, types.UniTuple(types.intp, 2)), codegen


def _where_used(_: Any, ivar: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Return `value` where `ivar` is not 0, else 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, [0.0] * args[0].type.count)
        return builder.select(builder.fcmp_unordered("!=", args[0], zero), args[1], zero)

    return value(ivar, value), codegen


def _fill(_: Any, number: Any, lanes: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the same number in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, args[0], context.get_value_type(sig.return_type))

    return Lanes(lanes.count)(types.float64, lanes), codegen


def _on_bits(make: Callable[[Any, Any, Callable[[int], Any]], Any]) -> Callable[..., Any]:
    """Make an operation on the bits of a vector from a function of (builder, bits, constant)."""

    def typed(_: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            integers = ir.VectorType(BITS, args[0].type.count)

            def constant(number: int) -> Any:
                return ir.Constant(integers, [number] * integers.count)

            bits = make(builder, builder.bitcast(args[0], integers), constant)
            return builder.bitcast(bits, args[0].type)

        return value(value), codegen

    return typed


def _all_above(_: Any, value: Any, limit: Any) -> tuple[Any, Callable[..., Any]]:
    """Return whether value > limit in every lane; False if either is NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        above = builder.fcmp_ordered(">", args[0], args[1])
        mask = builder.bitcast(above, ir.IntType(above.type.count))
        return builder.icmp_signed("==", mask, ir.Constant(mask.type, -1))

    return types.boolean(value, limit), codegen


def _is_used(_: Any, ivar: Any) -> tuple[Any, Callable[..., Any]]:
    """Return 1.0 where a lane is above 0, else 0.0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = args[0].type
        zero, one = (ir.Constant(vector, [x] * vector.count) for x in (0.0, 1.0))
        return builder.select(builder.fcmp_ordered(">", args[0], zero), one, zero)

    return ivar(ivar), codegen


def _square_root(_: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the square root of every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = args[0].type
        name = f"llvm.sqrt.v{vector.count}f64"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), name)
        return builder.call(function, [args[0]])

    return value(value), codegen


load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
fill: Any = intrinsic(_fill)
copy_tile: Any = intrinsic(_copy_tile)
where_used: Any = intrinsic(_where_used)
all_above: Any = intrinsic(_all_above)
is_used: Any = intrinsic(_is_used)
square_root: Any = intrinsic(_square_root)
magnitude: Any = intrinsic(_on_bits(lambda builder, bits, constant: builder.and_(bits, constant(SIGN))))
"""The absolute value of every lane."""

mantissa: Any = intrinsic(
    _on_bits(lambda builder, bits, constant: builder.or_(builder.and_(bits, constant(MANTISSA)), constant(ONE)))
)
"""The mantissa of every lane, 1 <= m < 2; 1 for a zero."""

shifted_exponent: Any = intrinsic(
    _on_bits(lambda builder, bits, constant: builder.or_(builder.lshr(bits, constant(52)), constant(TWO_TO_52)))
)
"""2**52 plus the exponent of every positive lane, biased by 1023; 2**52 for a zero."""
