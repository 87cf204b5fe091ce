"""Fluxes that tolerate cosmic rays: pixels far from what they usually are lose weight at that cadence."""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray, brief, brief_html
from bayesprf.errors import InputError
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.linalg.solvers.robust import RobustFit, RobustSolver, StudentWeights, Weighting
from bayesprf.linalg.solvers.solver import Solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.misfit import MIN_CADENCES, find_misfit


@dataclass(frozen=True, slots=True, eq=False)
class DownWeighted:
    """Pixels that a robust fit down-weighted.

    Parameters
    ----------
    cadence, pixel : ndarray of int64, shape (n_held,)
        Where.
    weight : ndarray of float64, shape (n_held,)
        Share of the weight that is left, 0 to 0.15.
    """

    cadence: IntArray
    pixel: IntArray
    weight: FloatArray

    __repr__, _repr_html_ = brief, brief_html

    def __str__(self) -> str:
        """Give their number."""
        return f"{self.pixel.size} outliers in {np.unique(self.cadence).size} cadences"

    @classmethod
    def empty(cls) -> "DownWeighted":
        """Return a record of no pixel."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    def touches(self, design: DesignStack, n_time: int) -> BoolArray:
        """Return at which cadences a source has a down-weighted pixel, shape (n_time, n_source)."""
        held = csr_matrix((np.ones(self.weight.size), (self.cadence, self.pixel)), shape=(n_time, design.n_obs))
        return np.asarray((held @ (design.matrix() != 0).astype(np.float64)).toarray() > 0)


@dataclass(frozen=True, slots=True, eq=False)
class PixelWeights:
    """Weights of residuals in units of each pixel's own scatter.

    Parameters
    ----------
    scatter : ndarray of float64, shape (n_pixel,)
        Scatter of the residuals over their errors, at least 1.
    inner : Weighting
        Weights of numbers with scatter 1.

    Notes
    -----
    All weights carry one factor more, with which the quoted errors are those of Gaussian data: an estimate with
    weights w(z) has variance E[w^2 z^2] / E[w z^2]^2, where the weighted sum of inverse variances gives 1 / E[w]
    (Huber 1981).
    """

    scatter: FloatArray
    inner: Weighting = field(default_factory=StudentWeights)

    def weights(self, squares: FloatArray) -> FloatArray:
        """Return weights, given squared residuals in units of the errors, shape (n_batch, n_pixel)."""
        return _honest_factor(self.inner) * self.inner.weights(squares / self.scatter**2)


def _honest_factor(weighting: Weighting) -> float:
    node = np.linspace(-12.0, 12.0, 4801)
    share = np.exp(-0.5 * node**2)
    share /= share.sum()
    weight = weighting.weights(node**2)
    square = float(np.sum(share * weight * node**2))
    return square**2 / float(np.sum(share * weight) * np.sum(share * (weight * node) ** 2))


def fit_robustly(problem: LinearProblem, solver: Solver) -> RobustFit:
    """Solve a flux problem with outliers down-weighted.

    Parameters
    ----------
    problem : LinearProblem
        Batch rows are cadences, observations pixels.
    solver : Solver
        Solves the reweighted problems.

    Returns
    -------
    RobustFit
        Its problem holds the lower weights, and each pixel's usual misfit: in `known` if it is constant, else taken
        off the data; its evidence is NaN, because the weights were chosen by looking at the data.

    Raises
    ------
    InputError
        If there are less than five cadences.

    Warns
    -----
    ConvergenceWarning
        If some cadences still moved after 50 rounds.

    Notes
    -----
    An error of the PRF is the same at all cadences and many standard deviations in bright stars: taken as outliers,
    their cores would be thrown away. So each pixel's residual counts from its median over the cadences, in units of
    its own scatter; over stretches of cadences where the image drifts (`find_misfit`). That median is kept as known
    light: a cadence that loses a pixel then keeps its flux.
    """
    if problem.n_batch < MIN_CADENCES:
        raise InputError(
            f"robust: expected at least {MIN_CADENCES} cadences, which tell how far a pixel usually is from the model,"
            f" got {problem.n_batch}; fit without robust"
        )
    usual = find_misfit(problem, solver.solve(problem).mean)
    if usual.is_constant:
        centred = replace(problem, known=problem.known + usual.values[0])
    else:
        centred = replace(problem, data=problem.data - usual.at(np.arange(problem.n_batch)))
    fit = RobustSolver(PixelWeights(usual.scatter), solver).fit(replace(centred, noise_ratio=None))
    if problem.noise_ratio is not None:
        weighted = replace(fit.problem, noise_ratio=problem.noise_ratio)
        fit = replace(fit, problem=weighted, posterior=solver.solve(weighted))
    return replace(fit, posterior=_without_evidence(fit.posterior))


def _without_evidence(posterior: GaussianPosterior) -> GaussianPosterior:
    return replace(posterior, log_evidence=np.full_like(posterior.log_evidence, np.nan))
