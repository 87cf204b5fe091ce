"""Symbolic analysis of a sparse design: components, elimination order and the pattern of the Cholesky factor.

Everything here depends on the pattern of X alone, costs about one pass over it, and serves every batch row.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from bayesprf.arrays import Int32Array, IntArray, pointers, row_entries
from bayesprf.linalg.compiled import symbolic as compiled
from bayesprf.linalg.stack import DesignStack

GROUP_OBS = 1024
"""Cost: observations at which a group of components is full: with 16 lanes their data fill 256 kB of cache."""


class SymbolicFactor(NamedTuple):
    """How Lambda = X' C^-1 X + P is laid out and factorised, the same for all batch rows.

    Coefficients that share no observation, directly or through others, are in different components. Coefficients are
    reordered so that those of one component lie together; inside it they follow the order of elimination. Small
    components are treated in groups; observations are sorted by group and keep their order in memory. "Local"
    indices count from the start of the group. The last component has no coefficients: it owns the observations that
    no coefficient touches.

    Parameters
    ----------
    order : ndarray of int64, shape (n_coeff,)
        Original index of the coefficient at each place.
    comp_coeff : ndarray of int64, shape (n_comp + 1,)
        First place of each component.
    group_coeff, group_obs : ndarray of int64, shape (n_group + 1,)
        First place and first grouped observation of each group.
    obs : ndarray of int64, shape (n_obs,)
        Original index of each grouped observation.
    run : ndarray of int64, shape (n_obs,)
        How many grouped observations from each one on are neighbours in memory.
    row_ptr : ndarray of int64, shape (n_obs + 1,)
        Entries of each grouped observation.
    entry : ndarray of int64, shape (nnz,)
        Original index of each entry in the design.
    row_coeff : ndarray of int32, shape (nnz,)
        Local coefficient of each entry, in grouped order.
    l_ptr : ndarray of int64, shape (n_coeff + 1,)
        Columns of L.
    l_row : ndarray of int32, shape (nnz_l,)
        Local row of each entry of L, ascending, the diagonal first.
    r_ptr : ndarray of int64, shape (n_coeff + 1,)
        Rows of L without the diagonal.
    r_col, r_pos : ndarray of int32, shape (nnz_l - n_coeff,)
        Local column, and local place in L's columns, of each entry of a row.
    g_ptr : ndarray of int64, shape (n_coeff + 1,)
        Entries of X'X in each column, on and below the diagonal.
    g_row : ndarray of int32, shape (nnz_g,)
        Place of each such entry within its column of L.
    p_ptr : ndarray of int64, shape (nnz_g + 1,)
        Products of each entry of X'X.
    p_obs, p_a, p_b : ndarray of int32, shape (n_product,)
        Local observation, and the two local entries multiplied; `p_a` belongs to the column.
    """

    order: IntArray
    comp_coeff: IntArray
    group_coeff: IntArray
    group_obs: IntArray
    obs: IntArray
    run: IntArray
    row_ptr: IntArray
    entry: IntArray
    row_coeff: Int32Array
    l_ptr: IntArray
    l_row: Int32Array
    r_ptr: IntArray
    r_col: Int32Array
    r_pos: Int32Array
    g_ptr: IntArray
    g_row: Int32Array
    p_ptr: IntArray
    p_obs: Int32Array
    p_a: Int32Array
    p_b: Int32Array

    @property
    def n_comp(self) -> int:
        """Number of components, with the last that has no coefficients."""
        return int(self.comp_coeff.size - 1)

    @property
    def place(self) -> IntArray:
        """Place of each original coefficient, the inverse of `order`."""
        return _inverse(self.order)


def analyse(design: DesignStack) -> SymbolicFactor:
    """Return the symbolic factorisation of a design's normal equations.

    Parameters
    ----------
    design : DesignStack
        Only its pattern is read.

    Returns
    -------
    SymbolicFactor
    """
    indptr, indices = design.indptr, design.indices
    adj_ptr, adj = _adjacency(indptr, indices, design.n_coeff)
    comp_of_coeff, comp_of_obs, n_comp = _components(indptr, indices, _graph(adj_ptr, adj))
    comp_coeff, comp_obs = _starts(comp_of_coeff, n_comp), _starts(comp_of_obs, n_comp)
    group_of_comp = np.unique(comp_obs[:-1] // GROUP_OBS, return_inverse=True)[1]
    group_coeff, group_obs = _group(group_of_comp, comp_coeff), _group(group_of_comp, comp_obs)
    rank = _elimination_rank(_graph(adj_ptr, adj), np.diff(comp_coeff)[comp_of_coeff])
    order = np.lexsort((rank, comp_of_coeff))
    place = _inverse(order)
    first = np.repeat(group_coeff[:-1], np.diff(group_coeff))
    obs = np.argsort(group_of_comp[comp_of_obs], kind="stable")
    rows = _group_rows(indptr, indices, obs, place - first[place])
    r_ptr, cols = _sorted_rows(*compiled.row_pattern(adj_ptr, adj, order, place))
    l_ptr, l_row, r_pos = _column_pattern(r_ptr, cols, first)
    r_col = (cols - np.repeat(first, np.diff(r_ptr))).astype(np.int32)
    columns = _by_columns(rows[0], place[indices[rows[1]]], place.size)
    n_gram, n_product = compiled.count_products(rows[0], rows[2], columns, first)
    g_ptr, q_ptr = pointers(n_gram), pointers(n_product)
    first_obs = np.repeat(group_obs[:-1], np.diff(group_coeff))
    g_row, p_ptr, products = compiled.fill_products(
        rows[0], rows[2], columns, (l_ptr, l_row, first), (g_ptr, q_ptr, first_obs)
    )
    layout = (order, comp_coeff, group_coeff, group_obs, obs, _runs(obs), *rows)
    return SymbolicFactor(*layout, l_ptr, l_row, r_ptr, r_col, r_pos, g_ptr, g_row, p_ptr, *products)


def _adjacency(indptr: IntArray, indices: IntArray, n_coeff: int) -> tuple[IntArray, IntArray]:
    """Return, for each coefficient, the others that share an observation with it, as pointers and sorted lists."""
    shape = (indptr.size - 1, n_coeff)
    pattern = csr_array((np.ones(indices.size, bool), indices, indptr), shape=shape)
    shared = csr_array(pattern.T @ pattern)
    shared.sort_indices()
    row = np.repeat(np.arange(n_coeff), np.diff(shared.indptr))
    other = shared.indices != row
    return _starts(row[other], n_coeff), shared.indices[other].astype(np.int64)


def _graph(adj_ptr: IntArray, adj: IntArray) -> csr_array:
    """Return the adjacency as a matrix of ones."""
    return csr_array((np.ones(adj.size), adj, adj_ptr), shape=(adj_ptr.size - 1,) * 2)


def _components(indptr: IntArray, indices: IntArray, graph: csr_array) -> tuple[IntArray, IntArray, int]:
    """Return the component of each coefficient and observation, and their number.

    Components are numbered by their first observation, then those without one; the last holds the observations
    that no coefficient touches.
    """
    n_comp, label = connected_components(graph, directed=False)
    lit = np.diff(indptr) > 0
    met = np.concatenate([label[indices[indptr[:-1][lit]]], label])
    first_met = np.empty(n_comp, np.int64)
    first_met[met[::-1]] = np.arange(met.size)[::-1]
    number = _inverse(np.argsort(first_met))[met]
    comp_of_obs = np.full(lit.size, n_comp)
    comp_of_obs[lit] = number[: met.size - label.size]
    return number[met.size - label.size :], comp_of_obs, n_comp + 1


def _group_rows(
    indptr: IntArray, indices: IntArray, obs: IntArray, local: IntArray
) -> tuple[IntArray, IntArray, Int32Array]:
    """Return row pointers, original entry and local coefficient of every entry, rows in the order `obs`."""
    row_ptr, entry = row_entries(indptr, obs)
    return row_ptr, entry, local[indices[entry]].astype(np.int32)


def _sorted_rows(ptr: IntArray, cols: IntArray) -> tuple[IntArray, IntArray]:
    """Return the rows of a sparse pattern with their columns in ascending order."""
    rows = csr_array((np.zeros(cols.size), cols, ptr), shape=(ptr.size - 1,) * 2)
    rows.sort_indices()
    return ptr, rows.indices.astype(np.int64)


def _by_columns(ptr: IntArray, cols: IntArray, n_column: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return column pointers, and the row and entry of each column entry, of a pattern given by rows."""
    entries = csr_array((np.arange(cols.size), cols, ptr), shape=(ptr.size - 1, n_column)).tocsc()
    return entries.indptr.astype(np.int64), entries.indices.astype(np.int64), entries.data


def _column_pattern(r_ptr: IntArray, cols: IntArray, first: IntArray) -> tuple[IntArray, Int32Array, Int32Array]:
    """Return L by columns (pointers, local rows) and the local place of each row entry in them.

    `first` is the first place of the group of each place.
    """
    n = first.size
    c_ptr, row, entry = _by_columns(r_ptr, cols, n)
    l_ptr = c_ptr + np.arange(n + 1)
    position = np.arange(row.size) + np.repeat(np.arange(1, n + 1), np.diff(c_ptr))
    l_row, r_pos = np.empty(row.size + n, np.int32), np.empty(row.size, np.int32)
    l_row[l_ptr[:-1]], l_row[position] = np.arange(n) - first, row - first[row]
    r_pos[entry] = position - l_ptr[first[row]]
    return l_ptr, l_row, r_pos


def _runs(obs: IntArray) -> IntArray:
    """Return how many observations from each one on have consecutive indices."""
    ends = np.concatenate([np.flatnonzero(np.diff(obs) != 1) + 1, [obs.size]])
    return np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(obs.size)


def _group(group_of_comp: IntArray, starts: IntArray) -> IntArray:
    """Return the starts of groups from those of the components in them."""
    return starts[np.concatenate([[0], np.flatnonzero(np.diff(group_of_comp)) + 1, [group_of_comp.size]])]


def _starts(labels: IntArray, n_label: int) -> IntArray:
    """Return where each label starts once the labels are sorted, shape (n_label + 1,)."""
    return pointers(np.bincount(labels, minlength=n_label))


def _inverse(order: IntArray) -> IntArray:
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return place


def _elimination_rank(graph: csr_array, comp_size: IntArray) -> IntArray:
    """Return a fill-reducing rank of each coefficient: minimum degree in components of more than two.

    SuperLU orders as it factorises; given a strictly dominant matrix of the same pattern it never pivots.
    """
    rank = np.arange(comp_size.size)
    large = np.flatnonzero(comp_size > 2)
    if large.size:
        degree = np.diff(graph.indptr)
        inside = csc_array(-graph)[:, large][large]
        matrix = (inside + diags_array(degree[large] + 1.0)).tocsc()
        options = {"SymmetricMode": True}
        ordered = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        rank[large] = ordered.perm_c
    return rank
