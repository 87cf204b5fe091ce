"""Compiled covariances and draws of rows that are factorised again on request."""

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.cholesky import back_substitute, factorise_rows
from bayesprf.linalg.compiled.jit import inlined, kernel
from bayesprf.linalg.compiled.lanes import LANES, load, store
from bayesprf.linalg.compiled.solve import reset
from bayesprf.linalg.compiled.work import Prior, Rows, Scratch, Values, Work
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
