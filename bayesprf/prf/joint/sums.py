"""The light of each star's PRF, summed over all pixels at the star's own place in its pixel."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.prf.joint.areas import taper, wing_gradient
from bayesprf.prf.joint.problem import LN10, JointProblem, JointState, frames, prf_of, shifts
from bayesprf.scene.prf import N_EDGE_NODE, wing_starts

# Rings double in radius, pixel: the PRF changes by about as much in each.
STAR_RINGS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
"""Radii that bound the rings of a star, pixel; the last has no bound."""
# Accuracy: points of the integral of the light over a ring, along the radius and around.
_N_FINE, _N_ANGLE = 32, 24


@dataclass(frozen=True, slots=True, eq=False)
class StarSums:
    """Light of the PRF of each star over all pixels, and how it follows the global parameters.

    Parameters
    ----------
    total : ndarray of float64, shape (n_source,)
        Sum over pixels.
    gradient : ndarray of float64, shape (n_source, n_global)
        d ln total.
    rings : ndarray of float64, shape (n_source, n_ring)
        Share of it in each ring.
    """

    total: FloatArray
    gradient: FloatArray
    rings: FloatArray


def star_sums(problem: JointProblem, state: JointState) -> StarSums:
    """Sum the PRF over the pixels about each star.

    Notes
    -----
    The integral times the ratio of a tapered sum over the pixels to the tapered integral. Pixels are boxes that tile
    the plane: a true PRF has the same sum wherever a star lies in its pixel, and what the splines miss of that would
    go into the flux.
    """
    rule, n_basis, n_weight = problem.rule, problem.basis.n_basis, problem.n_weight
    lattice, phase = _lattice(problem, state), np.ones(problem.n_source)
    places, place = np.unique(problem.columns, axis=0, return_inverse=True)
    shares = rule.shares(places @ state.weights, state.wing)
    each, tapered = shares.sum(axis=0), rule.taper @ shares
    area, known = each[place], lattice.known
    phase[known] = lattice.total[known] / tapered[place[known]]
    whole, cut = (LN10 * (rule.columns.T @ one).T for one in (shares / each, rule.taper[:, None] * shares / tapered))
    by_weights = whole[place] - known[:, None] * cut[place]
    gradient = np.where(known[:, None], lattice.gradient, 0.0)
    for k in range(problem.n_field):
        gradient[:, k * n_basis : (k + 1) * n_basis] += by_weights * problem.columns[:, k : k + 1]
    beyond = (shares[-N_EDGE_NODE:].sum(axis=0) / each)[place]
    gradient[:, n_weight : n_weight + problem.n_wing] = LN10 * np.outer(beyond, wing_gradient(state.wing))
    rings = np.tile(ring_shares(problem, state, STAR_RINGS), (problem.n_source, 1))
    inner = STAR_RINGS * np.sqrt(problem.pixel_area) <= problem.basis.rmax
    inside = np.ix_(known, np.append(inner, False))
    rings[inside] = (lattice.rings[:, inner] / (area * phase)[:, None])[known]
    return StarSums(area * phase, gradient, rings)


def ring_shares(problem: JointProblem, state: JointState, radii: FloatArray) -> FloatArray:
    """Return the share of the light of a star in the middle of the field in rings (pixel), shape (n_ring + 1,)."""
    prf = prf_of(problem, state).normalized_at(np.zeros(2))
    bounds = np.concatenate([[0.0], radii, [2.0 * radii[-1]]])
    middle = (np.arange(_N_FINE) + 0.5) / _N_FINE
    r = (bounds[:-1, None] + np.diff(bounds)[:, None] * middle).ravel() * np.sqrt(problem.pixel_area)
    phi = 2.0 * np.pi / _N_ANGLE * np.arange(_N_ANGLE)
    values = prf.evaluate((r[:, None] * np.cos(phi)).ravel(), (r[:, None] * np.sin(phi)).ravel())
    width = np.repeat(np.diff(bounds), _N_FINE) / _N_FINE / np.sqrt(problem.pixel_area)
    light = values.reshape(r.size, -1).mean(axis=1) * 2.0 * np.pi * r * width
    return np.asarray(light.reshape(-1, _N_FINE).sum(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """Sums over the pixels about each star.

    Parameters
    ----------
    known : ndarray of bool, shape (n_source,)
        Stars close enough to a pixel for the places of all others to follow.
    total : ndarray of float64, shape (n_source,)
        Tapered sum.
    gradient : ndarray of float64, shape (n_source, n_global)
        d ln of it.
    rings : ndarray of float64, shape (n_source, n_ring)
        Sum in each ring.
    """

    known: BoolArray
    total: FloatArray
    gradient: FloatArray
    rings: FloatArray


def _lattice(problem: JointProblem, state: JointState) -> _Lattice:
    from bayesprf.linalg.compiled.polar import add_columns, evaluate_pairs

    basis, n_source, starts = problem.basis, problem.n_source, wing_starts(problem.n_wing)
    offset, known = _pixels_about(problem, state)
    n_near, source = offset.shape[1], np.repeat(np.arange(n_source), offset.shape[1])
    frame = frames(problem.geometry @ state.shear, np.eye(2))
    place = np.ascontiguousarray(np.einsum("sij,snj->sni", frame, offset).reshape(-1, 2))
    log, gradient, shape = np.empty(source.size), np.empty((source.size, 2)), (basis.n_core, basis.n_phi_knots)
    evaluate_pairs(
        source, place, problem.columns @ state.weights, state.wing, starts, basis.knots, shape, log, gradient
    )
    if problem.base is not None:
        log += problem.base.log10(*place.T)
    light = (10.0**log).reshape(n_source, n_near)
    counted = light * taper(np.hypot(*place.T) / basis.rmax).reshape(light.shape)
    total, rows = counted.sum(axis=1), np.zeros((n_source, problem.n_global))
    relative = LN10 * (counted / total[:, None]).ravel()
    indptr = n_near * np.arange(n_source + 1)
    add_columns(
        indptr, np.arange(source.size), source, place, relative, problem.columns, starts, basis.knots, shape, rows
    )
    ring = np.searchsorted(STAR_RINGS, np.hypot(offset[..., 0], offset[..., 1]) / np.sqrt(problem.pixel_area))
    rings = np.stack([np.where(ring == k, light, 0.0).sum(axis=1) for k in range(STAR_RINGS.size)], axis=1)
    return _Lattice(known, total, rows, rings)


def _pixels_about(problem: JointProblem, state: JointState) -> tuple[FloatArray, BoolArray]:
    """Return where all pixels within rmax of each star would lie, and whether one is.

    Offsets are along the axes of the detector, shape (n_source, n_near, 2), arcsec.
    """
    pairs = problem.pairs
    grid = np.stack([problem.phases.dx.mean(axis=0), problem.phases.dy.mean(axis=0)], axis=1)
    found, first = _nearest_pairs(problem)
    nearest = np.zeros((problem.n_source, 2))
    nearest[found] = np.stack([pairs.dx, pairs.dy], axis=1)[first] - shifts(problem, state)[found]
    nearest = np.einsum("sij,sj->si", problem.rotation, nearest)
    known = np.zeros(problem.n_source, bool)
    known[found] = np.hypot(*nearest[found].T) < problem.basis.rmax
    steps = grid[cKDTree(grid).query(nearest)[1]]
    return np.where(known[:, None], nearest - steps, 0.0)[:, None, :] + grid, known


def _nearest_pairs(problem: JointProblem) -> tuple[IntArray, IntArray]:
    """Return the stars that have pairs, and the nearest pixel's pair of each: any close one gives the same lattice."""
    pairs, side = problem.pairs, float(np.sqrt(problem.pixel_area))
    close = pairs.r < side
    without = np.ones(problem.n_source, bool)
    without[pairs.source[close]] = False
    chosen = np.flatnonzero(close | without[pairs.source])
    order = chosen[np.lexsort((pairs.r[chosen], pairs.source[chosen]))]
    found, first = np.unique(pairs.source[order], return_index=True)
    return found, order[first]
