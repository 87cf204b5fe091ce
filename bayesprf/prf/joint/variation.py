"""Whether the stars of a constant PRF agree on a plane over the field, before one is fitted."""

from dataclasses import replace

import numpy as np
from scipy.sparse import identity

from bayesprf.arrays import FloatArray
from bayesprf.prf.joint.hyper import JointHyper
from bayesprf.prf.joint.objective import JointFit
from bayesprf.prf.joint.problem import JointProblem, global_columns, look
from bayesprf.scene.field_prf import field_columns


def variation_score(fit: JointFit) -> float:
    """Return how far stars agree on a PRF that varies as a plane over the field, in standard deviations.

    Parameters
    ----------
    fit : JointFit
        A fit of a constant PRF.

    Returns
    -------
    float
        0 where no two stars tell.

    Notes
    -----
    The score test of a variance that is zero (Rao 1948; Lin 1997, Biometrika 84, 309): with the columns G of the
    plane's weights, of prior covariance L L', the log evidence rises with their variance by half of |y|**2 less its
    expectation, y = L'G'W r. The sum over the pixels in which each star is the brightest, y = sum y_i, gives what
    stars have in common, sum_(i != j) y_i'y_j, which is zero on average where they err each on its own, in however
    many pixels, and has the variance 2 sum_(i != j) (y_i'y_j)**2.
    """
    problem = replace(fit.problem, columns=field_columns(fit.problem.place, 1))
    state = replace(fit.state, weights=np.concatenate([fit.state.weights, np.zeros((2, problem.basis.n_basis))]))
    view = look(problem, state)
    columns = global_columns(problem, state, view)[:, problem.basis.n_basis : problem.n_weight]
    score = columns * (fit.weight * np.where(fit.weight > 0, problem.flux - view.image, 0.0))[:, None]
    pairs, light = problem.pairs, state.flux[problem.pairs.source] * view.values
    order = np.argsort(light, kind="stable")
    star = np.zeros(pairs.n_pixel, np.int64)
    star[pairs.pixel[order]] = pairs.source[order]
    by_star = np.zeros((problem.n_source, score.shape[1]))
    np.add.at(by_star, star, score)
    likeness = _scaled(by_star, problem)
    np.fill_diagonal(likeness, 0.0)
    spread = float(np.sqrt(2.0 * np.sum(likeness**2)))
    return float(likeness.sum()) / spread if spread > 0 else 0.0


def _scaled(by_star: FloatArray, problem: JointProblem) -> FloatArray:
    """Return the products y_i'y_j of the stars' scores, by the prior covariance of the plane's weights."""
    hyper, each = JointHyper(), identity(problem.basis.n_basis, format="csr")
    kinds = (problem.bends, hyper.tau_field), (problem.turns, hyper.turn_field), (each, hyper.level_field)
    precision = sum((rows.T @ rows).toarray() / width**2 for rows, width in kinds)
    parts = np.split(by_star, 2, axis=1)
    return np.asarray(sum(part @ np.linalg.solve(precision, part.T) for part in parts))
