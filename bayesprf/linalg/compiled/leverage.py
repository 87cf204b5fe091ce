"""Compiled covariances of pairs and variances of the model of every observation, from the selected inverse."""

from bayesprf.arrays import FloatArray
from bayesprf.linalg.compiled.cholesky import factorise_rows, invert
from bayesprf.linalg.compiled.jit import inlined, kernel
from bayesprf.linalg.compiled.lanes import LANES, fill, load, store
from bayesprf.linalg.compiled.solve import reset
from bayesprf.linalg.compiled.work import Prior, Rows, Scratch, Values, Work
from bayesprf.linalg.solvers.symbolic import SymbolicFactor


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


@inlined
def read_pairs(plan: SymbolicFactor, work: Work, answer: FloatArray, group: int, first: int) -> None:
    """Write a group's entries of Z on the pattern of X'X, below the diagonal, column by column."""
    j0 = plan.group_coeff[group]
    pair = plan.g_ptr[j0] - j0
    for place in range(j0, plan.group_coeff[group + 1]):
        for g in range(plan.g_ptr[place] + 1, plan.g_ptr[place + 1]):
            for lane in range(min(LANES, answer.shape[0] - first)):
                answer[first + lane, pair] = work.lower[plan.l_ptr[place] - plan.l_ptr[j0] + plan.g_row[g], lane]
            pair += 1


@kernel
def read_inverse(
    plan: SymbolicFactor,
    model: tuple[Values, Prior, Rows],
    answer: tuple[FloatArray, FloatArray],
    scratch: Scratch,
    share: tuple[int, int],
) -> None:
    """Read two things off the selected inverse Z of the rows share[0] to share[1].

    `answer` is the covariance of every pair of coefficients that share an observation, shape (n_rows, n_pair), in the
    order of the entries of X'X below the diagonal; and the variance x' Z x of the model of every observation, shape
    (n_rows, n_obs). One of the two is left out if it has no rows.
    """
    pairs, variance = answer
    work, sums = scratch
    for first in range(share[0], share[1], LANES):
        reset(sums)
        for group in range(plan.group_obs.size - 1):
            factorise_rows(plan, model, scratch, group, first)
            invert(plan, work, group)
            if pairs.shape[0]:
                read_pairs(plan, work, pairs, group, first)
            if variance.shape[0]:
                contract(plan, model[0], work, group)
                for lane in range(min(LANES, variance.shape[0] - first)):
                    for k in range(plan.group_obs[group], plan.group_obs[group + 1]):
                        variance[first + lane, plan.obs[k]] = work.data[k - plan.group_obs[group], lane]
