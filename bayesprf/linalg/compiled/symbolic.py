"""Compiled passes over the pattern of a sparse design, each linear in what it reads and writes."""

import numpy as np

from bayesprf.arrays import Int32Array, IntArray
from bayesprf.linalg.compiled.jit import kernel


@kernel
def row_pattern(adj_ptr: IntArray, adj: IntArray, order: IntArray, place: IntArray) -> tuple[IntArray, IntArray]:
    """Return the columns k < j of each row j of L, in global places, as pointers and unsorted lists.

    Row j of L holds every place on the paths of the elimination tree from the neighbours below j up to j
    (Davis 2006, section 4.2).
    """
    n = order.size
    parent, seen = np.full(n, -1), np.full(n, -1)
    r_ptr = np.zeros(n + 1, np.int64)
    cols = np.empty(max(1, 4 * n), np.int64)
    size = 0
    for j in range(n):
        seen[j] = j
        for e in range(adj_ptr[order[j]], adj_ptr[order[j] + 1]):
            k = place[adj[e]]
            while k < j and seen[k] != j:
                seen[k] = j
                if size == cols.size:
                    cols = np.concatenate((cols, np.empty_like(cols)))
                cols[size] = k
                size += 1
                if parent[k] < 0:
                    parent[k] = j
                k = parent[k]
        r_ptr[j + 1] = size
    return r_ptr, cols[:size].copy()


@kernel
def count_products(
    row_ptr: IntArray, row_coeff: Int32Array, columns: tuple[IntArray, IntArray, IntArray], first: IntArray
) -> tuple[IntArray, IntArray]:
    """Return, per column, how many entries of X'X on and below the diagonal, and how many products, it has."""
    c_ptr, c_obs, _ = columns
    n = c_ptr.size - 1
    n_gram, n_product = np.zeros(n, np.int64), np.zeros(n, np.int64)
    seen = np.full(n, -1)
    for j in range(n):
        n_gram[j] = 1
        seen[j] = j
        for c in range(c_ptr[j], c_ptr[j + 1]):
            for e in range(row_ptr[c_obs[c]], row_ptr[c_obs[c] + 1]):
                i = first[j] + row_coeff[e]
                if i >= j:
                    n_product[j] += 1
                    if seen[i] != j:
                        seen[i] = j
                        n_gram[j] += 1
    return n_gram, n_product


@kernel
def fill_products(
    row_ptr: IntArray,
    row_coeff: Int32Array,
    columns: tuple[IntArray, IntArray, IntArray],
    factor: tuple[IntArray, Int32Array, IntArray],
    starts: tuple[IntArray, IntArray, IntArray],
) -> tuple[Int32Array, IntArray, tuple[Int32Array, Int32Array, Int32Array]]:
    """Return the place in L's column and the product pointers of each entry of X'X, and the products.

    `factor` is (l_ptr, l_row, first place of the group of each place); `starts` is (g_ptr, first product of each
    column, first observation of the group of each place).
    """
    c_ptr, c_obs, c_entry = columns
    l_ptr, l_row, first = factor
    g_ptr, q_ptr, first_obs = starts
    n = c_ptr.size - 1
    g_row, p_ptr = np.empty(g_ptr[n], np.int32), np.empty(g_ptr[n] + 1, np.int64)
    p_obs, p_a, p_b = np.empty(q_ptr[n], np.int32), np.empty(q_ptr[n], np.int32), np.empty(q_ptr[n], np.int32)
    count = np.zeros(n, np.int64)
    p_ptr[0] = 0
    for j in range(n):
        for c in range(c_ptr[j], c_ptr[j + 1]):
            for e in range(row_ptr[c_obs[c]], row_ptr[c_obs[c] + 1]):
                count[first[j] + row_coeff[e]] += 1
        g, filled = g_ptr[j], q_ptr[j]
        for p in range(l_ptr[j], l_ptr[j + 1]):
            i = first[j] + l_row[p]
            if count[i] > 0 or i == j:
                g_row[g] = p - l_ptr[j]
                filled += count[i]
                count[i] = filled - count[i]
                g += 1
                p_ptr[g] = filled
        entry_base = row_ptr[first_obs[j]]
        for c in range(c_ptr[j], c_ptr[j + 1]):
            for e in range(row_ptr[c_obs[c]], row_ptr[c_obs[c] + 1]):
                i = first[j] + row_coeff[e]
                if i >= j:
                    p_obs[count[i]] = c_obs[c] - first_obs[j]
                    p_a[count[i]] = c_entry[c] - entry_base
                    p_b[count[i]] = e - entry_base
                    count[i] += 1
        for c in range(c_ptr[j], c_ptr[j + 1]):
            for e in range(row_ptr[c_obs[c]], row_ptr[c_obs[c] + 1]):
                count[first[j] + row_coeff[e]] = 0
        count[j] = 0
    return g_row, p_ptr, (p_obs, p_a, p_b)
