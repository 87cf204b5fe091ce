"""What the compiled kernels work on: the records they read, their scratch, and the way of the data into lanes."""

from typing import NamedTuple

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import inlined
from bayesprf.linalg.compiled.lanes import LANES, copy_tile, load, store, where_used
from bayesprf.linalg.solvers.symbolic import SymbolicFactor

SQUARES, N_USED, BAD, IVAR_MANTISSA, IVAR_EXPONENT, PIVOT_MANTISSA, PIVOT_EXPONENT, N_SUMS = range(8)
"""Rows of the running sums of the evidence, shape (N_SUMS, LANES).

Products of many numbers are kept as a mantissa and an exponent; their logarithm is taken once. `BAD` stays 0 while
every ivar is finite and not negative.
"""


class Rows(NamedTuple):
    """The batch rows to solve, `batch` (n_rows,); `data` and `ivar` of all rows (n_batch, n_obs); `known` (n_obs,)."""

    batch: IntArray
    data: FloatArray
    ivar: FloatArray
    known: FloatArray


class Values(NamedTuple):
    """Entries of the design in grouped order: `parts` (n_part, nnz), `mix` (n_batch, n_part).

    A static design has an empty `mix`, and `product`, shape (n_product,), holds the products of X'X.
    """

    parts: FloatArray
    mix: FloatArray
    product: FloatArray


class Prior(NamedTuple):
    """Prior mean and precision in places, shape (n_coeff,) each."""

    mean: FloatArray
    precision: FloatArray


class Work(NamedTuple):
    """Scratch of one group; arrays of shape (size, LANES).

    `ivar`, `data` per observation; `value` per entry of a varying design; `lower` per entry of L; `column`, `scaled`
    one column of L; `inv_diag`, `solution` per coefficient; `buffer` one row; `where` the rows of a column.
    """

    ivar: FloatArray
    data: FloatArray
    value: FloatArray
    lower: FloatArray
    column: FloatArray
    scaled: FloatArray
    inv_diag: FloatArray
    solution: FloatArray
    buffer: FloatArray
    where: IntArray


class Scratch(NamedTuple):
    """What one thread writes to: the scratch of a group, and the running sums of the evidence."""

    work: Work
    sums: FloatArray


def make_rows(n: int) -> FloatArray:
    """Return an array of shape (n, LANES) whose rows begin on cache lines, so that no vector straddles two."""
    numbers = np.empty((n + 1) * LANES)
    ahead = (-(numbers.ctypes.data // numbers.itemsize)) % LANES
    return numbers[ahead : ahead + n * LANES].reshape(n, LANES)


def make_scratch(plan: SymbolicFactor, varying: int) -> Scratch:
    """Return scratch large enough for every group."""

    def largest(ptr: IntArray, starts: IntArray) -> int:
        return max(1, int(np.diff(ptr[starts]).max(initial=1)))

    n_obs, n_coeff = (max(1, int(np.diff(one).max(initial=1))) for one in (plan.group_obs, plan.group_coeff))
    n_entry = largest(plan.row_ptr, plan.group_obs) if varying else 1
    work = Work(
        ivar=make_rows(n_obs),
        data=make_rows(n_obs),
        value=make_rows(n_entry),
        lower=make_rows(largest(plan.l_ptr, plan.group_coeff)),
        column=make_rows(n_coeff),
        scaled=make_rows(n_coeff),
        inv_diag=make_rows(n_coeff),
        solution=make_rows(n_coeff),
        buffer=make_rows(1),
        where=np.empty(n_coeff, np.int64),
    )
    return Scratch(work, make_rows(N_SUMS))


@inlined
def gather(plan: SymbolicFactor, source: FloatArray, batches: IntArray, group: int, target: FloatArray) -> None:
    """Bring a group's columns of `source` (n_batch, n_obs) into lanes, by tiles where they are neighbours."""
    k0, k1 = plan.group_obs[group], plan.group_obs[group + 1]
    k = k0
    while k < k1:
        if plan.run[k] >= LANES and k + LANES <= k1:
            copy_tile(source, batches, plan.obs[k], target, k - k0)
            k += LANES
        else:
            for lane in range(LANES):
                target[k - k0, lane] = source[batches[lane], plan.obs[k]]
            k += 1


@inlined
def load_observations(plan: SymbolicFactor, rows: Rows, work: Work, group: int, first: int) -> None:
    """Bring a group's ivar and data (less what is known) into lanes; dropped data become 0.

    Missing lanes repeat the last row.
    """
    batches = np.empty(LANES, np.int64)
    for lane in range(LANES):
        batches[lane] = rows.batch[min(first + lane, rows.batch.size - 1)]
    gather(plan, rows.ivar, batches, group, work.ivar)
    gather(plan, rows.data, batches, group, work.data)
    k0 = plan.group_obs[group]
    for k in range(plan.group_obs[group + 1] - k0):
        data = load(work.data, k) - rows.known[plan.obs[k0 + k]]
        store(work.data, k, where_used(load(work.ivar, k), data))


@inlined
def load_values(plan: SymbolicFactor, values: Values, rows: Rows, work: Work, group: int, first: int) -> None:
    """Form the entries mix @ parts of a group in lanes."""
    n_part = values.parts.shape[0]
    mix = np.empty((n_part, LANES))
    for lane in range(LANES):
        row = rows.batch[min(first + lane, rows.batch.size - 1)]
        for part in range(n_part):
            mix[part, lane] = values.mix[row, part]
    e0, e1 = plan.row_ptr[plan.group_obs[group]], plan.row_ptr[plan.group_obs[group + 1]]
    for e in range(e0, e1):
        value = values.parts[0, e] * load(mix, 0)
        for part in range(1, n_part):
            value += values.parts[part, e] * load(mix, part)
        store(work.value, e - e0, value)
