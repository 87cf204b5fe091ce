"""The coefficients given the hyperparameters, exactly; and the density of the hyperparameters without coefficients."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.blocks import BlockFactors
from bayesprf.linalg.compiled.work import Prior
from bayesprf.linalg.problem import GaussianPosterior, GaussianPrior, LinearProblem
from bayesprf.sampling.hyper import Hyperparameters, proper_design


@dataclass(frozen=True, slots=True)
class HyperValues:
    """Values of all hyperparameters.

    Parameters
    ----------
    width : ndarray of float64, shape (n_width,)
        Factor on the prior widths of each group of coefficients.
    zero_point, noise_scale, jitter : float
        As in `Hyperparameters`.
    """

    width: FloatArray
    zero_point: float
    noise_scale: float
    jitter: float

    @classmethod
    def split(cls, values: FloatArray) -> "HyperValues":
        """Read them from one vector, the widths first, then in the order above."""
        return cls(values[:-3], float(values[-3]), float(values[-2]), float(values[-1]))


@dataclass(frozen=True, slots=True, eq=False)
class Conditional:
    """A linear problem as a function of its hyperparameters; the pattern of the matrices is analysed once.

    Parameters
    ----------
    problem : LinearProblem
        With a DesignStack and a proper prior.
    hyper : Hyperparameters
        Resolved.
    group : ndarray of int64, shape (n_coeff,)
        Group of each coefficient, each with a width.
    variance : ndarray of float64, shape (n_batch, n_obs)
        Variances of the data, infinite where there are none.
    factors : BlockFactors
        The problem as the solver wants it.
    """

    problem: LinearProblem
    hyper: Hyperparameters
    group: IntArray
    variance: FloatArray
    factors: BlockFactors

    @classmethod
    def of(cls, problem: LinearProblem, hyper: Hyperparameters) -> "Conditional":
        """Prepare a problem with resolved hyperparameters."""
        design = proper_design(problem)
        used = problem.ivar > 0
        variance = np.where(used, 1.0 / np.where(used, problem.ivar, 1.0), np.inf)
        group = hyper.groups(design.n_coeff)
        return cls(problem, hyper, group, variance, BlockFactors.prepare(problem, n_threads=1))

    @property
    def is_shared(self) -> bool:
        """Whether all batch rows have the same posterior covariance."""
        static = getattr(self.problem.design, "is_static", False)
        return bool(static and np.all(self.variance == self.variance[:1]))

    def at(self, values: HyperValues) -> LinearProblem:
        """Return the problem at some hyperparameters.

        Parameters
        ----------
        values : HyperValues
            Theirs.

        Returns
        -------
        LinearProblem
        """
        ivar = 1.0 / (values.noise_scale**2 * (self.variance + values.jitter**2))
        prior = self.problem.prior
        precision = prior.precision / values.width[self.group] ** 2
        return replace(self.problem, ivar=ivar, prior=GaussianPrior(values.zero_point * prior.mean, precision))

    def draw(self, values: HyperValues, rng: np.random.Generator) -> FloatArray:
        """Draw the coefficients given the hyperparameters.

        Parameters
        ----------
        values : HyperValues
            Given.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of float64, shape (n_batch, n_coeff)
        """
        return self.solve(self.at(values)).draws(1, rng)[0]

    def solve(self, problem: LinearProblem) -> GaussianPosterior:
        """Return the posterior of the coefficients of a problem made by `at`.

        Parameters
        ----------
        problem : LinearProblem
            Data and pattern of `self.problem`.

        Returns
        -------
        GaussianPosterior
        """
        order, prior = self.factors.plan.order, problem.prior
        factors = replace(self.factors, ivar=problem.ivar, prior=Prior(prior.mean[order], prior.precision[order]))
        answer = factors.solve()
        log_prior = 0.5 * float(np.sum(np.log(prior.precision)))
        return GaussianPosterior(answer.mean, answer.std, answer.log_density + log_prior, factors)

    def density(self, values: HyperValues) -> tuple[float, FloatArray]:
        """Return log p(y | hyperparameters) and its gradient.

        Parameters
        ----------
        values : HyperValues
            Where.

        Returns
        -------
        value : float
        gradient : ndarray of float64, shape (n_width + 3,)

        Notes
        -----
        Fisher's identity: the gradient is the posterior mean of that of log p(y, w | hyperparameters). With variances
        V = k**2 (C + j**2), and <.> the posterior mean, d/d log v = sum [<(w - z m)**2> / (v s)**2 - 1] over the
        coefficients of a group, d/d log V = 1/2 sum [<(y - X w)**2> / V - 1] per observation.
        """
        problem = self.at(values)
        posterior, prior = self.solve(problem), problem.prior
        away = posterior.mean - prior.mean
        excess = np.sum(prior.precision * (away**2 + posterior.std**2) - 1.0, axis=0)
        width = np.bincount(self.group, weights=excess, minlength=values.width.size) / values.width
        zero_point = float(np.sum(away @ (prior.precision * self.problem.prior.mean)))
        noise = self._noise_gradient(problem, posterior, values)
        return float(posterior.log_evidence.sum()), np.concatenate([width, [zero_point], noise])

    def _noise_gradient(self, problem: LinearProblem, posterior: GaussianPosterior, values: HyperValues) -> FloatArray:
        """Return the derivatives with noise scale and jitter."""
        used = problem.ivar > 0
        residual = np.where(used, problem.data, 0.0) - problem.predict(posterior.mean)
        variance = posterior.prediction_variance(batches=[0] if self.is_shared else None)
        excess = np.where(used, problem.ivar * (residual**2 + variance) - 1.0, 0.0)
        in_jitter = values.noise_scale**2 * values.jitter * float(np.sum(problem.ivar * excess))
        return np.array([float(excess.sum()) / values.noise_scale, in_jitter])
