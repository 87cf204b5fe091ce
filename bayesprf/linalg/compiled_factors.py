"""Compiled covariances and draws of rows that are factorised again on request."""

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled import (
    N_SUMS,
    Prior,
    Rows,
    Values,
    Work,
    back_substitute,
    factorise,
    invert,
    load_observations,
    load_values,
    make_work,
    reset,
)
from bayesprf.linalg.jit import kernel
from bayesprf.linalg.lanes import load, store
from bayesprf.linalg.symbolic import SymbolicFactor


@kernel
def refactorise(
    plan: SymbolicFactor,
    model: tuple[Values, Prior, Rows],
    scratch: tuple[Work, FloatArray],
    comp: int,
    first: int,
    lanes: tuple[int, ...],
) -> None:
    """Leave a component's L of the rows from `first` on in the scratch."""
    values, prior, rows = model
    work, sums = scratch
    load_observations(plan, rows, work, comp, first, lanes)
    if values.mix.shape[0]:
        load_values(plan, values, rows, work, comp, first, lanes)
    factorise(plan, values, prior, work, sums, comp, lanes)


@kernel
def solve_unit(plan: SymbolicFactor, work: Work, comp: int, unit: int, lanes: tuple[int, ...]) -> None:
    """Solve L L' z = e for the unit vector of one place."""
    j0, j1 = plan.comp_coeff[comp], plan.comp_coeff[comp + 1]
    base = plan.l_ptr[j0]
    work.solution[: j1 - j0] = 0.0
    work.solution[unit - j0] = 1.0
    for place in range(unit, j1):
        x = load(work.solution, place - j0, lanes) * load(work.inv_diag, place - j0, lanes)
        store(work.solution, place - j0, x)
        for p in range(plan.l_ptr[place] + 1, plan.l_ptr[place + 1]):
            i = plan.l_row[p]
            store(work.solution, i, load(work.solution, i, lanes) - load(work.lower, p - base, lanes) * x)
    back_substitute(plan, work, comp, lanes)


@kernel
def write_covariance(
    plan: SymbolicFactor,
    model: tuple[Values, Prior, Rows],
    selected: tuple[IntArray, IntArray, IntArray],
    answer: FloatArray,
    lanes: tuple[int, ...],
) -> None:
    """Write the covariance of selected places, shape (n_rows, n_selected, n_selected), zero between components.

    `selected` is the components involved, and the place and component of each selected coefficient.
    """
    comps, places, comp_of = selected
    work, sums = make_work(plan, model[0].mix.shape[0], lanes), np.empty((N_SUMS, len(lanes)))
    for first in range(0, answer.shape[0], len(lanes)):
        reset(sums)
        n_row = min(len(lanes), answer.shape[0] - first)
        for comp in comps:
            refactorise(plan, model, (work, sums), comp, first, lanes)
            for a in range(places.size):
                if comp_of[a] == comp:
                    solve_unit(plan, work, comp, places[a], lanes)
                    for b in range(places.size):
                        if comp_of[b] == comp:
                            for lane in range(n_row):
                                value = work.solution[places[b] - plan.comp_coeff[comp], lane]
                                answer[first + lane, a, b] = value


@kernel
def colour_noise(
    plan: SymbolicFactor,
    model: tuple[Values, Prior, Rows],
    comps: IntArray,
    noise: FloatArray,
    lanes: tuple[int, ...],
) -> None:
    """Turn white noise, shape (n_draw, n_rows, n_place) with the places of `comps` in turn, into N(0, (L L')^-1)."""
    work, sums = make_work(plan, model[0].mix.shape[0], lanes), np.empty((N_SUMS, len(lanes)))
    for first in range(0, noise.shape[1], len(lanes)):
        reset(sums)
        n_row = min(len(lanes), noise.shape[1] - first)
        offset = 0
        for comp in comps:
            refactorise(plan, model, (work, sums), comp, first, lanes)
            size = plan.comp_coeff[comp + 1] - plan.comp_coeff[comp]
            for draw in range(noise.shape[0]):
                for lane in range(n_row):
                    for j in range(size):
                        work.solution[j, lane] = noise[draw, first + lane, offset + j]
                back_substitute(plan, work, comp, lanes)
                for lane in range(n_row):
                    for j in range(size):
                        noise[draw, first + lane, offset + j] = work.solution[j, lane]
            offset += size


@kernel
def write_pairs(
    plan: SymbolicFactor,
    model: tuple[Values, Prior, Rows],
    answer: FloatArray,
    lanes: tuple[int, ...],
) -> None:
    """Write the covariance of every pair of coefficients that share an observation, shape (n_rows, n_pair).

    Pairs follow the entries of X'X below the diagonal, column by column.
    """
    work, sums = make_work(plan, model[0].mix.shape[0], lanes), np.empty((N_SUMS, len(lanes)))
    for first in range(0, answer.shape[0], len(lanes)):
        reset(sums)
        n_row = min(len(lanes), answer.shape[0] - first)
        pair = 0
        for comp in range(plan.comp_obs.size - 1):
            refactorise(plan, model, (work, sums), comp, first, lanes)
            invert(plan, work, comp, lanes)
            j0 = plan.comp_coeff[comp]
            for place in range(j0, plan.comp_coeff[comp + 1]):
                for g in range(plan.g_ptr[place] + 1, plan.g_ptr[place + 1]):
                    value = work.lower[plan.l_ptr[place] - plan.l_ptr[j0] + plan.g_row[g]]
                    for lane in range(n_row):
                        answer[first + lane, pair] = value[lane]
                    pair += 1
