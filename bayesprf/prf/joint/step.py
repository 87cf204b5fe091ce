"""One Gauss-Newton step of the joint fit: the parameters of the stars are eliminated, those of the field solved."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dpotri, dtrtri
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray
from bayesprf.prf.joint.hyper import JointHyper
from bayesprf.prf.joint.problem import LN10, JointProblem, JointState, View, global_columns, prf_of, star_columns
from bayesprf.scene.field_prf import field_columns, node_weights

# Precision with which a step leaves the area of the PRF alone: far above any that pixels reach.
_PIN = 1e10
# The centre of the field among its nine nodes.
_MIDDLE = 4
# Parameters of stars whose covariance costs no more than the rest of a step.
_MAX_COVARIANCE = 1500
# The light beyond any radius is finite below a power of -2.
MAX_POWER = -2.1
# Flux conservation over pixel phase, relative, and the share of the model's relative error that the sums inherit.
_SUM_SIGMA, _SUM_SHARE = 2e-4, 0.03
# Places of the field at which flux is conserved: its centre, and half way out.
_PHASE_PLACES = np.array([[0.0, 0.0], [0.7, 0.0], [-0.7, 0.0], [0.0, 0.7], [0.0, -0.7]])


@dataclass(frozen=True, slots=True, eq=False)
class GlobalPrior:
    """Linearised priors of the global parameters: a step s adds half of s' normal s - 2 pull s to the objective."""

    normal: FloatArray
    pull: FloatArray
    objective: float


class _Quadratic:
    """Collects rows that should equal misfits, with inverse variances."""

    def __init__(self, n: int) -> None:
        self.normal, self.pull, self.twice = np.zeros((n, n)), np.zeros(n), 0.0

    def add(self, start: int, rows: FloatArray, misfit: FloatArray, ivar: FloatArray | float) -> None:
        """Add dense rows of the parameters from `start` on."""
        part, weighted = slice(start, start + rows.shape[1]), rows.T * ivar
        self.normal[part, part] += weighted @ rows
        self.pull[part] += weighted @ misfit
        self.twice += float(np.sum(ivar * misfit**2))

    def add_square(self, start: int, square: FloatArray, misfit: FloatArray, ivar: float) -> None:
        """Add rows R given as R'R, for misfits R m of a vector m."""
        part, pulled = slice(start, start + misfit.size), square @ misfit
        self.normal[part, part] += ivar * square
        self.pull[part] += ivar * pulled
        self.twice += ivar * float(misfit @ pulled)

    def add_each(self, start: int, misfit: FloatArray, ivar: FloatArray | float) -> None:
        """Add one row per parameter."""
        index = np.arange(start, start + misfit.size)
        self.normal[index, index] += ivar
        self.pull[index] += ivar * misfit
        self.twice += float(np.sum(ivar * misfit**2))


def global_prior(problem: JointProblem, state: JointState, hyper: JointHyper) -> GlobalPrior:
    """Return the priors of weights, slope, shear, offset and sky about a state, and conservation of flux."""
    prior, total = problem.prior, _Quadratic(problem.n_global)
    _add_weights(total, problem, state, hyper)
    start, n_bend = problem.n_weight + problem.n_wing, 2 * problem.n_geometry
    powers = np.tri(problem.n_wing)
    total.add(problem.n_weight, powers, prior.slope - powers @ state.wing, prior.slope_sigma**-2.0)
    total.add_each(problem.n_weight + 1, -state.wing[1:], hyper.wing**-2.0)
    total.add_each(start, -state.shear.ravel(), np.repeat(prior.shear_sigma**-2.0, 2))
    total.add_each(start + n_bend, -state.offset.ravel(), np.repeat(prior.offset_sigma**-2.0, 2))
    total.add_each(start + 2 * n_bend, prior.sky - state.sky, prior.sky_sigma**-2.0)
    prf, precision = prf_of(problem, state), 1.0 / (_SUM_SIGMA**2 + (_SUM_SHARE * hyper.eps) ** 2)
    for place in _PHASE_PLACES if problem.n_field > 1 else _PHASE_PLACES[:1]:
        one = prf.at(place)
        sums, data = problem.phases.equations(one)
        block = np.concatenate([f * sums for f in field_columns(place[None], prf.order)[0]], axis=1)
        total.add(0, block, data - sums @ one.weights, precision)
    return GlobalPrior(total.normal, total.pull, 0.5 * total.twice)


def _add_weights(total: _Quadratic, problem: JointProblem, state: JointState, hyper: JointHyper) -> None:
    """Add what is expected of the weights and of their bends."""
    prior, n_basis = problem.prior, problem.basis.n_basis
    bent = prior.weights - state.weights[0]
    if prior.weights_factor is None:
        total.add_each(0, bent, prior.weights_sigma**-2.0)
        _add_bends(total, problem, 0, bent, (hyper.tau, hyper.turn))
    else:
        scale, axes = np.linalg.eigh(
            prior.weights_factor @ prior.weights_factor.T + prior.weights_sigma**2 * np.eye(n_basis)
        )
        total.add(0, axes.T, axes.T @ bent, 1.0 / np.maximum(scale, prior.weights_sigma**2))
    for k in range(1, problem.n_field):
        total.add_each(k * n_basis, -state.weights[k], (3.0 * hyper.tau_field) ** -2.0)
        _add_bends(total, problem, k * n_basis, -state.weights[k], (hyper.tau_field, hyper.turn_field))


def _add_bends(
    total: _Quadratic, problem: JointProblem, start: int, misfit: FloatArray, widths: tuple[float, float]
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
        ivar += 2 * [np.full(problem.n_source, hyper.position**-2.0)]
    return np.stack(misfit, axis=1), np.stack(ivar, axis=1)


def objective(
    problem: JointProblem, state: JointState, image: FloatArray, hyper: JointHyper, *, weight: FloatArray, error: float
) -> float:
    """Return minus the log posterior at fixed weights of the pixels, but for a constant."""
    if state.wing.sum() > MAX_POWER:
        return np.inf
    residual = np.where(weight > 0, problem.flux - image, 0.0)
    misfit, ivar = star_prior(problem, state, hyper, error)
    own = 0.5 * float(np.sum(ivar * misfit**2))
    return 0.5 * float(np.sum(weight * residual**2)) + own + global_prior(problem, state, hyper).objective


@dataclass(frozen=True, slots=True, eq=False)
class Equations:
    """Weighted columns, and the normal equations in which the stars are eliminated."""

    own_columns: csr_matrix
    columns: FloatArray
    factor: tuple[FloatArray, bool]
    response: FloatArray
    both: FloatArray
    global_factor: FloatArray
    common: FloatArray
    own: FloatArray
    blocks: FloatArray


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
    equations : Equations
        What was solved.
    own_cov : ndarray of float64, shape (n_own n_source, n_own n_source), optional
        Covariance of the stars' parameters at known global ones, unless there are many.
    """

    common: FloatArray
    own: FloatArray
    global_factor: FloatArray
    own_std: FloatArray
    equations: Equations
    own_cov: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """The covariance about a state.

    Parameters
    ----------
    global_factor : ndarray of float64, shape (n_global, n_global)
        L with covariance L L' of the global parameters.
    response : ndarray of float64, shape (n_own n_source, n_global)
        X: the stars' parameters follow the global ones by -X.
    own_cov : ndarray of float64, shape (n_own n_source, n_own n_source)
        Covariance of the stars' parameters at known global ones.
    rest : ndarray of float64, shape (n_pixel, n_global)
        What the global parameters, in independent combinations of unit variance, do to the weighted pixels that the
        stars cannot.
    leverage : ndarray of float64, shape (n_pixel,)
        How much of each pixel's residual the fit takes away.
    """

    global_factor: FloatArray
    response: FloatArray
    own_cov: FloatArray
    rest: FloatArray
    leverage: FloatArray

    @property
    def own_std(self) -> FloatArray:
        """Standard deviations of the stars' parameters with the global ones free, shape (n_own n_source,)."""
        spread = self.response @ self.global_factor
        return np.sqrt(np.diag(self.own_cov) + np.einsum("sg,sg->s", spread, spread))


def solve_step(
    problem: JointProblem, state: JointState, view: View, hyper: JointHyper, *, weight: FloatArray, error: float
) -> Solution:
    """Solve the normal equations of all parameters.

    Notes
    -----
    With many stars their covariance, which takes three times as long as the step, waits for `find_posterior`:
    standard deviations are then those of each star with all else held.
    """
    found = _set_up(problem, state, view, hyper, weight=weight, error=error)
    if found.response.shape[0] <= _MAX_COVARIANCE:
        own_cov = _inverse(found.factor[0])
        spread = found.response @ found.global_factor
        variance = np.diag(own_cov) + np.einsum("sg,sg->s", spread, spread)
    else:
        own_cov = None
        variance = np.diagonal(np.linalg.inv(found.blocks), axis1=1, axis2=2)
    own = found.own.reshape(problem.n_source, problem.n_own)
    return Solution(found.common, own, found.global_factor, np.sqrt(variance).reshape(own.shape), found, own_cov)


def find_leverage(solution: Solution) -> FloatArray:
    """Return how much of each pixel's residual the fit takes away, shape (n_pixel,).

    Notes
    -----
    With many stars it is that of each star, and of the global parameters, with the others held: leverages add up to
    the number of parameters in both ways.
    """
    found = solution.equations
    if solution.own_cov is not None:
        return _leverage(found, _rest(found), solution.own_cov)
    rest = found.columns @ _inverse_factor(found.both)
    return np.einsum("pg,pg->p", rest, rest) + block_lengths(found.own_columns, np.linalg.inv(found.blocks))


def find_posterior(
    problem: JointProblem, state: JointState, view: View, hyper: JointHyper, *, weight: FloatArray, error: float
) -> Posterior:
    """Return the covariance of all parameters about a state."""
    found = _set_up(problem, state, view, hyper, weight=weight, error=error)
    own_cov, rest = _inverse(found.factor[0]), _rest(found)
    return Posterior(found.global_factor, found.response, own_cov, rest, _leverage(found, rest, own_cov))


def _rest(found: Equations) -> FloatArray:
    """Return the weighted columns of the global parameters, of unit variance, less what the stars take."""
    rest = found.columns - found.own_columns @ found.response
    return np.asarray(dtrmm(1.0, found.global_factor, rest.T, trans_a=1, overwrite_b=1).T)


def _leverage(found: Equations, rest: FloatArray, own_cov: FloatArray) -> FloatArray:
    return np.einsum("pg,pg->p", rest, rest) + squared_length(found.own_columns, own_cov)


def _set_up(
    problem: JointProblem, state: JointState, view: View, hyper: JointHyper, *, weight: FloatArray, error: float
) -> Equations:
    """Eliminate the stars and solve."""
    root = np.sqrt(weight)
    residual = root * np.where(weight > 0, problem.flux - view.image, 0.0)
    own_columns = star_columns(problem, state, view)
    own_columns.data *= np.repeat(root, np.diff(own_columns.indptr))
    columns = global_columns(problem, state, view)
    columns *= root[:, None]
    misfit, ivar = star_prior(problem, state, hyper, error)
    pull = own_columns.T @ residual + (ivar * misfit).ravel()
    mixed = own_columns.T @ columns
    normal, n_own = star_normal(own_columns, ivar.ravel()), problem.n_own
    place = np.arange(problem.n_source)
    blocks = normal.reshape(problem.n_source, n_own, problem.n_source, n_own)[place, :, place, :]
    blocks = np.tril(blocks) + np.swapaxes(np.tril(blocks, -1), 1, 2)
    factor = cho_factor(normal, lower=True, overwrite_a=True, check_finite=False)
    response = cho_solve(factor, mixed, check_finite=False)
    prior, pins = global_prior(problem, state, hyper), area_pins(problem, state)
    both = columns.T @ columns + prior.normal + _PIN * pins.T @ pins
    right = columns.T @ residual + prior.pull - response.T @ pull
    global_factor = _inverse_factor(both - mixed.T @ response)
    common = global_factor @ (global_factor.T @ right)
    own = cho_solve(factor, pull) - response @ common
    return Equations(own_columns, columns, factor, response, both, global_factor, common, own, blocks)


def star_normal(own_columns: csr_matrix, ivar: FloatArray) -> FloatArray:
    """Return J'J + diag(ivar) of the weighted columns of the stars, its lower triangle filled."""
    from bayesprf.linalg.compiled.sums import add_squares

    normal = np.diag(ivar)
    add_squares(own_columns.indptr, own_columns.indices, own_columns.data, normal)
    return normal


def squared_length(columns: csr_matrix, covariance: FloatArray) -> FloatArray:
    """Return row by row the quadratic form of a covariance, shape (n_row,)."""
    from bayesprf.linalg.compiled.sums import row_lengths

    out = np.empty(columns.shape[0])
    row_lengths(columns.indptr, columns.indices, columns.data, covariance, out)
    return out


def block_lengths(columns: csr_matrix, blocks: FloatArray) -> FloatArray:
    """Return row by row the quadratic form of a block diagonal covariance, blocks of shape (n_block, n, n)."""
    n = blocks.shape[1]
    values = columns.data.reshape(-1, n)
    block = columns.indices[::n] // n
    form = np.einsum("ei,eij,ej->e", values, blocks[block], values)
    row = np.repeat(np.arange(columns.shape[0]), np.diff(columns.indptr) // n)
    return np.bincount(row, weights=form, minlength=columns.shape[0])


def _inverse_factor(precision: FloatArray) -> FloatArray:
    """Return U, upper triangular, with the covariance U U' of a precision."""
    scale = 1.0 / np.sqrt(np.diag(precision))
    lower = np.linalg.cholesky(precision * np.outer(scale, scale))
    return np.asfortranarray(scale[:, None] * dtrtri(lower, lower=1)[0].T)


def _inverse(lower: FloatArray) -> FloatArray:
    """Return the covariance of a Cholesky factor of the precision, in the lower triangle of a matrix."""
    half = np.tril(dpotri(lower, lower=1)[0])
    return half + np.tril(half, -1).T


def area_pins(problem: JointProblem, state: JointState) -> FloatArray:
    """Return the rows whose product with a step is the change of log10 area, column by column over the field."""
    by_weights, by_wing = (one[_MIDDLE] for one in problem.rule.gradients(state.weights, state.wing))
    pins, n_basis = np.zeros((problem.n_field, problem.n_global)), problem.basis.n_basis
    for k in range(problem.n_field):
        pins[k, k * n_basis : (k + 1) * n_basis] = by_weights
    pins[0, problem.n_weight : problem.n_weight + problem.n_wing] = by_wing
    return pins


@dataclass(frozen=True, slots=True, eq=False)
class StarAreas:
    """Area of the PRF at each star, and how it follows the global parameters.

    Parameters
    ----------
    area : ndarray of float64, shape (n_source,)
        Area.
    gradient : ndarray of float64, shape (n_source, n_global)
        d ln area.
    """

    area: FloatArray
    gradient: FloatArray


def star_areas(problem: JointProblem, state: JointState) -> StarAreas:
    """Interpolate area and its gradient from nine places of the field."""
    mix, n_basis = node_weights(problem.place), problem.basis.n_basis
    area = mix @ problem.rule.areas(state.weights, state.wing)
    by_weights, by_wing = problem.rule.gradients(state.weights, state.wing)
    weights = mix @ by_weights
    gradient = np.zeros((problem.n_source, problem.n_global))
    for k in range(problem.n_field):
        gradient[:, k * n_basis : (k + 1) * n_basis] = weights * problem.columns[:, k : k + 1]
    gradient[:, problem.n_weight : problem.n_weight + problem.n_wing] = mix @ by_wing
    return StarAreas(area, LN10 * gradient)
