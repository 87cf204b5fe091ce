"""Whether an image makes the PRF of the instrument's record likelier than one that is smooth alone."""

from dataclasses import replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, null_space

from bayesprf.arrays import FloatArray
from bayesprf.prf.joint.objective import JointFit
from bayesprf.prf.joint.problem import JointPrior
from bayesprf.prf.joint.step import area_pins, weights_precision
from bayesprf.prf.prior import PrfPrior, project_tables


def odds_of_record(fit: JointFit, expected: PrfPrior) -> float:
    """Return twice the log of the odds for a PRF that deviates from a known one as roughly as real ones do.

    Parameters
    ----------
    fit : JointFit
        With one smooth PRF for all places.
    expected : PrfPrior
        The known one, with the same columns.
    """
    mean = project_tables(np.log10(expected.base.values)[None], expected.base, expected.basis)[0][:, 0]
    factor = expected.weights_factor if expected.rough_factor is None else expected.rough_factor
    other = replace(fit.problem.prior, weights=mean, weights_factor=factor, weights_sigma=expected.weights_sigma)
    return odds_of_prior(fit, other)


def odds_of_prior(fit: JointFit, other: JointPrior) -> float:
    """Return twice the log of the odds for another prior of the weights, beside which all else is as in the fit.

    Notes
    -----
    The posterior is N(w, C), its prior has the precision A and the mean a, another one B and b. The likelihood is
    exp(s'd - d'L d / 2) in the distance d from w, with L = 1 / C - A and s = A (w - a). Beside the other prior its
    integral is larger by ln|B| - ln|A| - ln|L + B| + ln|L + A| + r'r / (L + B) - (w - b)'B (w - b) + (w - a)'A (w - a),
    twice the logarithm, with r = s - B (w - b). All of them are taken among PRFs of area one.
    """
    problem, n_basis = fit.problem, fit.problem.basis.n_basis
    free = null_space(area_pins(problem, fit.state)[:1, :n_basis])
    at, told = fit.state.weights[0], free.T @ fit.posterior.global_factor[:n_basis]
    a, pulled, cost = _within(free, weights_precision(problem, fit.hyper), at - problem.prior.weights)
    b, pull, misses = _within(free, weights_precision(replace(problem, prior=other), fit.hyper), at - other.weights)
    likelihood = _positive(cho_solve(cho_factor(told @ told.T), np.eye(at.size - 1)) - a)
    r, both = pulled - pull, likelihood + b
    logs = [np.linalg.slogdet(one)[1] for one in (b, a, both, likelihood + a)]
    return float(logs[0] - logs[1] - logs[2] + logs[3] + r @ np.linalg.solve(both, r) - misses + cost)


def _within(free: FloatArray, precision: FloatArray, away: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Return precision, pull and cost of a prior from whose mean a PRF is away, among those that are free."""
    inside, pull = free.T @ precision @ free, free.T @ (precision @ away)
    return inside, pull, float(pull @ np.linalg.solve(inside, pull))


def _positive(square: FloatArray) -> FloatArray:
    """Return the nearest matrix that is not negative: where pixels tell nothing, rounding may make it so."""
    size, axes = np.linalg.eigh(0.5 * (square + square.T))
    return np.asarray((axes * np.maximum(size, 0.0)) @ axes.T)
