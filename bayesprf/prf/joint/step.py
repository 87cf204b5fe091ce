"""One Gauss-Newton step of the joint fit: the parameters of the stars are eliminated, those of the field solved."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dtrtri
from scipy.sparse import csr_matrix, diags

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.prf.joint.elimination import RowGatherer, StarFactor
from bayesprf.prf.joint.hyper import JointHyper, slope_rows
from bayesprf.prf.joint.layout import Tiles
from bayesprf.prf.joint.problem import (
    ANY_LIGHT,
    TOGETHER,
    JointPrior,
    JointProblem,
    JointState,
    View,
    field_growth,
    global_columns,
    prf_of,
    star_parts,
)
from bayesprf.prf.joint.trust import MAX_POWER, within_bounds, within_trust
from bayesprf.prf.pixel_phase import SHARE_OF_SCATTER, SUM_SIGMA
from bayesprf.scene.field_prf import COLORS, field_columns

# Rounding: precision with which a step leaves the area of the PRF alone: far above any that pixels reach.
_PIN = 1e10
# Accuracy: a star this close to the wall, relatively, is at it: the wall moves with the width that is learned.
_AT_WALL = 1e-2
FARTHEST = 5.0
"""Definition: no star moves by more than so many widths of the catalogue's positions: beyond is another's light."""
# Format: the centre of the field among its nine nodes.
_MIDDLE = 4
# Places of the field at which flux is conserved: its centre, and half way out.
_PHASE_PLACES = np.array([[0.0, 0.0], [0.7, 0.0], [-0.7, 0.0], [0.0, 0.7], [0.0, -0.7]])


class _Collector(Protocol):
    """Takes rows that should equal misfits, with inverse variances."""

    def add(self, start: int, rows: FloatArray, misfit: FloatArray, ivar: FloatArray | float) -> None:
        """Take dense rows of the parameters from `start` on."""

    def add_square(self, start: int, square: FloatArray, misfit: FloatArray, ivar: float) -> None:
        """Take rows R given as R'R, for misfits R m of a vector m."""

    def add_each(self, start: int, misfit: FloatArray, ivar: FloatArray | float) -> None:
        """Take one row per parameter."""


class _Height:
    """Collects the sum of squares alone."""

    def __init__(self) -> None:
        self.twice = 0.0

    def add(self, start: int, rows: FloatArray, misfit: FloatArray, ivar: FloatArray | float) -> None:
        """Add dense rows."""
        self.add_each(start, misfit, ivar)

    def add_square(self, start: int, square: FloatArray, misfit: FloatArray, ivar: float) -> None:
        """Add rows R given as R'R, for misfits R m of a vector m."""
        self.twice += ivar * float(misfit @ (square @ misfit))

    def add_each(self, start: int, misfit: FloatArray, ivar: FloatArray | float) -> None:
        """Add one row per parameter."""
        self.twice += float(np.sum(ivar * misfit**2))


class GlobalPrior:
    """Linearised priors of the global parameters: a step s adds half of s' normal s - 2 pull s to the objective."""

    def __init__(self, n: int) -> None:
        self.normal, self.pull = np.zeros((n, n)), np.zeros(n)

    def add(self, start: int, rows: FloatArray, misfit: FloatArray, ivar: FloatArray | float) -> None:
        """Add dense rows of the parameters from `start` on."""
        part, weighted = slice(start, start + rows.shape[1]), rows.T * ivar
        self.normal[part, part] += weighted @ rows
        self.pull[part] += weighted @ misfit

    def add_square(self, start: int, square: FloatArray, misfit: FloatArray, ivar: float) -> None:
        """Add rows R given as R'R, for misfits R m of a vector m."""
        part, pulled = slice(start, start + misfit.size), square @ misfit
        self.normal[part, part] += ivar * square
        self.pull[part] += ivar * pulled

    def add_each(self, start: int, misfit: FloatArray, ivar: FloatArray | float) -> None:
        """Add one row per parameter."""
        index = np.arange(start, start + misfit.size)
        self.normal[index, index] += ivar
        self.pull[index] += ivar * misfit


def global_prior(problem: JointProblem, state: JointState, hyper: JointHyper) -> GlobalPrior:
    """Return the priors of weights, slope, shear, offset and sky about a state, and conservation of flux."""
    total = GlobalPrior(problem.n_global)
    _add_beliefs(total, problem, state, hyper)
    prf = prf_of(problem, state)
    for place in _phase_places(problem):
        one = prf.at(place)
        sums, data = problem.phases.equations(one)
        by_weights = [f * sums for f in prf.columns(place[None])[0]]
        turned = problem.phases.by_shear(one)
        by_shear = [f * turned for f in field_columns(place[None], prf.geometry_order)[0]]
        block = np.concatenate([*by_weights, np.zeros((data.size, problem.n_wing)), *by_shear], axis=1)
        total.add(0, block, data - sums @ one.weights, _phase_ivar(problem, hyper, place))
    return total


def all_beliefs(
    problem: JointProblem, state: JointState, hyper: JointHyper, error: float
) -> tuple[FloatArray, FloatArray]:
    """Return the prior precision of all parameters, the stars' after those they share, and its pull on a state."""
    prior, pins = global_prior(problem, state, hyper), area_pins(problem, state)
    misfit, ivar = star_prior(problem, state, hyper, error)
    n_global = problem.n_global
    precision = np.diag(np.concatenate([np.zeros(n_global), ivar.ravel()]))
    precision[:n_global, :n_global] = prior.normal + _PIN * pins.T @ pins
    return precision, np.concatenate([prior.pull, (ivar * misfit).ravel()])


def prior_height(problem: JointProblem, state: JointState, hyper: JointHyper) -> float:
    """Return what the priors of `global_prior`, and conservation of flux, add to the objective."""
    total, prf = _Height(), prf_of(problem, state)
    _add_beliefs(total, problem, state, hyper)
    for place in _phase_places(problem):
        total.add_each(0, problem.phases.misses(prf.at(place)), _phase_ivar(problem, hyper, place))
    return 0.5 * total.twice


def _phase_places(problem: JointProblem) -> FloatArray:
    places = _PHASE_PLACES if problem.n_field > 1 + problem.colored else _PHASE_PLACES[:1]
    return np.concatenate([np.pad(places, ((0, 0), (0, 1))), COLORS]) if problem.colored else places


def _phase_ivar(problem: JointProblem, hyper: JointHyper, place: FloatArray) -> float:
    error = float(hyper.star_errors(field_growth(problem, place[None]))[0])
    return 1.0 / (SUM_SIGMA**2 + (SHARE_OF_SCATTER * error) ** 2)


def _add_beliefs(total: _Collector, problem: JointProblem, state: JointState, hyper: JointHyper) -> None:
    """Add the priors of weights, slope, shear, offset and sky."""
    prior, powers = problem.prior, np.tri(problem.n_wing)
    _add_weights(total, problem, state, hyper)
    start, n_bend = problem.n_weight + problem.n_wing, 2 * problem.n_geometry
    rows = slope_rows(problem.n_wing, hyper.slope, hyper.wing)
    total.add(problem.n_weight, rows @ powers, rows @ (prior.slope - powers @ state.wing), 1.0)
    total.add_each(start, -state.shear.ravel(), np.repeat(prior.shear_sigma**-2.0, 2))
    total.add_each(start + n_bend, -state.offset.ravel(), np.repeat(prior.offset_sigma**-2.0, 2))
    total.add_each(start + 2 * n_bend, prior.sky - state.sky, prior.sky_sigma**-2.0)


def _add_weights(total: _Collector, problem: JointProblem, state: JointState, hyper: JointHyper) -> None:
    """Add what is expected of the weights and of their bends."""
    prior, n_basis = problem.prior, problem.basis.n_basis
    bent = prior.weights - state.weights[0]
    if prior.weights_factor is None:
        total.add_each(0, bent, prior.weights_sigma**-2.0)
        _add_bends(total, problem, 0, bent, (hyper.tau, hyper.turn))
    else:
        total.add_square(0, _precision_of_weights(prior), bent, 1.0)
    for k in range(1, problem.n_field):
        *bends, level = hyper.color_widths if k == problem.n_field - problem.colored else hyper.field_widths
        total.add_each(k * n_basis, -state.weights[k], level**-2.0)
        _add_bends(total, problem, k * n_basis, -state.weights[k], (bends[0], bends[1]))


@lru_cache(maxsize=4)
def _precision_of_weights(prior: JointPrior) -> FloatArray:
    """Return the prior precision of weights with a given covariance, which is the same in all steps."""
    assert prior.weights_factor is not None
    covariance = prior.weights_factor @ prior.weights_factor.T + prior.weights_sigma**2 * np.eye(prior.weights.size)
    rows = solve_triangular(np.linalg.cholesky(covariance), np.eye(prior.weights.size), lower=True)
    return np.asarray(rows.T @ rows)


def _add_bends(
    total: _Collector, problem: JointProblem, start: int, misfit: FloatArray, widths: tuple[float, float]
) -> None:
    """Add smoothness along the radius and around the circle."""
    for rows, width in zip((problem.bends, problem.turns), widths, strict=True):
        total.add_square(start, (rows.T @ rows).toarray(), misfit, width**-2.0)


def star_prior(
    problem: JointProblem, state: JointState, hyper: JointHyper, error: float
) -> tuple[FloatArray, FloatArray]:
    """Return misfit and inverse variance of each star's parameters, shape (n_source, n_own)."""
    expected = problem.prior.flux
    width = problem.prior.flux_width * np.maximum(expected, error)
    misfit, ivar = [expected - state.flux], [width**-2.0]
    if problem.free:
        misfit += list(-state.shift.T)
        ivar += 2 * [1.0 / problem.place_variance(hyper.position)]
    return np.stack(misfit, axis=1), np.stack(ivar, axis=1)


def objective(
    problem: JointProblem, state: JointState, image: FloatArray, hyper: JointHyper, *, weight: FloatArray, error: float
) -> float:
    """Return minus the log posterior at fixed weights of the pixels, but for a constant."""
    if np.any(np.cumsum(state.wing) > MAX_POWER):
        return np.inf
    residual = np.where(weight > 0, problem.flux - image, 0.0)
    misfit, ivar = star_prior(problem, state, hyper, error)
    own = 0.5 * float(np.sum(ivar * misfit**2))
    data = 0.5 * float(np.sum(weight * residual**2)) - log_volume(problem, state, image)
    return data + own + prior_height(problem, state, hyper)


def log_volume(problem: JointProblem, state: JointState, image: FloatArray) -> float:
    """Return the logarithm of the volume of the posterior of the PRF's shape, but for a constant.

    Notes
    -----
    Columns of log10 PRF move the image by its light m: where it is fainter they are told less, and more shapes are as
    good. Half the log determinant of their covariance follows it as -sum h ln m does, with the leverage h of the shape
    in a pixel, to first order from where `with_volume` was asked. Where noise is not small beside the light, the mode
    without this is brighter than the mean: light L of a pixel y with the error s, of which any ln L is as likely, has
    the mode y and the mean y - s**2 / y.
    """
    if problem.volume_slope is None:
        return 0.0
    return -float(problem.volume_slope @ _starlight(problem, state, image))


def _starlight(problem: JointProblem, state: JointState, image: FloatArray) -> FloatArray:
    """Return the light of the stars that are fitted, shape (n_pixel,), electron / s."""
    return np.asarray(image - problem.known - problem.sky @ state.sky)


def with_volume(
    problem: JointProblem, state: JointState, image: FloatArray, *, weight: FloatArray, leverage: FloatArray
) -> JointProblem:
    """Return the problem that knows how the volume falls with the light, for leverages of the shape, (n_pixel,).

    Where pixels tell less of their light than that it is any there may be, the volume falls no faster.
    """
    light = np.maximum(_starlight(problem, state, image), 0.0)
    least = np.minimum(np.maximum(leverage, 0.0), weight * light**2 / ANY_LIGHT)
    slope = np.divide(least, light, out=np.zeros_like(light), where=light > 0.0)
    return replace(problem, volume_slope=slope)


@dataclass(frozen=True, slots=True, eq=False)
class Equations:
    """Weighted columns, and the normal equations in which the stars are eliminated.

    Parameters
    ----------
    tiles : Tiles
        Tiles of the image.
    own_columns : list of ndarray of float64, shape (n_tile_pixel, n_own n_tile_star)
        Weighted columns of the stars, tile by tile.
    columns : ndarray of float64, shape (n_pixel, n_global), optional
        Weighted columns of the global parameters, in the order of `Tiles.pixel`, unless these are held.
    factor : StarFactor
        L of the stars' normal matrix L L' at known global parameters.
    half : ndarray of float64, shape (n_own n_source, n_global)
        L^-1 J'G: what stars and global parameters share.
    global_factor : ndarray of float64, shape (n_global, n_global)
        U with the covariance U U' of the global parameters.
    common : ndarray of float64, shape (n_global,)
        Step of the global parameters.
    own : ndarray of float64, shape (n_own n_source,)
        Step of those of the stars.
    own_std : ndarray of float64, shape (n_source, n_own)
        Standard deviations of these at known other parameters.
    sky : csr_matrix of float64, shape (n_pixel, n_sky), optional
        Weighted columns of the sky in the order of the tiles, if there is one and it is not held.
    """

    tiles: Tiles
    own_columns: list[FloatArray]
    columns: FloatArray | None
    factor: StarFactor
    half: FloatArray
    global_factor: FloatArray
    common: FloatArray
    own: FloatArray
    own_std: FloatArray
    sky: csr_matrix | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A step and what is known about where it leads.

    Parameters
    ----------
    common : ndarray of float64, shape (n_global,)
        Step of the global parameters.
    own : ndarray of float64, shape (n_source, n_own)
        Step of those of the stars.
    global_factor : ndarray of float64, shape (n_global, n_global)
        L with covariance L L' of the global parameters.
    own_std : ndarray of float64, shape (n_source, n_own)
        Standard deviations of the stars' parameters.
    leverage : ndarray of float64, shape (n_pixel,)
        How much of each pixel's residual the fit takes away.
    shape_leverage : ndarray of float64, shape (n_pixel,)
        How much of it what all stars share does, by their light.
    """

    common: FloatArray
    own: FloatArray
    global_factor: FloatArray
    own_std: FloatArray
    leverage: FloatArray
    shape_leverage: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """The covariance about a state.

    Parameters
    ----------
    global_factor : ndarray of float64, shape (n_global, n_global)
        L with covariance L L' of the global parameters.
    response : ndarray of float64, shape (n_own n_source, n_global)
        X: the stars' parameters follow the global ones by -X.
    own_factor : StarFactor
        Factor of the precision of the stars' parameters at known global ones.
    own_blocks : ndarray of float64, shape (n_source, n_own, n_own)
        Their covariance, star by star.
    leverage : ndarray of float64, shape (n_pixel,)
        How much of each pixel's residual the fit takes away.
    shape_leverage : ndarray of float64, shape (n_pixel,)
        How much of it what all stars share does, by their light.
    flux_rows : csr_matrix of float64, shape (n_source, n_own n_source), optional
        Covariance of the fluxes with the stars' parameters at known global ones: `StarFactor.rows`.
    """

    global_factor: FloatArray
    response: FloatArray
    own_factor: StarFactor
    own_blocks: FloatArray
    leverage: FloatArray
    shape_leverage: FloatArray
    flux_rows: csr_matrix | None = None

    @property
    def own_std(self) -> FloatArray:
        """Standard deviations of the stars' parameters with the global ones free, shape (n_own n_source,)."""
        return _deviations(self.own_blocks, self.response, self.global_factor)


def solve_step(
    problem: JointProblem,
    state: JointState,
    view: View,
    hyper: JointHyper,
    *,
    weight: FloatArray,
    error: float,
    alone: bool = False,
    steep: bool = False,
    damped: bool = False,
) -> Solution:
    """Solve the normal equations of all parameters, or of the stars alone, without leverage and with least deviations.

    So is a `steep` step, of which nothing is asked but where it leads. A `damped` one goes as far as `within_trust`
    lets it. No star is pulled past the wall.
    """
    shape = problem.n_source, problem.n_own
    held = np.zeros((problem.n_global, 1)) if alone else None
    pinned = np.zeros(problem.n_source, bool)
    found = _set_up(problem, state, view, hyper, weight=weight, error=error, held=held, pinned=pinned)
    if np.any(past := _past_wall(problem, state, hyper, found.own.reshape(shape))):
        # The gradient led back, and the step with the flux does not.
        found = _set_up(problem, state, view, hyper, weight=weight, error=error, held=held, pinned=past)
    common, own, none = found.common, found.own, np.zeros(weight.size)
    if alone:
        return Solution(common, own.reshape(shape), found.global_factor, found.own_std, none, none)
    response = found.factor.finish(found.half)
    factor = found.global_factor
    if damped:
        common, own, factor = within_trust(problem, state, factor, response, common=common, own=own)
    common, own = within_bounds(problem, state, factor, response, common=common, own=own)
    own = own.reshape(shape)
    if steep:
        return Solution(common, own, found.global_factor, found.own_std, none, none)
    posterior = _posterior(found, response)
    std = posterior.own_std.reshape(shape)
    return Solution(common, own, found.global_factor, std, posterior.leverage, posterior.shape_leverage)


def shared_step(
    problem: JointProblem, state: JointState, view: View, hyper: JointHyper, *, weight: FloatArray, error: float
) -> tuple[FloatArray, FloatArray]:
    """Return the step of the global parameters, whatever the wing does, and L with its covariance L L'."""
    found = _set_up(problem, state, view, hyper, weight=weight, error=error, held=None)
    return found.common, found.global_factor


def shared_gain(
    problem: JointProblem, state: JointState, view: View, hyper: JointHyper, *, weight: FloatArray, error: float, n: int
) -> FloatArray:
    """Return how the last n global parameters answer to the pixels, with everything else free, shape (n, n_pixel)."""
    found = _set_up(problem, state, view, hyper, weight=weight, error=error, held=None)
    rest, response = found.columns, found.factor.finish(found.half)
    if rest is None:
        return np.zeros((n, weight.size))
    for tile, own in enumerate(found.own_columns):
        rest[found.tiles.part(tile)] -= own @ response[found.factor.index(found.tiles.stars(tile))]
    gain = np.empty((n, weight.size))
    gain[:, found.tiles.pixel] = (found.global_factor[-n:] @ found.global_factor.T) @ rest.T
    return gain * np.sqrt(weight)


def find_posterior(
    problem: JointProblem,
    state: JointState,
    view: View,
    hyper: JointHyper,
    *,
    weight: FloatArray,
    error: float,
    held: FloatArray | None = None,
) -> Posterior:
    """Return the covariance of all parameters about a state; L with that of the global ones may be `held`.

    The leverage is then that of the stars alone.
    """
    found = _set_up(problem, state, view, hyper, weight=weight, error=error, held=held)
    return _posterior(found, found.factor.finish(found.half), with_rows=True)


def _posterior(found: Equations, response: FloatArray, *, with_rows: bool = False) -> Posterior:
    """Return the covariance of what was solved, with or without `flux_rows`; the global columns are overwritten."""
    tiles, factor = found.tiles, found.factor
    n_own = factor.n_own
    blocks = np.empty((tiles.tree.rank.size, n_own, n_own))
    leverage, shape = np.zeros((2, tiles.pixel.size))
    rest, gathered = found.columns, RowGatherer(factor, 0)
    for front, covariance in factor.covariances():
        if with_rows:
            gathered.add(front, covariance)
        each = np.arange(front.own.size)
        size = front.own.size + front.bound.size, n_own
        blocks[front.own] = covariance.reshape(size + size)[each, :, each]
        for tile in front.tiles:
            part, columns = tiles.part(tile), found.own_columns[tile]
            within = factor.index(tiles.tree.places[tile])
            leverage[part] = np.einsum("pi,pi->p", columns @ covariance[np.ix_(within, within)], columns)
            if rest is not None:
                rest[part] -= columns @ response[factor.index(tiles.stars(tile))]
    if rest is not None:
        rest = dtrmm(1.0, found.global_factor, rest.T, trans_a=1, overwrite_b=1)
        shape = np.einsum("gp,gp->p", rest, rest)
        leverage += shape
        if found.sky is not None:
            told = (found.global_factor[-found.sky.shape[1] :] @ rest).T
            shape -= np.asarray(found.sky.multiply(told).sum(axis=1)).ravel()
    of_pixel, shape_of_pixel = np.empty((2, leverage.size))
    of_pixel[tiles.pixel], shape_of_pixel[tiles.pixel] = leverage, shape
    rows = gathered.matrix() if with_rows else None
    return Posterior(found.global_factor, response, factor, blocks, of_pixel, shape_of_pixel, rows)


def _deviations(blocks: FloatArray, response: FloatArray, global_factor: FloatArray) -> FloatArray:
    # Stars that no pixel of a part shows follow nothing.
    follows = response.any(axis=1)
    spread = dtrmm(1.0, global_factor, response[follows].T, trans_a=1)
    variance = np.einsum("sii->si", blocks).ravel()
    variance[follows] += np.einsum("gs,gs->s", spread, spread)
    return np.asarray(np.sqrt(variance))


def _set_up(
    problem: JointProblem,
    state: JointState,
    view: View,
    hyper: JointHyper,
    *,
    weight: FloatArray,
    error: float,
    held: FloatArray | None,
    pinned: BoolArray | None = None,
) -> Equations:
    """Eliminate the stars and solve; where some are `pinned`, these stay, and all that are pulled past the wall."""
    root, order, tiles = np.sqrt(weight), problem.layout.order, problem.layout.tiles
    residual = root * np.where(weight > 0, problem.flux - view.image, 0.0)
    light = residual
    if problem.volume_slope is not None:
        light = residual - np.divide(problem.volume_slope, root, out=np.zeros_like(root), where=root > 0)
    parts = star_parts(problem, state, view)
    parts *= root[problem.pairs.pixel[order.near]][:, None]
    misfit, ivar = star_prior(problem, state, hyper, error)
    own_columns = [tiles.matrix(tile, parts) for tile in range(tiles.n_tile)]
    pull = ivar * misfit + _products(tiles, own_columns, lambda pixels: light[pixels, None])[:, :, 0]
    if pinned is not None and problem.free:
        pulled = pinned | _past_wall(problem, state, hyper, pull)
        ivar[pulled, 1:], pull[pulled, 1:] = _PIN / hyper.position**2, 0.0
    told = ivar + _squares(tiles, own_columns, ivar.shape)
    factor = StarFactor.of(tiles.tree, own_columns, ivar)
    half_pull = factor.halve(pull.reshape(-1, 1))[:, 0]
    if held is not None:
        half, own = np.zeros((pull.size, 0)), factor.finish(half_pull[:, None])[:, 0]
        if pinned is None:
            some = partial(_weighted_columns, problem, state, view, root)
            half = factor.halve(_products(tiles, own_columns, some).reshape(pull.size, -1))
        return Equations(tiles, own_columns, None, factor, half, held, np.zeros(problem.n_global), own, told**-0.5)
    # In the order of the tiles, which then take theirs without copies.
    columns = global_columns(problem, state, view, tiles.pixel)
    columns *= root[tiles.pixel, None]
    half = factor.halve(_products_of(tiles, own_columns, columns).reshape(pull.size, -1))
    prior, pins = global_prior(problem, state, hyper), area_pins(problem, state)
    both = columns.T @ columns + prior.normal + _PIN * pins.T @ pins
    n_light = problem.n_global - problem.sky.shape[1]
    right = columns.T @ light[tiles.pixel] + prior.pull - half.T @ half_pull
    right[n_light:] += columns[:, n_light:].T @ (residual - light)[tiles.pixel]
    global_factor = _inverse_factor(both - half.T @ half)
    common = global_factor @ (global_factor.T @ right)
    own = factor.finish((half_pull - half @ common)[:, None])[:, 0]
    sky = csr_matrix(diags(root) @ problem.sky)[tiles.pixel] if problem.sky.shape[1] else None
    return Equations(tiles, own_columns, columns, factor, half, global_factor, common, own, told**-0.5, sky)


def _weighted_columns(
    problem: JointProblem, state: JointState, view: View, root: FloatArray, pixels: IntArray
) -> FloatArray:
    """Return the weighted columns of the global parameters in some pixels, shape (n, n_global)."""
    return global_columns(problem, state, view, pixels) * root[pixels, None]


def _products(tiles: Tiles, own_columns: list[FloatArray], columns: Callable[[IntArray], FloatArray]) -> FloatArray:
    """Return the products of the stars' columns with those that some pixels have, shape (n_source, n_own, n_column)."""
    n_group, out = tiles.pixel.size // TOGETHER + 1, np.zeros((0, 0, 0))
    for group in np.array_split(np.arange(tiles.n_tile), n_group):
        start, stop = tiles.pixel_indptr[[group[0], group[-1] + 1]]
        some = columns(tiles.pixel[start:stop])
        out = _add_products(out, tiles, own_columns, some, group)
    return out


def _products_of(tiles: Tiles, own_columns: list[FloatArray], columns: FloatArray) -> FloatArray:
    """Return the same of columns that all pixels have, in the order of `Tiles.pixel`."""
    return _add_products(np.zeros((0, 0, 0)), tiles, own_columns, columns, np.arange(tiles.n_tile))


def _add_products(
    out: FloatArray, tiles: Tiles, own_columns: list[FloatArray], columns: FloatArray, group: IntArray
) -> FloatArray:
    """Return products, to which those of a group of tiles are added, whose pixels have these columns."""
    start = tiles.pixel_indptr[group[0]]
    if not out.size:
        n_own = max(own.shape[1] // max(tiles.stars(tile).size, 1) for tile, own in enumerate(own_columns))
        out = np.zeros((tiles.tree.rank.size, n_own, columns.shape[1]))
    for tile in range(int(group[0]), int(group[-1]) + 1):
        first, last = tiles.pixel_indptr[tile : tile + 2] - start
        stars = tiles.stars(tile)
        out[stars] += (own_columns[tile].T @ columns[first:last]).reshape(stars.size, *out.shape[1:])
    return out


def _squares(tiles: Tiles, own_columns: list[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    """Return the sums of squares of the stars' columns, of some shape (n_source, n_own)."""
    told = np.zeros(shape)
    for tile, own in enumerate(own_columns):
        told[tiles.stars(tile)] += np.einsum("pi,pi->i", own, own).reshape(-1, shape[1])
    return told


def within_walls(problem: JointProblem, state: JointState, hyper: JointHyper) -> JointState:
    """Return the state with no star farther from its place than it may be."""
    far, wall = np.hypot(*state.shift.T), FARTHEST * np.sqrt(problem.place_variance(hyper.position))
    if not np.any(far > wall):
        return state
    return replace(state, shift=state.shift * np.minimum(1.0, wall / np.maximum(far, wall))[:, None])


def _past_wall(problem: JointProblem, state: JointState, hyper: JointHyper, step: FloatArray) -> BoolArray:
    """Tell stars at the wall that a step or a pull, shape (n_source, n_own), leads past it."""
    if not problem.free:
        return np.zeros(problem.n_source, bool)
    far, wall = np.hypot(*state.shift.T), FARTHEST * np.sqrt(problem.place_variance(hyper.position))
    return np.asarray((far > (1.0 - _AT_WALL) * wall) & (np.sum(step[:, 1:] * state.shift, axis=1) > 0.0))


def _inverse_factor(precision: FloatArray) -> FloatArray:
    """Return U, upper triangular, with the covariance U U' of a precision."""
    scale = 1.0 / np.sqrt(np.diag(precision))
    lower = np.linalg.cholesky(precision * np.outer(scale, scale))
    return np.asfortranarray(scale[:, None] * dtrtri(lower, lower=1)[0].T)


def area_pins(problem: JointProblem, state: JointState) -> FloatArray:
    """Return the rows whose product with a step is the change of log10 area, column by column over the field."""
    gradients = problem.rule.gradients(state.weights, state.wing, colored=problem.colored)
    by_weights, by_wing = (one[_MIDDLE] for one in gradients)
    pins, n_basis = np.zeros((problem.n_field, problem.n_global)), problem.basis.n_basis
    for k in range(problem.n_field):
        pins[k, k * n_basis : (k + 1) * n_basis] = by_weights
    pins[0, problem.n_weight : problem.n_weight + problem.n_wing] = by_wing
    return pins
