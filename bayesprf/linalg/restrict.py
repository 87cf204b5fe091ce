"""A smaller problem with the same posterior: some coefficients, all that share data with them, some batch rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import BoolArray, IntArray
from bayesprf.errors import InputError, UnsupportedError
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack


@dataclass(frozen=True, slots=True, eq=False)
class Restriction:
    """A part of a LinearProblem whose posterior does not depend on the rest.

    Parameters
    ----------
    problem : LinearProblem
        The part.
    coefficients : ndarray of int64, shape (n_coeff,)
        Its coefficients in the whole problem, ascending.
    observations : ndarray of int64, shape (n_obs,)
        Its observations in the whole problem, ascending.
    batches : ndarray of int64, shape (n_batch,)
        Its batch rows in the whole problem, in the order asked for.
    """

    problem: LinearProblem
    coefficients: IntArray
    observations: IntArray
    batches: IntArray


def restrict(
    problem: LinearProblem,
    coefficients: Sequence[int] | IntArray | None = None,
    batches: Sequence[int] | IntArray | None = None,
) -> Restriction:
    """Cut a problem down to some coefficients, widened to all that share data with them, and some batch rows.

    Parameters
    ----------
    problem : LinearProblem
        The whole; its design must be a DesignStack.
    coefficients : sequence of int, optional
        Coefficients of interest; all by default. They are widened to every coefficient that shares an observation
        with them, directly or through others, so that the posterior stays exact.
    batches : sequence of int, optional
        Batch rows; all by default.

    Returns
    -------
    Restriction

    Raises
    ------
    InputError
        If an index is out of range, or nothing is selected.
    UnsupportedError
        If the design is not a DesignStack.
    """
    design = problem.design
    if not isinstance(design, DesignStack):
        raise UnsupportedError(f"problem: expected a DesignStack as design, got {type(design).__name__}")
    rows = _indices(batches, problem.n_batch, "batches")
    wanted = _indices(coefficients, design.n_coeff, "coefficients")
    if rows.size == 0 or wanted.size == 0:
        empty = "batches" if rows.size == 0 else "coefficients"
        raise InputError(f"{empty}: expected at least one index, got none")
    used = np.any(problem.ivar[rows] > 0, axis=0)
    label = components(design, used)
    members = np.flatnonzero(np.isin(label, label[wanted]))
    observations = np.flatnonzero(used & _touched(design, members))
    return Restriction(_cut(problem, design, (rows, members, observations)), members, observations, rows)


def components(design: DesignStack, used: BoolArray | None = None) -> IntArray:
    """Label the coefficients by the component they belong to.

    Parameters
    ----------
    design : DesignStack
        Its pattern says which coefficients share observations.
    used : ndarray of bool, shape (n_obs,), optional
        Observations that count; all by default.

    Returns
    -------
    ndarray of int64, shape (n_coeff,)
        Equal numbers for coefficients that share data, directly or through others.
    """
    row = np.repeat(np.arange(design.n_obs), np.diff(design.indptr))
    counts = np.ones(row.size, bool) if used is None else np.asarray(used, bool)[row]
    shape = (design.n_obs, design.n_coeff)
    pattern = coo_matrix((np.ones(int(counts.sum())), (row[counts], design.indices[counts])), shape=shape).tocsr()
    # Links along each row suffice: entry to next entry.
    start = pattern.indptr[:-1][np.diff(pattern.indptr) > 0]
    follows = np.ones(pattern.nnz, bool)
    follows[start] = False
    second = np.flatnonzero(follows)
    links = csr_matrix(
        (np.ones(second.size), (pattern.indices[second - 1], pattern.indices[second])), shape=(design.n_coeff,) * 2
    )
    return connected_components(links, directed=False)[1].astype(np.int64)


def _touched(design: DesignStack, members: IntArray) -> BoolArray:
    chosen = np.zeros(design.n_coeff, bool)
    chosen[members] = True
    row = np.repeat(np.arange(design.n_obs), np.diff(design.indptr))
    return np.bincount(row[chosen[design.indices]], minlength=design.n_obs) > 0


def _cut(problem: LinearProblem, design: DesignStack, kept: tuple[IntArray, IntArray, IntArray]) -> LinearProblem:
    rows, members, observations = kept
    order = csr_matrix(
        (np.arange(design.indices.size), design.indices, design.indptr), shape=(design.n_obs, design.n_coeff)
    )
    part = order[observations]
    place = np.full(design.n_coeff, -1)
    place[members] = np.arange(members.size)
    small = DesignStack(
        indptr=part.indptr.astype(np.int64),
        indices=place[part.indices].astype(np.int64),
        parts=np.ascontiguousarray(design.parts[:, part.data]),
        n_coeff=members.size,
        mix=None if design.mix is None else design.mix[rows],
    )
    cells = np.ix_(rows, observations)
    prior = GaussianPrior(problem.prior.mean[members], problem.prior.precision[members])
    return LinearProblem(small, problem.data[cells], problem.ivar[cells], prior, problem.known[observations])


def _indices(indices: Sequence[int] | IntArray | None, size: int, name: str) -> IntArray:
    if indices is None:
        return np.arange(size)
    wanted = np.asarray(indices, np.int64).reshape(-1)
    if np.any((wanted < -size) | (wanted >= size)):
        first = wanted[(wanted < -size) | (wanted >= size)][0]
        raise InputError(f"{name}: expected indices from 0 to {size - 1}, got {first}")
    return wanted % size
