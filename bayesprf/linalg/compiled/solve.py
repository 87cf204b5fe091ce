"""Compiled solution of sparse linear problems, several batch rows side by side as SIMD lanes.

The last axis of every work array is the lane. Each lane's arithmetic is the same whatever its neighbours are and
whichever thread runs it.
"""

from typing import NamedTuple

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.cholesky import EXPONENT_ZERO, back_substitute, factorise_rows, invert
from bayesprf.linalg.compiled.jit import inlined, kernel
from bayesprf.linalg.compiled.lanes import (
    LANES,
    is_used,
    load,
    magnitude,
    mantissa,
    shifted_exponent,
    square_root,
    store,
)
from bayesprf.linalg.compiled.work import (
    BAD,
    IVAR_EXPONENT,
    IVAR_MANTISSA,
    N_USED,
    PIVOT_EXPONENT,
    PIVOT_MANTISSA,
    SQUARES,
    Prior,
    Rows,
    Scratch,
    Values,
    Work,
)
from bayesprf.linalg.solvers.symbolic import SymbolicFactor

RENORMALISE = 512
"""Rounding: mantissas multiplied before the exponent is moved out: 2**512 is far from overflow."""

LOG_2 = float(np.log(2.0))
LOG_2_PI = float(np.log(2.0 * np.pi))


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
def solve_rows(
    plan: SymbolicFactor,
    model: tuple[Values, Prior, Rows],
    answer: Answer,
    scratch: Scratch,
    share: tuple[int, int],
) -> None:
    """Solve the rows share[0] to share[1], LANES at a time, and stop at the first singular one."""
    values, prior, rows = model
    work, sums = scratch
    for first in range(share[0], share[1], LANES):
        reset(sums)
        for group in range(plan.group_obs.size - 1):
            singular = factorise_rows(plan, model, scratch, group, first)
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
