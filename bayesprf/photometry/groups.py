"""The part of a flux problem that a few sources belong to: they, all that overlap with them, and their pixels."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import FloatArray, IntArray, pointers, row_entries
from bayesprf.errors import InputError
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack, stack_of


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
        return stack_of(self.problem)


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
    return np.asarray(connected_components(design.overlaps(), directed=False)[1], np.int64)


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
    design = stack_of(problem)
    label = component_labels(design)
    member = np.isin(label, label[sources])
    lit = np.flatnonzero(np.diff(design.indptr) > 0)
    pixel = lit[member[design.indices[design.indptr[lit]]]]
    group = extract_pixels(problem, pixel, cadences)
    dark = np.setdiff1d(sources, group.source)
    if dark.size:
        raise InputError(f"sources: expected sources with data, got source {dark[0]} without a usable pixel")
    return group


@dataclass(frozen=True, slots=True, eq=False)
class HeldNeighbors:
    """A group with its weak neighbours held at their fitted fluxes.

    Parameters
    ----------
    group : SourceGroup
        The sources that stay free and the pixels they light, less the light of those held.
    free : ndarray of int64
        Indices of the free sources in the group before.
    light : ndarray of float64, shape (n_time, n_pixel)
        Light of those held in the group's pixels, subtracted from the data.
    shrinkage : ndarray of float64, shape (n_asked,)
        By what share of its own the error of each source asked for comes out too small, since those held are taken as
        known: largest over typical cadences.
    """

    group: SourceGroup
    free: IntArray
    light: FloatArray
    shrinkage: FloatArray


def hold_neighbors(group: SourceGroup, asked: IntArray, share: float) -> HeldNeighbors:
    """Hold the sources of a group that share little light with some given ones at their fitted fluxes.

    Parameters
    ----------
    group : SourceGroup
        A whole group.
    asked : ndarray of int64
        The given sources, indices in the group.
    share : float
        Sources n with |L_sn| / sqrt(L_ss L_nn) below this for every given source s are held, L = X' C^-1 X.

    Returns
    -------
    HeldNeighbors

    Notes
    -----
    Given the posterior means of those held, the posterior means of the others are those of the whole group; their
    variances fall short by terms of second order in the shares, which are measured against the closed form.
    """
    from bayesprf.linalg.solvers.solver import choose_solver
    from bayesprf.photometry.overlaps import typical_cadences

    problem, design = group.problem, group.design
    rows = typical_cadences(problem.n_batch)
    matrix = design.matrix(int(rows[len(rows) // 2]))
    overlap = (matrix.T @ matrix.multiply(problem.ivar[rows].mean(axis=0)[:, None])).toarray()
    scale = np.sqrt(np.diag(overlap))
    shared = np.abs(overlap[asked]) / (scale[asked, None] * scale)
    free = np.union1d(np.flatnonzero(shared.max(axis=0) >= share), asked)
    whole = choose_solver(problem).solve(problem)
    held = whole.mean.copy()
    held[:, free] = 0.0
    lit = np.flatnonzero(np.diff(design.matrix(0)[:, free].tocsr().indptr) > 0)
    light = (problem.predict(held) - problem.known)[:, lit]
    part = LinearProblem(
        _columns(design, lit, free),
        problem.data[:, lit] - light,
        np.ascontiguousarray(problem.ivar[:, lit]),
        GaussianPrior(problem.prior.mean[free], problem.prior.precision[free]),
        problem.known[lit],
        _take(problem.noise_ratio, np.ix_(np.arange(problem.n_batch), lit)),
    )
    std = choose_solver(part).solve(part).std[:, np.searchsorted(free, asked)]
    shrinkage = np.max(1.0 - std[rows] / whole.std[np.ix_(rows, asked)], axis=0)
    return HeldNeighbors(
        SourceGroup(part, group.source[free], group.pixel[lit], group.cadence), free, light, np.maximum(shrinkage, 0.0)
    )


def _take(array: FloatArray | None, index: tuple[IntArray, ...]) -> FloatArray | None:
    return None if array is None else np.ascontiguousarray(array[index])


def _columns(design: DesignStack, pixel: IntArray, source: IntArray) -> DesignStack:
    """Return the design of some pixels and some sources."""
    kept = np.isin(np.repeat(np.arange(design.n_obs), np.diff(design.indptr)), pixel)
    kept &= np.isin(design.indices, source)
    row = np.searchsorted(pixel, np.repeat(np.arange(design.n_obs), np.diff(design.indptr))[kept])
    return DesignStack(
        indptr=pointers(np.bincount(row, minlength=pixel.size)),
        indices=np.searchsorted(source, design.indices[kept]),
        parts=np.ascontiguousarray(design.parts[:, kept]),
        n_coeff=source.size,
        mix=design.mix,
    )


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
    design = stack_of(problem)
    ivar = problem.ivar[np.ix_(cadences, pixels)]
    seen = (ivar > 0).any(axis=0)
    if not seen.any():
        raise InputError("sources: expected sources with data, got none with a usable pixel at these cadences")
    pixel, ivar = pixels[seen], np.ascontiguousarray(ivar[:, seen])
    source = np.unique(design.indices[row_entries(design.indptr, pixel)[1]])
    part = LinearProblem(
        _restrict(design, pixel, source, cadences),
        np.ascontiguousarray(problem.data[np.ix_(cadences, pixel)]),
        ivar,
        GaussianPrior(problem.prior.mean[source], problem.prior.precision[source]),
        problem.known[pixel],
        _take(problem.noise_ratio, np.ix_(cadences, pixel)),
    )
    return SourceGroup(part, source, pixel, np.asarray(cadences, np.int64))


def _restrict(design: DesignStack, pixel: IntArray, source: IntArray, cadences: IntArray) -> DesignStack:
    """Return the design of some pixels, all of whose sources are given."""
    indptr, entry = row_entries(design.indptr, pixel)
    return DesignStack(
        indptr=indptr,
        indices=np.searchsorted(source, design.indices[entry]),
        parts=np.ascontiguousarray(design.parts[:, entry]),
        n_coeff=source.size,
        mix=None if design.mix is None else np.ascontiguousarray(design.mix[cadences]),
    )
