"""Compiled solution of sparse linear problems, several batch rows side by side as SIMD lanes.

The last axis of every work array is the lane. Each lane's arithmetic is the same whatever its neighbours are and
whichever thread runs it.
"""

from typing import NamedTuple

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.jit import inlined, kernel
from bayesprf.linalg.lanes import (
    LANES,
    all_above,
    copy_tile,
    fill,
    is_used,
    load,
    magnitude,
    mantissa,
    shifted_exponent,
    square_root,
    store,
    where_used,
)
from bayesprf.linalg.singular import PIVOT_EPS
from bayesprf.linalg.symbolic import SymbolicFactor

RENORMALISE = 512
"""Mantissas multiplied before the exponent is moved out: 2**512 is far from overflow."""

EXPONENT_ZERO = 2.0**52 + 1023.0
"""`shifted_exponent` of 1."""

LOG_2 = float(np.log(2.0))
LOG_2_PI = float(np.log(2.0 * np.pi))
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


class Answer(NamedTuple):
    """What a solution writes: `mean`, `std` (n_rows, n_coeff), in the original order; `log_density` (n_rows,).

    `log_density` is the log evidence without the prior's determinant; `failure` (2,) is the place and row of a zero
    pivot; `bad` (1,) leaves 0 if some ivar is negative or not finite.
    """

    mean: FloatArray
    std: FloatArray
    log_density: FloatArray
    failure: IntArray
    bad: FloatArray


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


@kernel
def make_work(plan: SymbolicFactor, varying: int) -> Work:
    """Return scratch large enough for every group."""
    n_obs = n_entry = n_coeff = n_lower = 1
    for g in range(plan.group_obs.size - 1):
        k0, k1, j0, j1 = plan.group_obs[g], plan.group_obs[g + 1], plan.group_coeff[g], plan.group_coeff[g + 1]
        n_obs, n_coeff = max(n_obs, k1 - k0), max(n_coeff, j1 - j0)
        n_entry = max(n_entry, plan.row_ptr[k1] - plan.row_ptr[k0])
        n_lower = max(n_lower, plan.l_ptr[j1] - plan.l_ptr[j0])
    return Work(
        np.empty((n_obs, LANES)),
        np.empty((n_obs, LANES)),
        np.empty((n_entry if varying else 1, LANES)),
        np.empty((n_lower, LANES)),
        np.empty((n_coeff, LANES)),
        np.empty((n_coeff, LANES)),
        np.empty((n_coeff, LANES)),
        np.empty((n_coeff, LANES)),
        np.empty((1, LANES)),
        np.empty(n_coeff, np.int64),
    )


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


@inlined
def accumulate_gram(plan: SymbolicFactor, values: Values, work: Work, place: int) -> None:
    """Add a column of X' C^-1 X to `work.column`."""
    for g in range(plan.g_ptr[place], plan.g_ptr[place + 1]):
        total = load(work.column, plan.g_row[g])
        if values.mix.shape[0] == 0:
            for q in range(plan.p_ptr[g], plan.p_ptr[g + 1]):
                total += values.product[q] * load(work.ivar, plan.p_obs[q])
        else:
            for q in range(plan.p_ptr[g], plan.p_ptr[g + 1]):
                product = load(work.value, plan.p_a[q]) * load(work.value, plan.p_b[q])
                total += product * load(work.ivar, plan.p_obs[q])
        store(work.column, plan.g_row[g], total)


@inlined
def accumulate_rhs(plan: SymbolicFactor, values: Values, work: Work, place: int, entry0: int) -> None:
    """Add a column's X' C^-1 y to `work.solution`."""
    j = plan.l_row[plan.l_ptr[place]]
    total = load(work.solution, j)
    diagonal = plan.g_ptr[place]
    for q in range(plan.p_ptr[diagonal], plan.p_ptr[diagonal + 1]):
        weighted = load(work.ivar, plan.p_obs[q]) * load(work.data, plan.p_obs[q])
        if values.mix.shape[0] == 0:
            total += values.parts[0, entry0 + plan.p_a[q]] * weighted
        else:
            total += load(work.value, plan.p_a[q]) * weighted
    store(work.solution, j, total)


@inlined
def start_column(plan: SymbolicFactor, prior: Prior, work: Work, place: int) -> None:
    """Set a column of Lambda, and its right-hand side, to the prior's share."""
    zero = fill(0.0)
    p0 = plan.l_ptr[place]
    for p in range(p0, plan.l_ptr[place + 1]):
        work.where[plan.l_row[p]] = p - p0
        store(work.column, p - p0, zero)
    store(work.column, 0, fill(prior.precision[place]))
    store(work.solution, plan.l_row[p0], fill(prior.precision[place] * prior.mean[place]))


@inlined
def eliminate(plan: SymbolicFactor, work: Work, place: int, j0: int) -> None:
    """Subtract the columns before a column of L from it, and solve them out of its right-hand side."""
    base = plan.l_ptr[j0]
    x = load(work.solution, place - j0)
    for r in range(plan.r_ptr[place], plan.r_ptr[place + 1]):
        k = plan.r_col[r]
        factor = load(work.lower, plan.r_pos[r])
        x -= factor * load(work.solution, k)
        for p in range(plan.r_pos[r], plan.l_ptr[j0 + k + 1] - base):
            i = work.where[plan.l_row[base + p]]
            store(work.column, i, load(work.column, i) - factor * load(work.lower, p))
    store(work.solution, place - j0, x)


@inlined
def multiply_in(sums: FloatArray, row: int, value: FloatArray) -> None:
    """Multiply the first row of `value` into the running product at `row` of the sums."""
    factor = load(value, 0)
    product = load(sums, row) * mantissa(factor)
    moved = (shifted_exponent(factor) - EXPONENT_ZERO) + (shifted_exponent(product) - EXPONENT_ZERO)
    store(sums, row, mantissa(product))
    store(sums, row + 1, load(sums, row + 1) + moved)


@inlined
def find_weak(pivot: FloatArray, limit: FloatArray, place: int) -> int:
    """Return LANES * place + lane of the first pivot not above its limit."""
    for lane in range(LANES):
        if not pivot[0, lane] > limit[0, lane]:
            return LANES * place + lane
    return -1


@inlined
def factorise(plan: SymbolicFactor, values: Values, prior: Prior, work: Work, sums: FloatArray, group: int) -> int:
    """Factorise one group, column by column, and solve L x = rhs on the way.

    Returns LANES * place + lane of the first pivot that is zero to rounding, or -1.
    """
    j0, entry0 = plan.group_coeff[group], plan.row_ptr[plan.group_obs[group]]
    base = plan.l_ptr[j0]
    singular = -1
    for place in range(j0, plan.group_coeff[group + 1]):
        start_column(plan, prior, work, place)
        accumulate_gram(plan, values, work, place)
        accumulate_rhs(plan, values, work, place, entry0)
        n_update = plan.r_ptr[place + 1] - plan.r_ptr[place]
        limit = (PIVOT_EPS * (4 + n_update)) * load(work.column, 0)
        eliminate(plan, work, place, j0)
        pivot = load(work.column, 0)
        if singular < 0 and not all_above(pivot, limit):
            store(work.buffer, 0, limit)
            singular = find_weak(work.column, work.buffer, place)
        multiply_in(sums, PIVOT_MANTISSA, work.column)
        inv_diag = fill(1.0) / square_root(pivot)
        store(work.inv_diag, place - j0, inv_diag)
        store(work.solution, place - j0, load(work.solution, place - j0) * inv_diag)
        p0 = plan.l_ptr[place]
        for p in range(p0, plan.l_ptr[place + 1]):
            store(work.lower, p - base, load(work.column, p - p0) * inv_diag)
    return singular


@inlined
def back_substitute(plan: SymbolicFactor, work: Work, group: int, places: tuple[int, int]) -> None:
    """Solve L' w = x in place for whole components, given by their first place and the one after the last."""
    j0, base = plan.group_coeff[group], plan.l_ptr[plan.group_coeff[group]]
    for place in range(places[1] - 1, places[0] - 1, -1):
        x = load(work.solution, place - j0)
        for p in range(plan.l_ptr[place] + 1, plan.l_ptr[place + 1]):
            x -= load(work.lower, p - base) * load(work.solution, plan.l_row[p])
        store(work.solution, place - j0, x * load(work.inv_diag, place - j0))


@inlined
def invert(plan: SymbolicFactor, work: Work, group: int) -> None:
    """Overwrite L by the entries of Z = (L L')^-1 on its pattern.

    Z[i, j] = -sum_k Z[i, k] L[k, j] / L[j, j] over the rows k > j of column j, last column first (Takahashi, Fagan &
    Chen 1973); every Z[i, k] it needs is on the pattern.
    """
    j0, base = plan.group_coeff[group], plan.l_ptr[plan.group_coeff[group]]
    zero = fill(0.0)
    for place in range(plan.group_coeff[group + 1] - 1, j0 - 1, -1):
        p0, size = plan.l_ptr[place], plan.l_ptr[place + 1] - plan.l_ptr[place]
        inv_diag = load(work.inv_diag, place - j0)
        for i in range(1, size):
            store(work.scaled, i, load(work.lower, p0 - base + i) * inv_diag)
            store(work.column, i, zero)
        for a in range(1, size):
            q = plan.l_ptr[j0 + plan.l_row[p0 + a]]
            u_a = load(work.scaled, a)
            total = load(work.column, a) + load(work.lower, q - base) * u_a
            for b in range(a + 1, size):
                q += 1
                while plan.l_row[q] != plan.l_row[p0 + b]:
                    q += 1
                z = load(work.lower, q - base)
                store(work.column, b, load(work.column, b) + z * u_a)
                total += z * load(work.scaled, b)
            store(work.column, a, total)
        diagonal = inv_diag * inv_diag
        for a in range(1, size):
            total = load(work.column, a)
            store(work.lower, p0 - base + a, zero - total)
            diagonal += load(work.scaled, a) * total
        store(work.lower, p0 - base, diagonal)


@inlined
def add_residuals(plan: SymbolicFactor, values: Values, work: Work, sums: FloatArray, group: int) -> None:
    """Add a group's r' C^-1 r and multiply its ivar into the running product."""
    k0, k1 = plan.group_obs[group], plan.group_obs[group + 1]
    e0 = plan.row_ptr[k0]
    squares, used, bad = load(sums, SQUARES), load(sums, N_USED), load(sums, BAD)
    product, exponent = load(sums, IVAR_MANTISSA), load(sums, IVAR_EXPONENT)
    for k in range(k0, k1):
        ivar, residual = load(work.ivar, k - k0), load(work.data, k - k0)
        for e in range(plan.row_ptr[k], plan.row_ptr[k + 1]):
            if values.mix.shape[0] == 0:
                residual -= values.parts[0, e] * load(work.solution, plan.row_coeff[e])
            else:
                residual -= load(work.value, e - e0) * load(work.solution, plan.row_coeff[e])
        squares += ivar * residual * residual
        bad += magnitude(ivar) - ivar
        one = is_used(ivar)
        used += one
        product *= mantissa(ivar)
        exponent += (shifted_exponent(ivar) - 2.0**52) - 1023.0 * one
        if (k - k0) % RENORMALISE == RENORMALISE - 1 or k == k1 - 1:
            exponent += shifted_exponent(product) - EXPONENT_ZERO
            product = mantissa(product)
    store(sums, SQUARES, squares)
    store(sums, N_USED, used)
    store(sums, BAD, bad)
    store(sums, IVAR_MANTISSA, product)
    store(sums, IVAR_EXPONENT, exponent)


@inlined
def add_shrinkage(plan: SymbolicFactor, prior: Prior, work: Work, sums: FloatArray, group: int) -> None:
    """Add a group's (w - m)' P (w - m)."""
    j0 = plan.group_coeff[group]
    squares = load(sums, SQUARES)
    for place in range(j0, plan.group_coeff[group + 1]):
        offset = load(work.solution, place - j0) - prior.mean[place]
        squares += prior.precision[place] * (offset * offset)
    store(sums, SQUARES, squares)


@inlined
def write_coefficients(plan: SymbolicFactor, work: Work, answer: Answer, group: int, first: int) -> None:
    """Write a group's means and standard deviations to the rows from `first` on."""
    j0 = plan.group_coeff[group]
    n_row = min(LANES, answer.mean.shape[0] - first)
    for place in range(j0, plan.group_coeff[group + 1]):
        store(work.buffer, 0, square_root(load(work.lower, plan.l_ptr[place] - plan.l_ptr[j0])))
        for lane in range(n_row):
            answer.mean[first + lane, plan.order[place]] = work.solution[place - j0, lane]
            answer.std[first + lane, plan.order[place]] = work.buffer[0, lane]


@inlined
def write_density(sums: FloatArray, answer: Answer, first: int) -> None:
    """Write -1/2 [n log 2 pi - sum log ivar + squares + log |Lambda|] of the rows from `first` on."""
    for lane in range(min(sums.shape[1], answer.mean.shape[0] - first)):
        log_ivar = np.log(sums[IVAR_MANTISSA, lane]) + sums[IVAR_EXPONENT, lane] * LOG_2
        log_det = np.log(sums[PIVOT_MANTISSA, lane]) + sums[PIVOT_EXPONENT, lane] * LOG_2
        constant = sums[N_USED, lane] * LOG_2_PI
        answer.log_density[first + lane] = -0.5 * (constant - log_ivar + sums[SQUARES, lane] + log_det)
        answer.bad[0] += sums[BAD, lane]


@inlined
def reset(sums: FloatArray) -> None:
    """Start the running sums afresh."""
    sums[:] = 0.0
    sums[IVAR_MANTISSA] = 1.0
    sums[PIVOT_MANTISSA] = 1.0


@kernel
def solve_rows(plan: SymbolicFactor, model: tuple[Values, Prior, Rows], answer: Answer, share: tuple[int, int]) -> None:
    """Solve the rows share[0] to share[1], LANES at a time, and stop at the first singular one."""
    values, prior, rows = model
    work, sums = make_work(plan, values.mix.shape[0]), np.empty((N_SUMS, LANES))
    for first in range(share[0], share[1], LANES):
        reset(sums)
        for group in range(plan.group_obs.size - 1):
            load_observations(plan, rows, work, group, first)
            if values.mix.shape[0]:
                load_values(plan, values, rows, work, group, first)
            singular = factorise(plan, values, prior, work, sums, group)
            if singular >= 0:
                answer.failure[0] = singular // LANES
                answer.failure[1] = min(first + singular % LANES, rows.batch.size - 1)
                return
            back_substitute(plan, work, group, (plan.group_coeff[group], plan.group_coeff[group + 1]))
            add_residuals(plan, values, work, sums, group)
            add_shrinkage(plan, prior, work, sums, group)
            invert(plan, work, group)
            write_coefficients(plan, work, answer, group, first)
        write_density(sums, answer, first)
