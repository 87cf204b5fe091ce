"""RobustSolver: cosmic rays and bad pixels, by reweighting around any solver."""

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import check_positive
from bayesprf.errors import ConvergenceWarning, warn
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.linalg.solvers.solver import Solver, choose_solver

REPORTED_WEIGHT = 0.15
"""Definition: observations with less than this share of their weight are reported as down-weighted: with Student-t
weights of 4 degrees of freedom those beyond 5.4 standard deviations, one Gaussian number in 15 million."""


class Weighting(Protocol):
    """How much weight an observation keeps."""

    def weights(self, squares: FloatArray) -> FloatArray:
        """Return weights from 0 up, given squared residuals in units of the errors."""
        ...


@dataclass(frozen=True, slots=True)
class StudentWeights:
    """Student-t errors with `nu` degrees of freedom: weight (nu + 1) / (nu + square), never quite 0.

    Parameters
    ----------
    nu : float
        Degrees of freedom; 4 keeps 93 % of the information of Gaussian data.
    """

    nu: float = 4.0

    def __post_init__(self) -> None:
        check_positive(self.nu, "nu")

    def weights(self, squares: FloatArray) -> FloatArray:
        """Return the mean of the scale mixture's weight (Lange, Little & Taylor 1989)."""
        return (self.nu + 1.0) / (self.nu + squares)


@dataclass(frozen=True, slots=True, eq=False)
class RobustFit:
    """An answer with outliers held down, and which they are.

    Parameters
    ----------
    posterior : GaussianPosterior
        Of the reweighted problem; its evidence is that of the reweighted data and compares with no other.
    batch, observation : ndarray of int64, shape (n_outlier,)
        Where the observations lie that lost more than 85 % of their weight.
    weight : ndarray of float64, shape (n_outlier,)
        What is left of it, 0 to 0.15.
    converged : ndarray of bool, shape (n_batch,)
        Whether the means stopped moving.
    n_iter : int
        Rounds of reweighting.
    problem : LinearProblem
        The reweighted problem that `posterior` answers.
    """

    posterior: GaussianPosterior
    batch: IntArray
    observation: IntArray
    weight: FloatArray
    converged: BoolArray
    n_iter: int
    problem: LinearProblem


@dataclass(frozen=True, slots=True, eq=False)
class RobustSolver:
    """Solve, weigh each observation by its residual, and solve again until the means rest.

    Parameters
    ----------
    weighting : Weighting
        How much weight an observation keeps.
    inner : Solver, optional
        Solves the weighted problems; chosen from the problem when omitted.
    max_iter : int
        Most rounds.
    tolerance : float
        A row is done when no mean moved by more than this share of its standard deviation.
    """

    weighting: Weighting = field(default_factory=StudentWeights)
    inner: Solver | None = None
    max_iter: int = 50
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_positive(self.max_iter, "max_iter")
        check_positive(self.tolerance, "tolerance")

    def solve(self, problem: LinearProblem) -> GaussianPosterior:
        """Return the posterior alone; see `fit`."""
        return self.fit(problem).posterior

    def fit(self, problem: LinearProblem) -> RobustFit:
        """Return the posterior and the observations that were held down.

        Parameters
        ----------
        problem : LinearProblem
            Any problem.

        Returns
        -------
        RobustFit

        Warns
        -----
        ConvergenceWarning
            If some rows still moved after `max_iter` rounds.

        Notes
        -----
        Iteratively reweighted least squares: with Student-t errors each round is one step of expectation and
        maximisation, and climbs the posterior density of the coefficients.
        """
        inner = self.inner or choose_solver(problem)
        first = inner.solve(problem)
        mean, weights = first.mean.copy(), np.ones_like(problem.ivar)
        moving, n_iter = np.arange(problem.n_batch), 0
        while moving.size and n_iter < self.max_iter:
            part = problem.take(moving)
            weights[moving] = self.weighting.weights(_squares(part, mean[moving]))
            posterior = inner.solve(replace(part, ivar=part.ivar * weights[moving]))
            step = np.abs(posterior.mean - mean[moving]) / posterior.std
            mean[moving] = posterior.mean
            moving = moving[step.max(axis=1, initial=0.0) > self.tolerance]
            n_iter += 1
        if moving.size:
            warn(
                f"RobustSolver: {moving.size} of {problem.n_batch} batch rows still moved after {n_iter} rounds;"
                " raise max_iter",
                ConvergenceWarning,
            )
        converged = np.isin(np.arange(problem.n_batch), moving, invert=True)
        held = (weights < REPORTED_WEIGHT) & (problem.ivar > 0)
        batch, observation = np.nonzero(held)
        reweighted = replace(problem, ivar=problem.ivar * weights)
        return RobustFit(inner.solve(reweighted), batch, observation, weights[held], converged, n_iter, reweighted)


def _squares(problem: LinearProblem, mean: FloatArray) -> FloatArray:
    """Return ivar (y - X w)**2 of every observation, 0 where it is dropped."""
    used = problem.ivar > 0
    residual = np.where(used, problem.data, 0.0) - np.where(used, problem.predict(mean), 0.0)
    return problem.ivar * residual**2
