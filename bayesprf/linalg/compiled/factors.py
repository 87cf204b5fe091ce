"""Compiled covariances and draws of rows that are factorised again on request."""

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.cholesky import back_substitute, factorise_rows
from bayesprf.linalg.compiled.jit import inlined, kernel
from bayesprf.linalg.compiled.lanes import LANES, fill, load, square_root, store
from bayesprf.linalg.compiled.solve import reset
from bayesprf.linalg.compiled.work import Prior, Rows, Scratch, Values, Work, gather
from bayesprf.linalg.solvers.symbolic import SymbolicFactor


@inlined
def solve_unit(plan: SymbolicFactor, work: Work, group: int, unit: int) -> None:
    """Solve L L' z = e for the unit vector of one place."""
    j0, j1 = plan.group_coeff[group], plan.group_coeff[group + 1]
    base = plan.l_ptr[j0]
    work.solution[: j1 - j0] = 0.0
    work.solution[unit - j0] = 1.0
    for place in range(unit, j1):
        x = load(work.solution, place - j0) * load(work.inv_diag, place - j0)
        store(work.solution, place - j0, x)
        for p in range(plan.l_ptr[place] + 1, plan.l_ptr[place + 1]):
            i = plan.l_row[p]
            store(work.solution, i, load(work.solution, i) - load(work.lower, p - base) * x)
    back_substitute(plan, work, group, (j0, j1))


@kernel
def write_covariance(
    plan: SymbolicFactor,
    model: tuple[Values, Prior, Rows],
    selected: tuple[IntArray, IntArray, IntArray],
    answer: FloatArray,
    scratch: Scratch,
) -> None:
    """Write the covariance of selected places, shape (n_rows, n_selected, n_selected), zero between components.

    `selected` is the groups involved, and the place and group of each selected coefficient.
    """
    groups, places, group_of = selected
    work, sums = scratch
    for first in range(0, answer.shape[0], LANES):
        reset(sums)
        n_row = min(LANES, answer.shape[0] - first)
        for group in groups:
            factorise_rows(plan, model, scratch, group, first)
            for a in range(places.size):
                if group_of[a] == group:
                    solve_unit(plan, work, group, places[a])
                    for b in range(places.size):
                        if group_of[b] == group:
                            for lane in range(n_row):
                                value = work.solution[places[b] - plan.group_coeff[group], lane]
                                answer[first + lane, a, b] = value


@kernel
def colour_noise(
    plan: SymbolicFactor,
    model: tuple[Values, Prior, Rows],
    selected: tuple[IntArray, IntArray],
    noise: FloatArray,
    scratch: Scratch,
) -> None:
    """Turn white noise, shape (n_draw, n_rows, n_place), into N(0, (L L')^-1).

    `selected` is the requested components, whose places follow each other in `noise`, and the group of each.
    """
    comps, group_of = selected
    work, sums = scratch
    for first in range(0, noise.shape[1], LANES):
        reset(sums)
        n_row = min(LANES, noise.shape[1] - first)
        offset = 0
        for c in range(comps.size):
            if c == 0 or group_of[c] != group_of[c - 1]:
                factorise_rows(plan, model, scratch, group_of[c], first)
            lo, hi = plan.comp_coeff[comps[c]], plan.comp_coeff[comps[c] + 1]
            local = lo - plan.group_coeff[group_of[c]]
            for draw in range(noise.shape[0]):
                for lane in range(n_row):
                    for j in range(hi - lo):
                        work.solution[local + j, lane] = noise[draw, first + lane, offset + j]
                back_substitute(plan, work, group_of[c], (lo, hi))
                for lane in range(n_row):
                    for j in range(hi - lo):
                        noise[draw, first + lane, offset + j] = work.solution[local + j, lane]
            offset += hi - lo


@inlined
def spread_noise(plan: SymbolicFactor, values: Values, work: Work, group: int, unit: int) -> None:
    """Write z' e + sum_k d_k (x_k' z)**2 to the buffer; z solves for the unit vector e, d lies where the data were."""
    j0 = plan.group_coeff[group]
    e0 = plan.row_ptr[plan.group_obs[group]]
    variance = load(work.solution, unit - j0)
    for k in range(plan.group_obs[group], plan.group_obs[group + 1]):
        response = fill(0.0)
        for e in range(plan.row_ptr[k], plan.row_ptr[k + 1]):
            if values.mix.shape[0] == 0:
                response += values.parts[0, e] * load(work.solution, plan.row_coeff[e])
            else:
                response += load(work.value, e - e0) * load(work.solution, plan.row_coeff[e])
        variance += load(work.data, k - plan.group_obs[group]) * response * response
    store(work.buffer, 0, square_root(variance))


@kernel
def write_weighted_std(
    plan: SymbolicFactor,
    model: tuple[Values, Prior, Rows],
    noise: tuple[FloatArray, FloatArray],
    scratch: Scratch,
    share: tuple[int, int],
) -> None:
    """Write the standard deviations of rows share[0] to share[1] for a noise that is not that of the weights.

    `noise` is W (C W - 1) of all rows, shape (n_batch, n_obs), and the answer, shape (n_rows, n_coeff).
    """
    excess, answer = noise
    work, sums = scratch
    batches = np.empty(LANES, np.int64)
    for first in range(share[0], share[1], LANES):
        reset(sums)
        n_row = min(LANES, answer.shape[0] - first)
        for lane in range(LANES):
            batches[lane] = model[2].batch[min(first + lane, model[2].batch.size - 1)]
        for group in range(plan.group_obs.size - 1):
            factorise_rows(plan, model, scratch, group, first)
            gather(plan, excess, batches, group, work.data)
            for unit in range(plan.group_coeff[group], plan.group_coeff[group + 1]):
                solve_unit(plan, work, group, unit)
                spread_noise(plan, model[0], work, group, unit)
                for lane in range(n_row):
                    answer[first + lane, plan.order[unit]] = work.buffer[0, lane]
