"""Compiled solution of sparse linear problems, several batch rows side by side as SIMD lanes.

The last axis of every work array is the lane. Its length is the length of the tuple `lanes`, a constant the compiler
sees. Each lane's arithmetic is the same whatever its neighbours are and whichever thread runs it.
"""

from typing import NamedTuple

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.bits import cast_bits
from bayesprf.linalg.jit import kernel
from bayesprf.linalg.singular import PIVOT_EPS
from bayesprf.linalg.symbolic import SymbolicFactor

MANTISSA = 0x000FFFFFFFFFFFFF
ONE = 0x3FF0000000000000
EXPONENT_BIAS = 1023
RENORMALISE = 512
LOG_2 = float(np.log(2.0))
LOG_2_PI = float(np.log(2.0 * np.pi))


class Rows(NamedTuple):
    """The rows to solve, `batch` (n_rows,); data and ivar of all rows, (n_batch, n_obs); known part (n_obs,)."""

    batch: IntArray
    data: FloatArray
    ivar: FloatArray
    known: FloatArray


class Values(NamedTuple):
    """Entries of the design in grouped order: `parts` (n_part, nnz), `mix` (n_batch, n_part).

    A static design has an empty `mix` and `product`, shape (n_product,), the products of X'X.
    """

    parts: FloatArray
    mix: FloatArray
    product: FloatArray


class Prior(NamedTuple):
    """Prior mean and precision in places, shape (n_coeff,) each."""

    mean: FloatArray
    precision: FloatArray


class Work(NamedTuple):
    """Scratch of one component: see `make_work`."""

    ivar: FloatArray
    data: FloatArray
    value: FloatArray
    lower: FloatArray
    column: FloatArray
    scaled: FloatArray
    inv_diag: FloatArray
    solution: FloatArray
    where: IntArray


class Sums(NamedTuple):
    """Running sums of the evidence, one per lane.

    Products of many numbers are kept as a mantissa below 2**513 and an exponent; their logarithm is taken once.
    """

    squares: FloatArray
    n_used: IntArray
    ivar_mantissa: FloatArray
    ivar_exponent: IntArray
    pivot_mantissa: FloatArray
    pivot_exponent: IntArray
    bad: IntArray


class Answer(NamedTuple):
    """What a solution writes: `mean`, `std` (n_rows, n_coeff), in the original order; `log_density` (n_rows,).

    `log_density` is the log evidence without the prior's determinant; `failure` (2,) is the place and row of a zero
    pivot, `bad` (1,) is negative if some ivar was negative or not finite.
    """

    mean: FloatArray
    std: FloatArray
    log_density: FloatArray
    failure: IntArray
    bad: IntArray


@kernel
def make_work(plan: SymbolicFactor, varying: int, lanes: tuple[int, ...]) -> Work:
    """Return scratch large enough for every component."""
    n = len(lanes)
    n_obs = n_entry = n_coeff = n_lower = 1
    for c in range(plan.comp_obs.size - 1):
        k0, k1, j0, j1 = plan.comp_obs[c], plan.comp_obs[c + 1], plan.comp_coeff[c], plan.comp_coeff[c + 1]
        n_obs, n_coeff = max(n_obs, k1 - k0), max(n_coeff, j1 - j0)
        n_entry = max(n_entry, plan.row_ptr[k1] - plan.row_ptr[k0])
        n_lower = max(n_lower, plan.l_ptr[j1] - plan.l_ptr[j0])
    return Work(
        np.empty((n_obs, n)),
        np.empty((n_obs, n)),
        np.empty((n_entry if varying else 1, n)),
        np.empty((n_lower, n)),
        np.empty((n_coeff, n)),
        np.empty((n_coeff, n)),
        np.empty((n_coeff, n)),
        np.empty((n_coeff, n)),
        np.empty(n_coeff, np.int64),
    )


@kernel
def load_observations(
    plan: SymbolicFactor, rows: Rows, work: Work, comp: int, first: int, lanes: tuple[int, ...]
) -> None:
    """Bring a component's ivar and data into lanes; dropped data become 0. Missing lanes repeat the last row."""
    k0, k1 = plan.comp_obs[comp], plan.comp_obs[comp + 1]
    obs = plan.obs[k0:k1]
    for lane in range(len(lanes)):
        row = rows.batch[min(first + lane, rows.batch.size - 1)]
        for k in range(obs.size):
            ivar, datum = rows.ivar[row, obs[k]], rows.data[row, obs[k]]
            work.ivar[k, lane] = ivar
            work.data[k, lane] = datum - rows.known[obs[k]] if ivar > 0.0 else 0.0


@kernel
def load_values(
    plan: SymbolicFactor, values: Values, rows: Rows, work: Work, comp: int, first: int, lanes: tuple[int, ...]
) -> None:
    """Form the entries mix @ parts of a component in lanes."""
    n = len(lanes)
    e0, e1 = plan.row_ptr[plan.comp_obs[comp]], plan.row_ptr[plan.comp_obs[comp + 1]]
    mix = np.empty((values.parts.shape[0], n))
    for lane in range(n):
        row = rows.batch[min(first + lane, rows.batch.size - 1)]
        for part in range(values.parts.shape[0]):
            mix[part, lane] = values.mix[row, part]
    for e in range(e0, e1):
        for lane in range(n):
            work.value[e - e0, lane] = 0.0
        for part in range(values.parts.shape[0]):
            weight = values.parts[part, e]
            for lane in range(n):
                work.value[e - e0, lane] += weight * mix[part, lane]


@kernel
def accumulate_column(
    plan: SymbolicFactor, values: Values, work: Work, place: int, entry0: int, lanes: tuple[int, ...]
) -> None:
    """Add a column of X' C^-1 X to `work.column` and the entry of X' C^-1 y to `work.solution`."""
    n = len(lanes)
    x = work.solution[plan.l_row[plan.l_ptr[place]]]
    static = values.mix.shape[0] == 0
    for g in range(plan.g_ptr[place], plan.g_ptr[place + 1]):
        column = work.column[plan.g_row[g]]
        for q in range(plan.p_ptr[g], plan.p_ptr[g + 1]):
            ivar = work.ivar[plan.p_obs[q]]
            if static:
                product = values.product[q]
                for lane in range(n):
                    column[lane] += product * ivar[lane]
            else:
                a, b = work.value[plan.p_a[q]], work.value[plan.p_b[q]]
                for lane in range(n):
                    column[lane] += a[lane] * b[lane] * ivar[lane]
    g = plan.g_ptr[place]
    for q in range(plan.p_ptr[g], plan.p_ptr[g + 1]):
        ivar, data = work.ivar[plan.p_obs[q]], work.data[plan.p_obs[q]]
        if static:
            weight = values.parts[0, entry0 + plan.p_a[q]]
            for lane in range(n):
                x[lane] += weight * (ivar[lane] * data[lane])
        else:
            a = work.value[plan.p_a[q]]
            for lane in range(n):
                x[lane] += a[lane] * (ivar[lane] * data[lane])


@kernel
def factorise(
    plan: SymbolicFactor, values: Values, prior: Prior, work: Work, sums: Sums, comp: int, lanes: tuple[int, ...]
) -> int:
    """Factorise one component, column by column, and solve L x = rhs on the way.

    Returns n_lanes * place + lane of the first pivot that is zero to rounding, or -1.
    """
    n = len(lanes)
    j0, j1 = plan.comp_coeff[comp], plan.comp_coeff[comp + 1]
    base, entry0 = plan.l_ptr[j0], plan.row_ptr[plan.comp_obs[comp]]
    for place in range(j0, j1):
        p0, size, j = plan.l_ptr[place] - base, plan.l_ptr[place + 1] - plan.l_ptr[place], place - j0
        column, x = work.column, work.solution[j]
        for i in range(size):
            work.where[plan.l_row[base + p0 + i]] = i
            for lane in range(n):
                column[i, lane] = 0.0
        for lane in range(n):
            column[0, lane] = prior.precision[place]
            x[lane] = prior.precision[place] * prior.mean[place]
        accumulate_column(plan, values, work, place, entry0, lanes)
        limit = work.scaled[0]
        n_update = plan.r_ptr[place + 1] - plan.r_ptr[place]
        for lane in range(n):
            limit[lane] = PIVOT_EPS * (4 + n_update) * column[0, lane]
        for r in range(plan.r_ptr[place], plan.r_ptr[place + 1]):
            k = j0 + plan.r_col[r]
            factor, xk = work.lower[plan.r_pos[r]], work.solution[plan.r_col[r]]
            for lane in range(n):
                x[lane] -= factor[lane] * xk[lane]
            for p in range(plan.r_pos[r], plan.l_ptr[k + 1] - base):
                target, source = column[work.where[plan.l_row[base + p]]], work.lower[p]
                for lane in range(n):
                    target[lane] -= factor[lane] * source[lane]
        weak = 0
        for lane in range(n):
            weak |= not column[0, lane] > limit[lane]
        if weak:
            for lane in range(n):
                if not column[0, lane] > limit[lane]:
                    return n * place + lane
        for lane in range(n):
            bits = cast_bits(column[0, lane])
            sums.pivot_mantissa[lane] *= cast_bits((bits & MANTISSA) | ONE)
            sums.pivot_exponent[lane] += (bits >> 52) - EXPONENT_BIAS
        renormalise(sums.pivot_mantissa, sums.pivot_exponent, lanes)
        inv_diag = work.inv_diag[j]
        for lane in range(n):
            inv_diag[lane] = 1.0 / np.sqrt(column[0, lane])
            x[lane] *= inv_diag[lane]
        for i in range(size):
            lower = work.lower[p0 + i]
            for lane in range(n):
                lower[lane] = column[i, lane] * inv_diag[lane]
    return -1


@kernel
def renormalise(mantissa: FloatArray, exponent: IntArray, lanes: tuple[int, ...]) -> None:
    """Move the exponent out of a running product."""
    for lane in range(len(lanes)):
        bits = cast_bits(mantissa[lane])
        exponent[lane] += (bits >> 52) - EXPONENT_BIAS
        mantissa[lane] = cast_bits((bits & MANTISSA) | ONE)


@kernel
def back_substitute(plan: SymbolicFactor, work: Work, comp: int, lanes: tuple[int, ...]) -> None:
    """Solve L' w = x in place."""
    j0, base = plan.comp_coeff[comp], plan.l_ptr[plan.comp_coeff[comp]]
    for place in range(plan.comp_coeff[comp + 1] - 1, j0 - 1, -1):
        x, inv_diag = work.solution[place - j0], work.inv_diag[place - j0]
        for p in range(plan.l_ptr[place] + 1, plan.l_ptr[place + 1]):
            lower, other = work.lower[p - base], work.solution[plan.l_row[p]]
            for lane in range(len(lanes)):
                x[lane] -= lower[lane] * other[lane]
        for lane in range(len(lanes)):
            x[lane] *= inv_diag[lane]


@kernel
def invert(plan: SymbolicFactor, work: Work, comp: int, lanes: tuple[int, ...]) -> None:
    """Overwrite L by the entries of (L L')^-1 on its pattern (Takahashi, Fagan & Chen 1973)."""
    n = len(lanes)
    j0, base = plan.comp_coeff[comp], plan.l_ptr[plan.comp_coeff[comp]]
    column, scaled = work.column, work.scaled
    for place in range(plan.comp_coeff[comp + 1] - 1, j0 - 1, -1):
        p0, size = plan.l_ptr[place], plan.l_ptr[place + 1] - plan.l_ptr[place]
        inv_diag = work.inv_diag[place - j0]
        for i in range(1, size):
            lower = work.lower[p0 - base + i]
            for lane in range(n):
                scaled[i, lane] = lower[lane] * inv_diag[lane]
                column[i, lane] = 0.0
        for a in range(1, size):
            k = j0 + plan.l_row[p0 + a]
            q = plan.l_ptr[k]
            z, sum_a, u_a = work.lower[q - base], column[a], scaled[a]
            for lane in range(n):
                sum_a[lane] += z[lane] * u_a[lane]
            for b in range(a + 1, size):
                q += 1
                while plan.l_row[q] != plan.l_row[p0 + b]:
                    q += 1
                z, sum_b, u_b = work.lower[q - base], column[b], scaled[b]
                for lane in range(n):
                    sum_b[lane] += z[lane] * u_a[lane]
                    sum_a[lane] += z[lane] * u_b[lane]
        diagonal = work.lower[p0 - base]
        for lane in range(n):
            diagonal[lane] = inv_diag[lane] * inv_diag[lane]
        for a in range(1, size):
            lower, sum_a, u_a = work.lower[p0 - base + a], column[a], scaled[a]
            for lane in range(n):
                lower[lane] = -sum_a[lane]
                diagonal[lane] += u_a[lane] * sum_a[lane]


@kernel
def add_residuals(
    plan: SymbolicFactor, values: Values, work: Work, sums: Sums, comp: int, lanes: tuple[int, ...]
) -> None:
    """Add a component's r' C^-1 r and multiply its 1 / ivar into the running product."""
    n = len(lanes)
    k0, k1 = plan.comp_obs[comp], plan.comp_obs[comp + 1]
    static = values.mix.shape[0] == 0
    e0 = plan.row_ptr[k0]
    residual = np.empty(n)
    for k in range(k1 - k0):
        ivar, data = work.ivar[k], work.data[k]
        for lane in range(n):
            residual[lane] = data[lane]
        for e in range(plan.row_ptr[k0 + k], plan.row_ptr[k0 + k + 1]):
            x = work.solution[plan.row_coeff[e]]
            if static:
                weight = values.parts[0, e]
                for lane in range(n):
                    residual[lane] -= weight * x[lane]
            else:
                value = work.value[e - e0]
                for lane in range(n):
                    residual[lane] -= value[lane] * x[lane]
        for lane in range(n):
            bits = cast_bits(ivar[lane])
            used = bits != 0
            sums.squares[lane] += ivar[lane] * residual[lane] * residual[lane]
            sums.n_used[lane] += used
            sums.ivar_mantissa[lane] *= cast_bits((bits & MANTISSA) | ONE)
            sums.ivar_exponent[lane] += (bits >> 52) - EXPONENT_BIAS * used
            sums.bad[lane] |= bits | (bits + (1 << 52))
        if k % RENORMALISE == RENORMALISE - 1:
            renormalise(sums.ivar_mantissa, sums.ivar_exponent, lanes)
    renormalise(sums.ivar_mantissa, sums.ivar_exponent, lanes)


@kernel
def add_shrinkage(
    plan: SymbolicFactor, prior: Prior, work: Work, sums: Sums, comp: int, lanes: tuple[int, ...]
) -> None:
    """Add a component's (w - m)' P (w - m)."""
    j0 = plan.comp_coeff[comp]
    for place in range(j0, plan.comp_coeff[comp + 1]):
        x = work.solution[place - j0]
        for lane in range(len(lanes)):
            sums.squares[lane] += prior.precision[place] * (x[lane] - prior.mean[place]) ** 2


@kernel
def write_coefficients(
    plan: SymbolicFactor, work: Work, answer: Answer, comp: int, first: int, lanes: tuple[int, ...]
) -> None:
    """Write a component's means and standard deviations to the rows from `first` on."""
    j0 = plan.comp_coeff[comp]
    n_row = min(len(lanes), answer.mean.shape[0] - first)
    for place in range(j0, plan.comp_coeff[comp + 1]):
        variance = work.lower[plan.l_ptr[place] - plan.l_ptr[j0]]
        for lane in range(n_row):
            answer.mean[first + lane, plan.order[place]] = work.solution[place - j0, lane]
            answer.std[first + lane, plan.order[place]] = np.sqrt(variance[lane])


@kernel
def write_density(sums: Sums, answer: Answer, first: int, lanes: tuple[int, ...]) -> None:
    """Write -1/2 [n log 2 pi - sum log ivar + squares + log |Lambda|] and start the sums afresh."""
    n_row = min(len(lanes), answer.mean.shape[0] - first)
    for lane in range(n_row):
        log_ivar = np.log(sums.ivar_mantissa[lane]) + sums.ivar_exponent[lane] * LOG_2
        log_det = np.log(sums.pivot_mantissa[lane]) + sums.pivot_exponent[lane] * LOG_2
        constant = sums.n_used[lane] * LOG_2_PI
        answer.log_density[first + lane] = -0.5 * (constant - log_ivar + sums.squares[lane] + log_det)
        answer.bad[0] |= sums.bad[lane]


@kernel
def make_sums(lanes: tuple[int, ...]) -> Sums:
    """Return running sums to be reset."""
    n = len(lanes)
    return Sums(
        np.empty(n),
        np.empty(n, np.int64),
        np.empty(n),
        np.empty(n, np.int64),
        np.empty(n),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )


@kernel
def reset(sums: Sums) -> None:
    """Start the running sums afresh."""
    sums.squares[:] = 0.0
    sums.n_used[:] = 0
    sums.ivar_mantissa[:] = 1.0
    sums.ivar_exponent[:] = 0
    sums.pivot_mantissa[:] = 1.0
    sums.pivot_exponent[:] = 0
    sums.bad[:] = 0


@kernel
def solve_rows(
    plan: SymbolicFactor,
    values: Values,
    prior: Prior,
    rows: Rows,
    answer: Answer,
    lo: int,
    hi: int,
    lanes: tuple[int, ...],
) -> None:
    """Solve the rows lo to hi, len(lanes) at a time, and stop at the first singular one."""
    n = len(lanes)
    varying = values.mix.shape[0]
    work = make_work(plan, varying, lanes)
    sums = make_sums(lanes)
    for first in range(lo, hi, n):
        reset(sums)
        for comp in range(plan.comp_obs.size - 1):
            load_observations(plan, rows, work, comp, first, lanes)
            if varying:
                load_values(plan, values, rows, work, comp, first, lanes)
            singular = factorise(plan, values, prior, work, sums, comp, lanes)
            if singular >= 0:
                answer.failure[0] = singular // n
                answer.failure[1] = min(first + singular % n, rows.batch.size - 1)
                return
            back_substitute(plan, work, comp, lanes)
            add_residuals(plan, values, work, sums, comp, lanes)
            add_shrinkage(plan, prior, work, sums, comp, lanes)
            invert(plan, work, comp, lanes)
            write_coefficients(plan, work, answer, comp, first, lanes)
        write_density(sums, answer, first, lanes)
