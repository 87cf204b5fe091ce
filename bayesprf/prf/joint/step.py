"""One Gauss-Newton step of the joint fit: the parameters of the stars are eliminated, those of the field solved."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix, diags

from bayesprf.arrays import FloatArray
from bayesprf.prf.joint.hyper import JointHyper
from bayesprf.prf.joint.problem import LN10, JointProblem, JointState, View, global_columns, prf_of, star_columns
from bayesprf.scene.field_prf import NODES, field_columns, node_weights
from bayesprf.scene.prf import wing_area

# Precision with which a step leaves the area of the PRF alone: far above any that pixels reach.
_PIN = 1e10
# The light beyond any radius is finite below a power of -2.
_MAX_POWER = -2.1
# Flux conservation over pixel phase, relative, and the share of the model's relative error that the sums inherit.
_SUM_SIGMA, _SUM_SHARE = 2e-4, 0.03
# Places of the field at which flux is conserved: its centre, and half way out.
_PHASE_PLACES = np.array([[0.0, 0.0], [0.7, 0.0], [-0.7, 0.0], [0.0, 0.7], [0.0, -0.7]])


@dataclass(frozen=True, slots=True, eq=False)
class PriorRows:
    """Linearised priors of the global parameters: `rows @ step` should be `misfit`, with inverse variances."""

    rows: FloatArray
    misfit: FloatArray
    ivar: FloatArray

    @property
    def objective(self) -> float:
        """Half the sum of squares."""
        return 0.5 * float(np.sum(self.ivar * self.misfit**2))


def global_prior(problem: JointProblem, state: JointState, hyper: JointHyper) -> PriorRows:
    """Return the priors of weights, slope, shear, offset and sky about a state, and conservation of flux."""
    prior, n_basis, n_global = problem.prior, problem.basis.n_basis, problem.n_global
    rough = problem.basis.roughness().toarray()
    rows, misfit, ivar = [], [], []

    def add(start: int, block: FloatArray, missing: FloatArray, precision: FloatArray) -> None:
        full = np.zeros((block.shape[0], n_global))
        full[:, start : start + block.shape[1]] = block
        rows.append(full)
        misfit.append(missing)
        ivar.append(np.broadcast_to(precision, missing.shape))

    bent = prior.weights - state.weights[0]
    if prior.weights_factor is None:
        add(0, np.eye(n_basis), bent, np.array(prior.weights_sigma**-2.0))
        add(0, rough, rough @ bent, np.array(hyper.tau**-2.0))
    else:
        scale, axes = np.linalg.eigh(
            prior.weights_factor @ prior.weights_factor.T + prior.weights_sigma**2 * np.eye(n_basis)
        )
        add(0, axes.T, axes.T @ bent, 1.0 / np.maximum(scale, prior.weights_sigma**2))
    for k in range(1, problem.n_field):
        add(k * n_basis, np.eye(n_basis), -state.weights[k], np.array((3.0 * hyper.tau_field) ** -2.0))
        add(k * n_basis, rough, -rough @ state.weights[k], np.array(hyper.tau_field**-2.0))
    start, n_bend = problem.n_weight + problem.n_wing, 2 * problem.n_geometry
    powers = np.tri(problem.n_wing)
    add(problem.n_weight, powers, prior.slope - powers @ state.wing, np.array(prior.slope_sigma**-2.0))
    add(problem.n_weight + 1, np.eye(problem.n_wing - 1), -state.wing[1:], np.array(hyper.wing**-2.0))
    add(start, np.eye(n_bend), -state.shear.ravel(), np.repeat(prior.shear_sigma**-2.0, 2))
    add(start + n_bend, np.eye(n_bend), -state.offset.ravel(), np.repeat(prior.offset_sigma**-2.0, 2))
    add(start + 2 * n_bend, np.eye(state.sky.size), prior.sky - state.sky, prior.sky_sigma**-2.0)
    prf, precision = prf_of(problem, state), 1.0 / (_SUM_SIGMA**2 + (_SUM_SHARE * hyper.eps) ** 2)
    for place in _PHASE_PLACES if problem.n_field > 1 else _PHASE_PLACES[:1]:
        one = prf.at(place)
        sums, data = problem.phases.equations(one)
        block = np.concatenate([f * sums for f in field_columns(place[None], prf.order)[0]], axis=1)
        add(0, block, data - sums @ one.weights, np.array(precision))
    return PriorRows(np.concatenate(rows), np.concatenate(misfit), np.concatenate(ivar))


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
    if state.wing.sum() > _MAX_POWER:
        return np.inf
    residual = np.where(weight > 0, problem.flux - image, 0.0)
    misfit, ivar = star_prior(problem, state, hyper, error)
    own = 0.5 * float(np.sum(ivar * misfit**2))
    return 0.5 * float(np.sum(weight * residual**2)) + own + global_prior(problem, state, hyper).objective


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A step and the covariance about where it leads.

    Parameters
    ----------
    common : ndarray of float64, shape (n_global,)
        Step of the global parameters.
    own : ndarray of float64, shape (n_source, n_own)
        Step of those of the stars.
    global_factor : ndarray of float64, shape (n_global, n_global)
        L with covariance L L' of the global parameters.
    own_cov : ndarray of float64, shape (n_own n_source, n_own n_source)
        Covariance of the stars' parameters at known global ones.
    response : ndarray of float64, shape (n_own n_source, n_global)
        X: the stars' parameters follow the global ones by -X.
    leverage : ndarray of float64, shape (n_pixel,)
        How much of each pixel's residual the fit takes away.
    rest : ndarray of float64, shape (n_pixel, n_global)
        What the global parameters, in independent combinations of unit variance, do to the weighted pixels that the
        stars cannot.
    """

    common: FloatArray
    own: FloatArray
    global_factor: FloatArray
    own_cov: FloatArray
    response: FloatArray
    leverage: FloatArray
    rest: FloatArray


def solve_step(
    problem: JointProblem, state: JointState, view: View, hyper: JointHyper, *, weight: FloatArray, error: float
) -> Solution:
    """Solve the normal equations of all parameters."""
    residual = np.where(weight > 0, problem.flux - view.image, 0.0)
    root = np.sqrt(weight)
    own_columns = csr_matrix(diags(root) @ star_columns(problem, state, view))
    columns = global_columns(problem, state, view) * root[:, None]
    misfit, ivar = star_prior(problem, state, hyper, error)
    normal = (own_columns.T @ own_columns).toarray()
    normal[np.diag_indices_from(normal)] += ivar.ravel()
    pull = own_columns.T @ (root * residual) + (ivar * misfit).ravel()
    mixed = own_columns.T @ columns
    factor = cho_factor(normal, lower=True)
    response = cho_solve(factor, mixed)
    prior = global_prior(problem, state, hyper)
    both = columns.T @ columns + prior.rows.T @ (prior.ivar[:, None] * prior.rows)
    pins = area_pins(problem, state)
    schur = both - mixed.T @ response + _PIN * pins.T @ pins
    right = columns.T @ (root * residual) + prior.rows.T @ (prior.ivar * prior.misfit) - response.T @ pull
    scale = 1.0 / np.sqrt(np.diag(schur))
    lower = np.linalg.cholesky(schur * np.outer(scale, scale))
    global_factor = scale[:, None] * np.linalg.inv(lower).T
    common = global_factor @ (global_factor.T @ right)
    own = cho_solve(factor, pull) - response @ common
    own_cov = cho_solve(factor, np.eye(normal.shape[0]))
    rest = (columns - own_columns @ response) @ global_factor
    leverage = np.einsum("pg,pg->p", rest, rest)
    leverage += np.asarray(own_columns.multiply(own_columns @ own_cov).sum(axis=1)).ravel()
    return Solution(common, own.reshape(problem.n_source, -1), global_factor, own_cov, response, leverage, rest)


def area_pins(problem: JointProblem, state: JointState) -> FloatArray:
    """Return the rows whose product with a step is the change of log10 area, column by column over the field."""
    middle = prf_of(problem, state).at(np.zeros(2))
    gradient, n_basis = middle.area_gradient(), problem.basis.n_basis
    pins = np.zeros((problem.n_field, problem.n_global))
    for k in range(problem.n_field):
        pins[k, k * n_basis : (k + 1) * n_basis] = gradient
    wing = slice(problem.n_weight, problem.n_weight + problem.n_wing)
    pins[0, wing] = middle.wing_share() * wing_gradient(state.wing)
    return pins


def wing_gradient(wing: FloatArray) -> FloatArray:
    """Return d log10 (area beyond rmax) / d wing at a fixed level at rmax."""
    step = 1e-4
    sides = [[wing_area(tuple(wing + sign * step * unit)) for unit in np.eye(wing.size)] for sign in (1.0, -1.0)]
    return np.asarray(np.diff(np.log10(sides), axis=0)[0] / (-2.0 * step))


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
    prf, n_basis = prf_of(problem, state), problem.basis.n_basis
    mix, constant = node_weights(problem.place), problem.n_field == 1 and problem.n_geometry == 1
    models = [prf.at(NODES[4])] * len(NODES) if constant else [prf.at(place) for place in NODES]
    area = mix @ np.array([one.area() for one in models])
    weights = mix @ np.array([one.area_gradient() for one in models])
    wing = np.outer(mix @ np.array([one.wing_share() for one in models]), wing_gradient(state.wing))
    gradient = np.zeros((problem.n_source, problem.n_global))
    for k in range(problem.n_field):
        gradient[:, k * n_basis : (k + 1) * n_basis] = weights * problem.columns[:, k : k + 1]
    gradient[:, problem.n_weight : problem.n_weight + problem.n_wing] = wing
    return StarAreas(area, LN10 * gradient)
