"""Lanes: a SIMD vector inside compiled code, one float64 for each of several batch rows.

`load` and `store` move a row of a C-contiguous array of shape (n, LANES); `+ - * /` work lane by lane, with another
vector or one float. Sums keep the order in which they are written.
"""

import operator
from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.datamodel.manager import DataModelManager
from numba.core.typing.templates import AbstractTemplate, Signature, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

# Format: bits of a float64 (IEEE 754, section 3.4): all but the sign, the mantissa, the exponent of 1, and 2**52.
SIGN = 0x7FFFFFFFFFFFFFFF
# Format: the mantissa of a float64.
MANTISSA = 0x000FFFFFFFFFFFFF
# Format: the exponent of 1.0.
ONE = 0x3FF0000000000000
# Format: the exponent of 2.0**52.
TWO_TO_52 = 0x4330000000000000
LANES = 8
"""Cost: width of a vector: one 64-byte cache line, one AVX-512 register, two AVX2 or four NEON registers."""

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
    """The type of LANES float64 side by side."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


VECTOR = ir.VectorType(ir.DoubleType(), LANES)
INTEGERS = ir.VectorType(ir.IntType(64), LANES)
ZERO = ir.Constant(VECTOR, [0.0] * LANES)
UNIT = ir.Constant(VECTOR, [1.0] * LANES)
lanes_type = Lanes()
type Typed = tuple[Signature, Callable[..., ir.Value]]
type Intrinsic = Callable[..., ir.Value]


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """A vector register."""

    def __init__(self, manager: DataModelManager, lanes: Lanes) -> None:
        super().__init__(manager, lanes, VECTOR)


class _Arithmetic(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Sequence[types.Type], kws: dict[str, types.Type]) -> Signature | None:
        known = all(isinstance(a, Lanes | types.Float) for a in args)
        return signature(lanes_type, *args) if known and lanes_type in args else None


def _splat(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """Return a vector with the same number in all lanes."""
    if number.type == VECTOR:
        return number
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, _mask([0] * LANES))


def _mask(places: list[int]) -> ir.Value:
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), places)


def _register(operation: Callable[..., object], instruction: str) -> None:
    infer_global(operation)(type(f"Lanes_{instruction}", (_Arithmetic,), {"key": operation}))

    def lower(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return getattr(builder, instruction)(*(_splat(builder, a) for a in args))

    for pair in ((Lanes, Lanes), (Lanes, types.Float), (types.Float, Lanes)):
        lower_builtin(operation, *pair)(lower)


for _operation, _instruction in OPERATIONS.items():
    _register(_operation, _instruction)


def _pointer(builder: ir.IRBuilder, array: ir.Value, offset: ir.Value) -> ir.Value:
    """Return a pointer to the vector `offset` numbers into an array."""
    return builder.bitcast(builder.gep(array.data, [offset]), VECTOR.as_pointer())


def _row_pointer(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
    """Return a pointer to a row of an array of shape (n, LANES); array and row are the first two arguments."""
    row = context.cast(builder, args[1], sig.args[1], types.intp)
    array = context.make_array(sig.args[0])(context, builder, args[0])
    return _pointer(builder, array, builder.mul(row, ir.Constant(row.type, LANES)))


def _load(_: object, array: types.Type, row: types.Type) -> Typed:
    """Return a row of an array of shape (n, LANES)."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return builder.load(_row_pointer(context, builder, sig, args), align=8)

    return lanes_type(array, row), codegen


def _store(_: object, array: types.Type, row: types.Type, value: types.Type) -> Typed:
    """Write a vector to a row of an array of shape (n, LANES)."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        builder.store(args[2], _row_pointer(context, builder, sig, args), align=8)
        return context.get_dummy_value()

    return types.void(array, row, value), codegen


def _transposed(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Return the transpose of a square tile, given as a list of vectors, in log2(LANES) rounds of shuffles."""
    step = 1
    while step < LANES:
        low = _mask([j if j & step == 0 else j - step + LANES for j in range(LANES)])
        high = _mask([j + step if j & step == 0 else j + LANES for j in range(LANES)])
        for i in (i for i in range(LANES) if i & step == 0):
            pair = rows[i], rows[i + step]
            rows[i], rows[i + step] = (builder.shuffle_vector(*pair, mask) for mask in (low, high))
        step *= 2
    return rows


def _copy_tile(
    _: object, source: types.Type, rows: types.Type, column: types.Type, target: types.Type, place: types.Type
) -> Typed:
    """Write LANES columns of `source`, from `column` on, to LANES rows of `target`, from `place` on.

    `source` has shape (n_batch, n_obs), `target` (n, LANES); `rows` is the array of the source's rows for each lane.
    """

    def codegen(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        origin, numbers, aim = (context.make_array(sig.args[k])(context, builder, args[k]) for k in (0, 1, 3))
        width = cgutils.unpack_tuple(builder, origin.shape)[1]

        def line(lane: int) -> ir.Value:
            row = builder.load(builder.gep(numbers.data, [ir.Constant(width.type, lane)]))
            return builder.load(_pointer(builder, origin, builder.add(builder.mul(row, width), args[2])), align=8)

        for i, values in enumerate(_transposed(builder, [line(lane) for lane in range(LANES)])):
            row = builder.add(args[4], ir.Constant(width.type, i))
            builder.store(values, _pointer(builder, aim, builder.mul(row, ir.Constant(width.type, LANES))), align=8)
        return context.get_dummy_value()

    return types.void(source, rows, types.intp, target, types.intp), codegen


def _fill(_: object, number: types.Type) -> Typed:
    """Return the same number in every lane."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return _splat(builder, args[0])

    return lanes_type(types.float64), codegen


def _where_used(_: object, ivar: types.Type, value: types.Type) -> Typed:
    """Return `value` where `ivar` is not 0, else 0."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return builder.select(builder.fcmp_unordered("!=", args[0], ZERO), args[1], ZERO)

    return lanes_type(ivar, value), codegen


def _is_used(_: object, ivar: types.Type) -> Typed:
    """Return 1.0 where a lane is above 0, else 0.0."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return builder.select(builder.fcmp_ordered(">", args[0], ZERO), UNIT, ZERO)

    return lanes_type(ivar), codegen


def _all_above(_: object, value: types.Type, limit: types.Type) -> Typed:
    """Return whether value > limit in every lane; False if either is NaN."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        mask = builder.bitcast(builder.fcmp_ordered(">", args[0], args[1]), ir.IntType(LANES))
        return builder.icmp_signed("==", mask, ir.Constant(mask.type, -1))

    return types.boolean(value, limit), codegen


def _square_root(_: object, value: types.Type) -> Typed:
    """Return the square root of every lane."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        name = f"llvm.sqrt.v{LANES}f64"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR]), name)
        return builder.call(function, [args[0]])

    return lanes_type(value), codegen


def _on_bits(make: Callable[[ir.IRBuilder, ir.Value, Callable[[int], ir.Value]], ir.Value]) -> Callable[..., Typed]:
    """Make an operation on the bits of a vector from a function of (builder, bits, constant)."""

    def constant(number: int) -> ir.Value:
        return ir.Constant(INTEGERS, [number] * LANES)

    def typed(_: object, value: types.Type) -> Typed:
        def codegen(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
            return builder.bitcast(make(builder, builder.bitcast(args[0], INTEGERS), constant), VECTOR)

        return lanes_type(value), codegen

    return typed


load: Intrinsic = intrinsic(_load)
store: Intrinsic = intrinsic(_store)
fill: Intrinsic = intrinsic(_fill)
copy_tile: Intrinsic = intrinsic(_copy_tile)
where_used: Intrinsic = intrinsic(_where_used)
all_above: Intrinsic = intrinsic(_all_above)
is_used: Intrinsic = intrinsic(_is_used)
square_root: Intrinsic = intrinsic(_square_root)
magnitude: Intrinsic = intrinsic(_on_bits(lambda builder, bits, constant: builder.and_(bits, constant(SIGN))))
"""The absolute value of every lane."""

mantissa: Intrinsic = intrinsic(
    _on_bits(lambda builder, bits, constant: builder.or_(builder.and_(bits, constant(MANTISSA)), constant(ONE)))
)
"""The mantissa of every lane, 1 <= m < 2; 1 for a zero."""

shifted_exponent: Intrinsic = intrinsic(
    _on_bits(lambda builder, bits, constant: builder.or_(builder.lshr(bits, constant(52)), constant(TWO_TO_52)))
)
"""2**52 plus the exponent of every positive lane, biased by 1023; 2**52 for a zero."""
