"""How far a step of the joint fit may lead: beyond, the model is not linear."""

import numpy as np
from scipy.linalg import eigh, solve_triangular
from scipy.optimize import brentq, nnls

from bayesprf.arrays import FloatArray
from bayesprf.prf.joint.problem import LN10, JointProblem, JointState

# Derived: an Airy pattern falls as r**-3, scattered light no slower than r**-2.5, as in `PrfModel.with_wing`.
MAX_POWER = -2.5
# Accuracy: longest step of log10 PRF, dex, in which light changes by a factor of three.
MAX_DEX = 0.5
# Accuracy: longest step of a star, pixel.
MAX_PIX = 0.5
# Rounding: the damping that is looked for, beside the variances of log10 PRF, natural logarithm.
_DAMPING = (-60.0, 60.0)


def within_trust(
    problem: JointProblem,
    state: JointState,
    factor: FloatArray,
    response: FloatArray,
    *,
    common: FloatArray,
    own: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the step in which log10 PRF changes by `MAX_DEX` at most, and L with the covariance L L' that it has.

    Parameters
    ----------
    problem, state
        Where the step begins.
    factor : ndarray of float64, shape (n_global, n_global)
        U, upper triangular, with the covariance U U' of the global parameters.
    response : ndarray of float64, shape (n_own n_source, n_global)
        X: the stars' parameters follow the global ones by -X.
    common, own : ndarray of float64, shapes (n_global,) and (n_own n_source,)
        The step.

    Notes
    -----
    Of rings that are fainter in the model than in the pixels a step in log10 PRF leads far beyond them. They alone are
    held back: with the damping a of Levenberg (1944) and Marquardt (1963, J. SIAM 11, 431) the precision is
    C^-1 + a R'R with the rows R of weights, and of the light of the wing. In the eigenvectors V of U'R'R U, with
    the values d, the step is U V (1 + a d)^-1 V'U^-1 s. Not so where a record says what is expected of all rings
    together: what leads far from it is other light.
    """
    known = problem.prior.weights_factor is not None
    if known or np.max(np.abs(_profile(problem, state, common)), initial=0.0) <= MAX_DEX:
        return common, own, factor
    seen = _profile(problem, state, factor)
    values, vectors = eigh(seen.T @ seen)
    values, seen, begun = np.maximum(values, 0.0), seen @ vectors, vectors.T @ solve_triangular(factor, common)

    def beyond(log_damping: float) -> float:
        return float(np.max(np.abs(seen @ (begun / (1.0 + np.exp(log_damping) * values)))) - MAX_DEX)

    kept = 1.0 / (1.0 + np.exp(brentq(beyond, *_DAMPING)) * values)
    step = factor @ (vectors @ (kept * begun))
    return step, own + response @ (common - step), (factor @ vectors) * np.sqrt(kept)


def _profile(problem: JointProblem, state: JointState, step: FloatArray) -> FloatArray:
    """Return the change of the weights, and of the light from each ring of the wing on, by steps (n_global, ...), dex.

    Light that falls as r**p is 2 pi R**2 P(R) / (-2 - p) beyond R.
    """
    wing = slice(problem.n_weight, problem.n_weight + problem.n_wing)
    light = LN10 * (-2.0 - np.cumsum(state.wing))
    return np.concatenate([step[: problem.n_weight], (np.cumsum(step[wing], axis=0).T / light).T])


def within_bounds(
    problem: JointProblem,
    state: JointState,
    factor: FloatArray,
    response: FloatArray,
    *,
    common: FloatArray,
    own: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return the likeliest step whose wing goes at most half way to slopes at which light no longer ends.

    Parameters
    ----------
    problem, state
        Where the step begins.
    factor : ndarray of float64, shape (n_global, n_global)
        U with the covariance U U' of the global parameters there.
    response : ndarray of float64, shape (n_own n_source, n_global)
        X: the stars' parameters follow the global ones by -X.
    common, own : ndarray of float64, shapes (n_global,) and (n_own n_source,)
        The step without bounds.

    Notes
    -----
    With the constraints A s <= b on a step s of covariance C = U U', it is s - C A'm with the multipliers m >= 0 that
    make |U'A'm|**2 / 2 - m'(A s - b) least (Lawson & Hanson 1974, chapter 23); the stars follow. The rows of A add up
    the slope and its changes: that of any stretch of the wing is bounded, lest light that no star of the catalogue
    gives be put into a wing that rises.
    """
    wing = slice(problem.n_weight, problem.n_weight + problem.n_wing)
    left = 0.5 * (MAX_POWER - np.cumsum(state.wing)) - np.cumsum(common[wing])
    if np.all(left >= 0.0):
        return common, own
    across = factor[wing].T @ np.tri(problem.n_wing).T
    target = -np.linalg.lstsq(across.T, left, rcond=None)[0]
    change = -factor @ (across @ nnls(across, target)[0])
    return common + change, own - response @ change
