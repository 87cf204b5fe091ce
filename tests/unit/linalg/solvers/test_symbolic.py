import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array

from bayesprf.linalg.solvers import symbolic
from bayesprf.linalg.solvers.symbolic import analyse
from bayesprf.linalg.stack import DesignStack


def design(n_obs=400, n_coeff=60, density=0.02, seed=0):
    rng = np.random.default_rng(seed)
    return DesignStack.from_sparse(csr_matrix(random_array((n_obs, n_coeff), density=density, rng=rng)))


def first_place(plan):
    return np.repeat(plan.group_coeff[:-1], np.diff(plan.group_coeff))


def lower_pattern(plan):
    """Places of L's entries as a dense mask."""
    column = np.repeat(np.arange(plan.order.size), np.diff(plan.l_ptr))
    mask = np.zeros((plan.order.size, plan.order.size), bool)
    mask[first_place(plan)[column] + plan.l_row, column] = True
    return mask


def ordered_precision(stack, plan):
    matrix = stack.matrix().toarray()[:, plan.order]
    return matrix.T @ matrix + np.eye(plan.order.size)


@pytest.mark.parametrize("density", [0.0, 0.005, 0.02, 0.2])
def test_pattern_holds_every_entry_of_the_cholesky_factor(density):
    stack = design(density=density)
    plan = analyse(stack)
    lower = np.linalg.cholesky(ordered_precision(stack, plan))
    mask = lower_pattern(plan)
    assert np.all(lower[~mask] == 0)
    # random values do not cancel, so nothing on the pattern is zero either
    assert np.all(np.abs(lower[mask]) > 0)


def test_products_give_the_precision():
    stack = design()
    plan = analyse(stack)
    values, first = stack.parts[0][plan.entry], first_place(plan)
    gram = np.zeros((plan.order.size, plan.order.size))
    group = np.searchsorted(plan.group_coeff, np.arange(plan.order.size), side="right") - 1
    for place in range(plan.order.size):
        base = plan.row_ptr[plan.group_obs[group[place]]]
        for g in range(plan.g_ptr[place], plan.g_ptr[place + 1]):
            row = first[place] + plan.l_row[plan.l_ptr[place] + plan.g_row[g]]
            q = slice(plan.p_ptr[g], plan.p_ptr[g + 1])
            gram[row, place] = np.sum(values[base + plan.p_a[q]] * values[base + plan.p_b[q]])
    np.testing.assert_allclose(gram, np.tril(ordered_precision(stack, plan) - np.eye(plan.order.size)), atol=1e-12)


def test_order_and_observations_are_permutations():
    stack = design()
    plan = analyse(stack)
    np.testing.assert_array_equal(np.sort(plan.order), np.arange(stack.n_coeff))
    np.testing.assert_array_equal(np.sort(plan.obs), np.arange(stack.n_obs))
    np.testing.assert_array_equal(plan.order[plan.place], np.arange(stack.n_coeff))


def test_components_share_no_observation():
    stack = design(density=0.003)
    plan = analyse(stack)
    matrix = ordered_precision(stack, plan) != 0
    component = np.searchsorted(plan.comp_coeff, np.arange(stack.n_coeff), side="right")
    assert plan.n_comp > 3
    assert not np.any(matrix & (component[:, None] != component))


def test_a_column_common_to_all_is_eliminated_last():
    arrow = np.hstack([np.ones((30, 1)), np.eye(30)])
    plan = analyse(DesignStack.from_sparse(csr_matrix(arrow)))
    # elimination of the common column first would fill the matrix; last, each row of L has two entries
    assert plan.l_row.size == 2 * 31 - 1


def test_groups_hold_whole_components_and_about_group_obs_observations(monkeypatch):
    monkeypatch.setattr(symbolic, "GROUP_OBS", 16)
    stack = DesignStack.from_sparse(csr_matrix(np.kron(np.eye(40), np.ones((5, 1)))))
    plan = analyse(stack)
    sizes = np.diff(plan.group_obs)
    assert sizes.max() <= 16 + 5
    assert plan.group_obs[-1] == 200
    assert set(plan.group_coeff) <= set(plan.comp_coeff)


def test_runs_count_neighbours_in_memory():
    plan = analyse(DesignStack.from_sparse(csr_matrix(np.ones((6, 1)))))
    np.testing.assert_array_equal(plan.run, [6, 5, 4, 3, 2, 1])
