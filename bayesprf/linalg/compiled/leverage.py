"""Compiled variance of the model of every observation, from the selected inverse."""

from bayesprf.arrays import FloatArray
from bayesprf.linalg.compiled.cholesky import invert
from bayesprf.linalg.compiled.factors import refactorise
from bayesprf.linalg.compiled.jit import inlined, kernel
from bayesprf.linalg.compiled.lanes import LANES, fill, load, store
from bayesprf.linalg.compiled.solve import reset
from bayesprf.linalg.compiled.work import N_SUMS, Prior, Rows, Values, Work, make_rows, make_work
from bayesprf.linalg.symbolic import SymbolicFactor


@inlined
def contract(plan: SymbolicFactor, values: Values, work: Work, group: int) -> None:
    """Overwrite a group's data by x' Z x of each observation, Z the inverse on the pattern of L.

    Every pair of coefficients that meet in an observation is on the pattern, so the products of X'X serve again.
    """
    j0, base = plan.group_coeff[group], plan.l_ptr[plan.group_coeff[group]]
    for k in range(plan.group_obs[group + 1] - plan.group_obs[group]):
        store(work.data, k, fill(0.0))
    for place in range(j0, plan.group_coeff[group + 1]):
        for g in range(plan.g_ptr[place], plan.g_ptr[place + 1]):
            twice = 1.0 if plan.g_row[g] == 0 else 2.0
            z = twice * load(work.lower, plan.l_ptr[place] - base + plan.g_row[g])
            for q in range(plan.p_ptr[g], plan.p_ptr[g + 1]):
                if values.mix.shape[0] == 0:
                    term = values.product[q] * z
                else:
                    term = load(work.value, plan.p_a[q]) * load(work.value, plan.p_b[q]) * z
                store(work.data, plan.p_obs[q], load(work.data, plan.p_obs[q]) + term)


@kernel
def write_variance(
    plan: SymbolicFactor, model: tuple[Values, Prior, Rows], answer: FloatArray, share: tuple[int, int]
) -> None:
    """Write x' Lambda^-1 x of every observation, shape (n_rows, n_obs), for the rows share[0] to share[1]."""
    work, sums = make_work(plan, model[0].mix.shape[0]), make_rows(N_SUMS)
    for first in range(share[0], share[1], LANES):
        reset(sums)
        n_row = min(LANES, answer.shape[0] - first)
        for group in range(plan.group_obs.size - 1):
            refactorise(plan, model, (work, sums), group, first)
            invert(plan, work, group)
            contract(plan, model[0], work, group)
            for lane in range(n_row):
                for k in range(plan.group_obs[group], plan.group_obs[group + 1]):
                    answer[first + lane, plan.obs[k]] = work.data[k - plan.group_obs[group], lane]
