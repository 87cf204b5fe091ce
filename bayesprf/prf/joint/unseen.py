"""Slopes of the wing, and light that it has where no pixel tells: what is believed of it, by how much it may err."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import orth
from scipy.sparse import csr_matrix
from scipy.special import expit, ndtr, ndtri

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.prf.joint.hyper import JointHyper, fit_slope_widths, slope_rows
from bayesprf.prf.joint.problem import (
    ANY_LIGHT,
    JointProblem,
    JointState,
    View,
    global_columns,
    prf_of,
    star_columns,
)
from bayesprf.prf.joint.step import Posterior
from bayesprf.prf.joint.trust import MAX_POWER
from bayesprf.scene.prf import LN10, wing_columns, wing_starts

# Cells of a star's surroundings, each of several pixels: from 2 pixels on rings of one pixel, farther out growing by
# the square root of two, in 6 sectors.
_RINGS = np.concatenate([np.arange(2.0, 8.0), 8.0 * np.sqrt(2.0) ** np.arange(20)])
# Accuracy: sectors of a ring in which the light that tells of a slope is counted.
_N_SECTOR = 6
# Derived: the variance of Student's t is finite beyond so many degrees of freedom.
_LEAST_TOLD = 2.0
# Definition: what is believed, before a pixel tells, of light beyond the missions' tables: it goes on, or is none.
_GOES_ON = 0.5
# Derived: what is expected of slopes lies between two laws, which count as so many examples.
_N_LAWS = 2
# Accuracy: powers of the wing that stand for their distribution.
_N_POWER = 100


def slope_widths(
    problem: JointProblem, state: JointState, hyper: JointHyper, global_factor: FloatArray
) -> tuple[float, float]:
    """Learn how much the wing's slope changes from ring to ring, and how far slopes are from the expected one.

    A change inside rmax, from the splines, counts as well; what is expected of the slopes counts as its two examples.
    """
    middle = prf_of(problem, state).at(np.zeros(2))
    phi = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    radii = problem.basis.rmax * np.array([0.5, np.sqrt(0.5), 1.0 - 1e-9])
    dx, dy = radii[:, None] * np.cos(phi), radii[:, None] * np.sin(phi)
    ring = 2.0 * np.log2(middle.evaluate(dx.ravel(), dy.ravel()).reshape(3, -1).mean(axis=1))
    powers = np.tri(problem.n_wing)
    away = powers @ state.wing - problem.prior.slope
    spread = powers @ global_factor[problem.n_weight : problem.n_weight + problem.n_wing]
    square, expected = np.outer(away, away) + spread @ spread.T, np.full(_N_LAWS, problem.prior.slope_sigma)
    slope, wing = fit_slope_widths(square, float(np.diff(ring, n=2)[0]), expected, (hyper.slope, hyper.wing))
    return wing, slope


@dataclass(frozen=True, slots=True, eq=False)
class UnseenLight:
    """Light where no pixel tells of it, in units of a star's light.

    Parameters
    ----------
    absent : float
        What the PRF's columns hold there and is not expected.
    gradient : ndarray of float64, shape (n_global,)
        Derivative by the global parameters of light whose error is all in `std`.
    std : float
        Standard deviation.
    """

    absent: float
    gradient: FloatArray
    std: float


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Surroundings of a star: radius and angle, arcsec and radian, share of its light, squares of a standard deviation.

    All of shape (n_ring, n_sector).
    """

    radius: FloatArray
    angle: FloatArray
    share: FloatArray
    signal: FloatArray

    @property
    def silent(self) -> BoolArray:
        """Cells in which the pixels tell less than the widest belief."""
        return self.signal < ANY_LIGHT


def unseen_light(
    problem: JointProblem,
    state: JointState,
    view: View,
    hyper: JointHyper,
    posterior: Posterior,
    *,
    weight: FloatArray,
    decided: bool = False,
) -> UnseenLight:
    """Return what is believed of light where no pixel tells it from none.

    Parameters
    ----------
    problem, state, view, hyper, posterior
        Of the fit.
    weight : ndarray of float64, shape (n_pixel,)
        Weights of the pixels.
    decided : bool
        What all stars share was fitted to other pixels, of which an image this large has enough to tell.

    Notes
    -----
    The missions' own tables end at `JointPrior.table_half` pixels, and by their convention the light of a star does; an
    optical wing goes on by its power law. Where no pixel beyond any part of a table tells, the light of silent cells
    beyond its half width is there or not, with equal belief: with its moments m and n (`_moments`) if it is there,
    m / 2 is expected, with the variance n / 2 - m**2 / 4, in which the parameters' own errors of it are.

    Elsewhere the wing goes on as it fell farther in, and its slope wanders on as it did from ring to ring
    (`extrapolated_variance`). Whatever was learned, there may be no light, or twice as much, or any between: as a
    uniform number this has the variance 1 / 3 of the light squared, and more is never claimed. Pixels in which all
    stars together are worth x squares of a standard deviation take their part: 1 / (1 / v + x). Cells about the star
    in which the pixels tell less than the widest belief, x < 3, err together. Where pixels tell how the slope wanders,
    what its posterior has of this error counts as `shape`; where they do not, that is the belief in a slope alone, and
    whether there is light at all is another: where pixels beyond any part of a table tell, as much is expected as it is
    likely beside none (`_loss_if_it_ends`), with the variance of its product with a Bernoulli number.
    """
    cells = _cells_about(problem, state, view, weight)
    half = problem.prior.table_half * np.sqrt(problem.pixel_area)
    corner = np.sqrt(2.0) * problem.prior.table_half
    told_beyond = np.any(_signal(problem, state, view, weight, beyond=corner) >= ANY_LIGHT)
    doubtful = cells.silent & (cells.radius > half) & (not told_beyond)
    std = _wandering_std(problem, hyper, posterior, cells, cells.silent & ~doubtful)
    if told_beyond and not decided:
        goes_on, loss = _loss_if_it_ends(problem, state, view, posterior, cells, weight=weight)
        variance = goes_on * std**2 + goes_on * (1.0 - goes_on) * loss**2
        return UnseenLight((1.0 - goes_on) * loss, np.zeros(problem.n_global), float(np.sqrt(variance)))
    mean, square = _moments(problem, state, posterior, cells, doubtful)
    variance = std**2 + _GOES_ON * square - (_GOES_ON * mean) ** 2
    absent = float(np.sum(cells.share[doubtful])) - _GOES_ON * mean
    return UnseenLight(absent, _gradient(problem, cells, doubtful), float(np.sqrt(variance)))


def _loss_if_it_ends(
    problem: JointProblem, state: JointState, view: View, posterior: Posterior, cells: _Cells, *, weight: FloatArray
) -> tuple[float, float]:
    """Return the probability that light goes on beyond the tables, and the share of all fluxes that is lost if not.

    Notes
    -----
    The light t beyond their corners has an amplitude, 1 as it was fitted and 0 if there is none, with the shape of the
    PRF held there and all else free. Of information I = t'W (1 - H) t and score g = t'W r of the residuals, the
    log likelihood of light is larger than that of none by I / 2 + g.
    """
    corner = np.sqrt(2.0 * problem.pixel_area) * problem.prior.table_half
    pairs, basis = problem.pairs, problem.basis
    far = np.hypot(*view.place.T) > corner
    light = np.where(far, state.flux[pairs.source] * view.values, 0.0)
    beyond = view.far[:, 0] + np.bincount(pairs.pixel, weights=light, minlength=pairs.n_pixel)
    pulled = weight * beyond
    by_star = star_columns(problem, state, view).T @ pulled
    by_field = global_columns(problem, state, view).T @ pulled - posterior.response.T @ by_star
    outer = np.append(np.tile(basis.centers > corner, problem.n_field), np.ones(problem.n_wing, bool))
    shape = orth(posterior.global_factor[: outer.size][outer].T)
    free = posterior.global_factor - (posterior.global_factor @ shape) @ shape.T
    follows, half = free.T @ by_field, posterior.own_factor.halve(by_star[:, None])
    told = float(beyond @ pulled - np.sum(half**2) - follows @ follows)
    score = float(pulled @ np.where(weight > 0, problem.flux - view.image, 0.0))
    stars = posterior.own_factor.finish(half)[:, 0] - posterior.response @ (free @ follows)
    gained = float(np.sum(stars[:: problem.n_own]) / np.sum(state.flux))
    loss = float(np.sum(cells.share[cells.radius > corner])) - gained
    return float(expit(0.5 * told + score)), max(loss, 0.0)


def _cells_about(problem: JointProblem, state: JointState, view: View, weight: FloatArray) -> _Cells:
    """Return the surroundings of a star in the middle of the field, and what all stars tell of them."""
    prf = replace(prf_of(problem, state).normalized_at(np.zeros(2)), shear=(0.0, 0.0))
    side, shape = float(np.sqrt(problem.pixel_area)), (_RINGS.size - 1, _N_SECTOR)
    middle = side * np.repeat(0.5 * (_RINGS[1:] + _RINGS[:-1]), _N_SECTOR)
    around = np.tile((np.arange(_N_SECTOR) + 0.5) / _N_SECTOR * 2.0 * np.pi - np.pi, shape[0])
    share = prf.evaluate(middle * np.cos(around), middle * np.sin(around))
    share *= np.repeat(np.pi * np.diff(_RINGS**2) / _N_SECTOR, _N_SECTOR)
    signal = _signal(problem, state, view, weight)
    return _Cells(middle.reshape(shape), around.reshape(shape), share.reshape(shape), signal)


def _signal(
    problem: JointProblem, state: JointState, view: View, weight: FloatArray, *, beyond: float = 0.0
) -> FloatArray:
    """Return what pixels farther from their stars than `beyond` pixels tell of each cell, shape (n_ring, n_sector)."""
    side, shape = float(np.sqrt(problem.pixel_area)), (_RINGS.size - 1, _N_SECTOR)
    radius, angle = np.hypot(*view.place.T) / side, np.arctan2(view.place[:, 1], view.place[:, 0])
    ring = np.minimum(np.searchsorted(_RINGS, radius, side="right") - 1, shape[0] - 1)
    sector = np.floor((angle / (2.0 * np.pi) + 0.5) * _N_SECTOR).astype(np.int64) % _N_SECTOR
    light = state.flux[problem.pairs.source] * view.values
    worth = np.where((ring >= 0) & (radius > beyond), light**2 * weight[problem.pairs.pixel], 0.0)
    signal = np.bincount(np.maximum(ring, 0) * _N_SECTOR + sector, weights=worth, minlength=shape[0] * _N_SECTOR)
    return signal.reshape(shape)


def _gradient(problem: JointProblem, cells: _Cells, chosen: BoolArray) -> FloatArray:
    """Return the derivative of the light in some cells by the global parameters, shape (n_global,)."""
    found, n_weight = np.zeros(problem.n_global), problem.n_weight
    share = LN10 * cells.share[chosen]
    found[: problem.basis.n_basis] = _columns(problem, cells, chosen).T @ share
    wing = wing_columns(cells.radius[chosen] / problem.basis.rmax, problem.n_wing - 1)
    found[n_weight : n_weight + problem.n_wing] = share @ wing
    return found


def _columns(problem: JointProblem, cells: _Cells, chosen: BoolArray) -> csr_matrix:
    """Return the columns of log10 PRF in some cells, shape (n_cell, n_basis)."""
    return problem.basis.matrix(np.minimum(cells.radius[chosen], problem.basis.rmax), cells.angle[chosen])


def _moments(
    problem: JointProblem, state: JointState, posterior: Posterior, cells: _Cells, chosen: BoolArray
) -> tuple[float, float]:
    """Return mean and mean square of the light in some cells, if it goes on.

    Notes
    -----
    Of each cell it is log-normal by the posterior of the splines, with the means exp(V_i / 2) and, of products,
    exp((V_i + V_j) / 2 + V_ij) times what the fit has, and follows the power of the wing, a normal number that ends at
    `MAX_POWER`; with its bends, too, the wing falls no slower from rmax on.
    """
    level = LN10 * (_columns(problem, cells, chosen) @ posterior.global_factor[: problem.basis.n_basis])
    covariance = level @ level.T
    power, sigma = float(state.wing[0]), float(np.linalg.norm(posterior.global_factor[problem.n_weight]))
    quantile = (np.arange(_N_POWER) + 0.5) / _N_POWER
    change = sigma * ndtri(quantile * ndtr((MAX_POWER - power) / sigma))
    stretch = np.log10(np.maximum(cells.radius[chosen] / problem.basis.rmax, 1.0))
    bent = wing_columns(10.0**stretch, problem.n_wing - 1) @ state.wing
    rise = np.minimum(np.outer(change, stretch), MAX_POWER * stretch - bent)
    # Of a wing that ends, and may yet not, neither factor is a number: their product is.
    share = cells.share[chosen]
    log_light = np.log10(share, out=np.full(share.size, -np.inf), where=share > 0.0) + rise
    light = np.exp(0.5 * np.diag(covariance)) * 10.0**log_light
    return float(light.sum(axis=1).mean()), float(np.sum((light.T @ light) * np.exp(covariance)) / _N_POWER)


def _wandering_std(
    problem: JointProblem, hyper: JointHyper, posterior: Posterior, cells: _Cells, chosen: BoolArray
) -> float:
    """Return the standard deviation of the light in silent cells into which a wing's slope wanders on."""
    n_told = _told_changes(problem, hyper, posterior)
    middle = cells.radius[:, 0] / np.sqrt(problem.pixel_area)
    variance = extrapolated_variance(~cells.silent, middle, _wander(hyper, n_told))[chosen]
    share = cells.share[chosen]
    believed = float(np.sum(share * np.sqrt(variance / (1.0 + variance * cells.signal[chosen]))))
    if n_told <= _LEAST_TOLD:
        return believed
    slopes = wing_columns(cells.radius[chosen] / problem.basis.rmax, problem.n_wing - 1)
    wing = posterior.global_factor[problem.n_weight : problem.n_weight + problem.n_wing]
    carried = float(np.linalg.norm(LN10 * (share @ slopes) @ wing))
    return float(np.sqrt(max(believed**2 - carried**2, 0.0)))


def extrapolated_variance(told: BoolArray, radius: FloatArray, wander: float) -> FloatArray:
    """Return the relative variance of the light in each cell about a star, from the nearest cell in which it is told.

    Parameters
    ----------
    told : ndarray of bool, shape (n_ring, n_sector)
        Cells in which pixels tell.
    radius : ndarray of float64, shape (n_ring,)
        Their radii.
    wander : float
        Variance of a change of the wing's slope by which the radius grows e-fold.

    Returns
    -------
    ndarray of float64, shape (n_ring, n_sector)
        wander L**3 / 3, for a slope that is a Wiener process in ln r, at the distance L in ln r; 1 / 3 at most.
    """
    log = np.log(radius)
    distance = np.abs(log[:, None, None] - np.where(told, log[:, None], np.inf)).min(axis=1)
    return np.asarray(np.minimum(wander * distance**3 / 3.0, 1.0 / ANY_LIGHT))


def _told_changes(problem: JointProblem, hyper: JointHyper, posterior: Posterior) -> float:
    """Return how many changes of the wing's slope the pixels decide; the one inside the splines always is."""
    rows = slope_rows(problem.n_wing, hyper.slope, hyper.wing) @ np.tri(problem.n_wing)
    before = np.sum(np.linalg.solve(rows, np.eye(problem.n_wing)) ** 2, axis=1)
    wing = slice(problem.n_weight, problem.n_weight + problem.n_wing)
    after = np.sum(posterior.global_factor[wing] ** 2, axis=1)
    return 1.0 + float(np.sum(1.0 - np.minimum(after / before, 1.0)[1:]))


def _wander(hyper: JointHyper, n_told: float) -> float:
    """Return the variance of one more change of the wing's slope, by which the radius grows e-fold.

    Notes
    -----
    The changes from ring to ring have a learned width; one more of n numbers of unknown variance has n / (n - 2) times
    theirs (Student's t): beyond all bounds where the pixels decide two or fewer.
    """
    step = LN10 * float(wing_starts(2)[1])
    return hyper.wing**2 / step * n_told / max(n_told - _LEAST_TOLD, 1e-9)
