"""A joint fit of few stars linearised about a state, beside a sky: evidence of what else the pixels may hold."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from bayesprf.arrays import FloatArray
from bayesprf.prf.joint.hyper import JointHyper, pixel_variance
from bayesprf.prf.joint.problem import JointProblem, JointState, global_columns, growth, look, star_columns
from bayesprf.prf.joint.step import all_beliefs
from bayesprf.scene.pixels import PixelTable

N_SKY = 3
"""Columns of the sky: a level and two slopes."""


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """The equations at some errors of the model, at the pixels that are used.

    Parameters
    ----------
    height : float
        -2 ln Z.
    variance : ndarray of float64, shape (n_used,)
        Of the residuals.
    lower, scale : ndarray of float64, shapes (n_parameter, n_parameter) and (n_parameter,)
        The Cholesky factor of the normal matrix A, scaled by the roots of its diagonal, and one over these.
    weighted : ndarray of float64, shape (n_used, n_parameter)
        J over the variance.
    pulled : ndarray of float64, shape (n_parameter,)
        A^-1/2 g.
    """

    height: float
    variance: FloatArray
    lower: FloatArray
    scale: FloatArray
    weighted: FloatArray
    pulled: FloatArray

    def across(self, light: FloatArray) -> FloatArray:
        """Return A^-1/2 J'W c of some light c, shape (n_used, n): (n_parameter, n)."""
        return _halved(self.lower, self.scale, self.weighted.T @ light)


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """An image linearised about a state, at the pixels that are used.

    Parameters
    ----------
    residual, ivar : ndarray of float64, shape (n_used,)
        Data less model, electron / s, and inverse variances.
    growth : ndarray of float64, shape (n_used, n_kind)
        What the relative errors are multiplied by.
    columns : ndarray of float64, shape (n_used, n_parameter)
        J.
    precision, pull : ndarray of float64, shapes (n_parameter, n_parameter) and (n_parameter,)
        P and p.

    Notes
    -----
    About a state, with the columns J of all parameters, their prior precision P and pull p, and a level and slope of
    the sky beside, the evidence of the residuals r with the variances V = 1 / W is

        -2 ln Z = sum ln V + r'W r - g'A^-1 g + ln |A|,  A = J'W J + P,  g = J'W r + p.
    """

    residual: FloatArray
    ivar: FloatArray
    growth: FloatArray
    columns: FloatArray
    precision: FloatArray
    pull: FloatArray

    @classmethod
    def about(
        cls, pixels: PixelTable, problem: JointProblem, state: JointState, hyper: JointHyper, *, n_sky: int = N_SKY
    ) -> "Linear":
        """Linearise, beside the first columns of the sky."""
        view, used = look(problem, state), problem.used
        noise = float(np.median(problem.ivar[used])) ** -0.5
        precision, pull = all_beliefs(problem, state, hyper, noise)
        sky = _sky_columns(pixels)[used, :n_sky]
        columns = [global_columns(problem, state, view)[used], star_columns(problem, state, view)[used].toarray(), sky]
        n = pull.size
        whole = np.zeros((n + n_sky, n + n_sky))
        whole[:n, :n] = precision
        # A sky may be as bright as the brightest pixel.
        whole[range(n, n + n_sky), range(n, n + n_sky)] = np.max(np.abs(problem.flux[used]), initial=noise) ** -2.0
        return cls(
            residual=(problem.flux - view.image)[used],
            ivar=problem.ivar[used],
            growth=growth(problem, state, view)[used],
            columns=np.concatenate(columns, axis=1),
            precision=whole,
            pull=np.append(pull, np.zeros(n_sky)),
        )

    def at(self, errors: FloatArray) -> Solved:
        """Solve at some relative errors of the model."""
        variance = pixel_variance(self.ivar, self.growth, errors)
        weighted = self.columns / variance[:, None]
        normal = weighted.T @ self.columns + self.precision
        scale = 1.0 / np.sqrt(np.diag(normal))
        lower = np.linalg.cholesky(normal * np.outer(scale, scale))
        pulled = _halved(lower, scale, weighted.T @ self.residual + self.pull)
        height = np.sum(np.log(variance)) + self.residual @ (self.residual / variance) - pulled @ pulled
        height += 2.0 * np.sum(np.log(np.diag(lower))) - 2.0 * np.sum(np.log(scale))
        return Solved(float(height), variance, lower, scale, weighted, pulled)


def _halved(lower: FloatArray, scale: FloatArray, right: FloatArray) -> FloatArray:
    """Return A^-1/2 times some columns."""
    return np.asarray(solve_triangular(lower, (right.T * scale).T, lower=True))


def _sky_columns(pixels: PixelTable) -> FloatArray:
    """Return a level and slopes along columns and rows, shape (n_pixel, 3)."""
    axes = [(one - one.mean()) / max(np.ptp(one), 1.0) for one in (pixels.column, pixels.row)]
    return np.stack([np.ones(pixels.n_pixel), *axes], axis=1)
