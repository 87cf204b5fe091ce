"""The part of a flux problem that a few sources belong to: they, all that overlap with them, and their pixels."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import IntArray
from bayesprf.errors import InputError, UnsupportedError
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack


@dataclass(frozen=True, slots=True, eq=False)
class SourceGroup:
    """A flux problem of some sources, complete in itself: no other source lights its pixels.

    Parameters
    ----------
    problem : LinearProblem
        The problem of the group: its coefficients are `source`, its observations `pixel`, its rows `cadence`.
    source, pixel, cadence : ndarray of int64
        Indices into the whole problem, ascending.
    """

    problem: LinearProblem
    source: IntArray
    pixel: IntArray
    cadence: IntArray

    @property
    def design(self) -> DesignStack:
        """The design of the group, shape (n_pixel, n_source)."""
        design = self.problem.design
        if not isinstance(design, DesignStack):
            raise UnsupportedError(f"problem: expected a DesignStack as design, got {type(design).__name__}")
        return design


def component_labels(design: DesignStack) -> IntArray:
    """Return the number of the group of overlapping sources to which each source belongs.

    Parameters
    ----------
    design : DesignStack
        Shape (n_pixel, n_source).

    Returns
    -------
    ndarray of int64, shape (n_source,)
    """
    pattern = csr_matrix(
        (np.ones(design.indices.size), design.indices, design.indptr), shape=(design.n_obs, design.n_coeff)
    )
    return np.asarray(connected_components(pattern.T @ pattern, directed=False)[1], np.int64)


def extract_group(problem: LinearProblem, sources: IntArray, cadences: IntArray) -> SourceGroup:
    """Take the sources that overlap with some given ones, directly or through others, out of a flux problem.

    Parameters
    ----------
    problem : LinearProblem
        Fluxes of all sources; its design is a DesignStack.
    sources : ndarray of int64
        Sources asked for.
    cadences : ndarray of int64
        Cadences asked for, in the order of the answer.

    Returns
    -------
    SourceGroup
        Pixels without data at all of these cadences are left out, and sources without any such pixel.

    Raises
    ------
    InputError
        If a source asked for has no pixel with data.
    """
    design = problem.design
    if not isinstance(design, DesignStack):
        raise UnsupportedError(f"problem: expected a DesignStack as design, got {type(design).__name__}")
    label = component_labels(design)
    member = np.isin(label, label[sources])
    lit = np.flatnonzero(np.diff(design.indptr) > 0)
    pixel = lit[member[design.indices[design.indptr[lit]]]]
    group = extract_pixels(problem, pixel, cadences)
    dark = np.setdiff1d(sources, group.source)
    if dark.size:
        raise InputError(f"sources: expected sources with data, got source {dark[0]} without a usable pixel")
    return group


def extract_pixels(problem: LinearProblem, pixels: IntArray, cadences: IntArray) -> SourceGroup:
    """Take some pixels, and all sources that light them, out of a flux problem.

    Parameters
    ----------
    problem : LinearProblem
        Fluxes of all sources; its design is a DesignStack.
    pixels : ndarray of int64
        Pixels, ascending.
    cadences : ndarray of int64
        Cadences, in the order of the answer.

    Returns
    -------
    SourceGroup
        The problem of these pixels alone; pixels without data at all of these cadences are left out.

    Raises
    ------
    InputError
        If no pixel has data.
    """
    design = problem.design
    if not isinstance(design, DesignStack):
        raise UnsupportedError(f"problem: expected a DesignStack as design, got {type(design).__name__}")
    ivar = problem.ivar[np.ix_(cadences, pixels)]
    seen = (ivar > 0).any(axis=0)
    if not seen.any():
        raise InputError("sources: expected sources with data, got none with a usable pixel at these cadences")
    pixel, ivar = pixels[seen], np.ascontiguousarray(ivar[:, seen])
    count = np.diff(design.indptr)[pixel]
    source = np.unique(design.indices[np.repeat(design.indptr[pixel], count) + _within(count)])
    part = LinearProblem(
        _restrict(design, pixel, source, cadences),
        np.ascontiguousarray(problem.data[np.ix_(cadences, pixel)]),
        ivar,
        GaussianPrior(problem.prior.mean[source], problem.prior.precision[source]),
        problem.known[pixel],
    )
    return SourceGroup(part, source, pixel, np.asarray(cadences, np.int64))


def _within(count: IntArray) -> IntArray:
    """Return 0 ... count - 1 for each count, one after the other."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _restrict(design: DesignStack, pixel: IntArray, source: IntArray, cadences: IntArray) -> DesignStack:
    """Return the design of some pixels, all of whose sources are given."""
    count = np.diff(design.indptr)[pixel]
    indptr = np.concatenate([[0], np.cumsum(count)])
    entry = np.repeat(design.indptr[pixel], count) + _within(count)
    return DesignStack(
        indptr=indptr,
        indices=np.searchsorted(source, design.indices[entry]),
        parts=np.ascontiguousarray(design.parts[:, entry]),
        n_coeff=source.size,
        mix=None if design.mix is None else np.ascontiguousarray(design.mix[cadences]),
    )
