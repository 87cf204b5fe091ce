"""Compiled passes over the pattern of a sparse design, each linear in what it reads and writes."""

import numpy as np

from bayesprf.arrays import Int32Array, IntArray
from bayesprf.linalg.compiled.jit import kernel


@kernel
def transpose(indptr: IntArray, indices: IntArray, n_coeff: int) -> tuple[IntArray, IntArray]:
    """Return the column pointers and the observation of each entry, column by column."""
    col_ptr = np.zeros(n_coeff + 1, np.int64)
    for e in range(indices.size):
        col_ptr[indices[e] + 1] += 1
    col_ptr = np.cumsum(col_ptr)
    fill = col_ptr.copy()
    col_obs = np.empty(indices.size, np.int64)
    for i in range(indptr.size - 1):
        for e in range(indptr[i], indptr[i + 1]):
            col_obs[fill[indices[e]]] = i
            fill[indices[e]] += 1
    return col_ptr, col_obs


@kernel
def _root(parent: IntArray, node: int) -> int:
    """Return the representative of a node, halving the path to it."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@kernel
def components(indptr: IntArray, indices: IntArray, n_coeff: int) -> tuple[IntArray, IntArray, int]:
    """Return the component of each coefficient and observation, and their number.

    Components are numbered by their first observation, then those without one; the last holds the observations
    that no coefficient touches.
    """
    parent = np.arange(n_coeff)
    n_obs = indptr.size - 1
    for i in range(n_obs):
        for e in range(indptr[i] + 1, indptr[i + 1]):
            a, b = _root(parent, indices[indptr[i]]), _root(parent, indices[e])
            parent[max(a, b)] = min(a, b)
    label = np.full(n_coeff, -1)
    comp_of_obs = np.full(n_obs, -1)
    n_comp = 0
    for i in range(n_obs):
        if indptr[i] < indptr[i + 1]:
            root = _root(parent, indices[indptr[i]])
            if label[root] < 0:
                label[root] = n_comp
                n_comp += 1
            comp_of_obs[i] = label[root]
    for j in range(n_coeff):
        root = _root(parent, j)
        if label[root] < 0:
            label[root] = n_comp
            n_comp += 1
        label[j] = label[root]
    for i in range(n_obs):
        if comp_of_obs[i] < 0:
            comp_of_obs[i] = n_comp
    return label, comp_of_obs, n_comp + 1


@kernel
def adjacency(indptr: IntArray, indices: IntArray, col_ptr: IntArray, col_obs: IntArray) -> tuple[IntArray, IntArray]:
    """Return, for each coefficient, the others that share an observation with it, as pointers and sorted lists."""
    n_coeff = col_ptr.size - 1
    seen = np.full(n_coeff, -1)
    adj_ptr = np.zeros(n_coeff + 1, np.int64)
    adj = np.empty(max(1, 4 * n_coeff), np.int64)
    size = 0
    for j in range(n_coeff):
        seen[j] = j
        start = size
        for c in range(col_ptr[j], col_ptr[j + 1]):
            for e in range(indptr[col_obs[c]], indptr[col_obs[c] + 1]):
                i = indices[e]
                if seen[i] != j:
                    seen[i] = j
                    if size == adj.size:
                        adj = np.concatenate((adj, np.empty_like(adj)))
                    adj[size] = i
                    size += 1
        adj[start:size].sort()
        adj_ptr[j + 1] = size
    return adj_ptr, adj[:size].copy()


@kernel
def group_rows(
    indptr: IntArray, indices: IntArray, obs: IntArray, local: IntArray
) -> tuple[IntArray, IntArray, Int32Array]:
    """Return row pointers, original entry and local coefficient of every entry, rows in the order `obs`."""
    row_ptr = np.zeros(obs.size + 1, np.int64)
    entry = np.empty(indices.size, np.int64)
    row_coeff = np.empty(indices.size, np.int32)
    size = 0
    for k in range(obs.size):
        for e in range(indptr[obs[k]], indptr[obs[k] + 1]):
            entry[size] = e
            row_coeff[size] = local[indices[e]]
            size += 1
        row_ptr[k + 1] = size
    return row_ptr, entry, row_coeff


@kernel
def row_pattern(adj_ptr: IntArray, adj: IntArray, order: IntArray, place: IntArray) -> tuple[IntArray, IntArray]:
    """Return the columns k < j of each row j of L, in global places, as pointers and lists.

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
        start = size
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
        cols[start:size].sort()
        r_ptr[j + 1] = size
    return r_ptr, cols[:size].copy()


@kernel
def column_pattern(r_ptr: IntArray, cols: IntArray, first: IntArray) -> tuple[IntArray, Int32Array, Int32Array]:
    """Return L by columns (pointers, local rows) and the local place of each row entry in them.

    `first` is the first place of the group of each place.
    """
    n = r_ptr.size - 1
    l_ptr = np.zeros(n + 1, np.int64)
    for e in range(cols.size):
        l_ptr[cols[e] + 1] += 1
    for j in range(n):
        l_ptr[j + 1] += l_ptr[j] + 1
    fill = l_ptr[:-1].copy()
    l_row = np.empty(l_ptr[n], np.int32)
    r_pos = np.empty(cols.size, np.int32)
    for j in range(n):
        for e in range(r_ptr[j], r_ptr[j + 1]):
            k = cols[e]
            l_row[fill[k]] = j - first[j]
            r_pos[e] = fill[k] - l_ptr[first[j]]
            fill[k] += 1
        l_row[fill[j]] = j - first[j]
        fill[j] += 1
    return l_ptr, l_row, r_pos


@kernel
def columns_of_rows(
    row_ptr: IntArray, row_coeff: Int32Array, group_obs: IntArray, group_coeff: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Return the column pointers, and the grouped observation and entry of each column entry."""
    c_ptr = np.zeros(group_coeff[-1] + 1, np.int64)
    c_obs, c_entry = np.empty(row_coeff.size, np.int64), np.empty(row_coeff.size, np.int64)
    for group in range(group_obs.size - 1):
        for e in range(row_ptr[group_obs[group]], row_ptr[group_obs[group + 1]]):
            c_ptr[group_coeff[group] + row_coeff[e] + 1] += 1
    c_ptr = np.cumsum(c_ptr)
    fill = c_ptr.copy()
    for group in range(group_obs.size - 1):
        for k in range(group_obs[group], group_obs[group + 1]):
            for e in range(row_ptr[k], row_ptr[k + 1]):
                j = group_coeff[group] + row_coeff[e]
                c_obs[fill[j]] = k
                c_entry[fill[j]] = e
                fill[j] += 1
    return c_ptr, c_obs, c_entry


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


@kernel
def runs(obs: IntArray) -> IntArray:
    """Return how many observations from each one on have consecutive indices."""
    run = np.ones(obs.size, np.int64)
    for k in range(obs.size - 2, -1, -1):
        if obs[k + 1] == obs[k] + 1:
            run[k] = run[k + 1] + 1
    return run
