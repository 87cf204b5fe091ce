"""WeightedSolver: weights that are not the inverse variances of the noise, and errors that stay those of the noise."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import UnsupportedError
from bayesprf.linalg.problem import Factors, GaussianPosterior, LinearProblem
from bayesprf.linalg.solvers.solver import Solver
from bayesprf.linalg.stack import DesignStack, stack_of

# Numbers held at once while covariances are formed.
_CHUNK_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSolver:
    """Solve with the weights W = `ivar`, and quote errors for noise of variance C = `noise_ratio` / `ivar`.

    Parameters
    ----------
    inner : Solver
        Solves the problem as if C were W^-1; for a DesignStack.

    Notes
    -----
    The estimate w = A^-1 (X' W y + P m), A = X' W X + P, errs by A^-1 (X' W n - P (w_true - m)) if the data have the
    noise n ~ N(0, C) and the coefficients their prior: by the covariance A^-1 (X' W C W X + P) A^-1 (Huber 1967, with
    a prior). For C = W^-1 this is A^-1. The evidence is that of the noise C, whatever the weights.
    """

    inner: Solver

    def solve(self, problem: LinearProblem) -> GaussianPosterior:
        """Return means by the weights, and standard deviations, covariances and evidence by the noise.

        Parameters
        ----------
        problem : LinearProblem
            With a `noise_ratio`, or an ordinary one.

        Returns
        -------
        GaussianPosterior
        """
        if problem.noise_ratio is None:
            return self.inner.solve(problem)
        found = self.inner.solve(replace(problem, noise_ratio=None))
        if found.factors is None:
            raise UnsupportedError("inner: expected a solver that keeps its factorisation, got one that does not")
        noise = self.inner.solve(replace(problem, ivar=problem.noise_ivar, noise_ratio=None))
        factors = WeightedFactors(found.factors, problem)
        return GaussianPosterior(found.mean, factors.std(), noise.log_evidence, factors)


@dataclass(frozen=True, eq=False)
class Part:
    """Some batch rows of a component: coefficients that share observations, and those observations.

    Parameters
    ----------
    observation : ndarray of int64, shape (n_obs,)
        Indices into the whole problem.
    design : ndarray of float64, shape (n, n_obs, n_coeff)
        X; one row where it never changes.
    inverse : ndarray of float64, shape (n, n_coeff, n_coeff)
        A^-1.
    excess : ndarray of float64, shape (n, n_obs)
        W (C W - 1).
    """

    observation: IntArray
    design: FloatArray
    inverse: FloatArray
    excess: FloatArray

    @cached_property
    def covariance(self) -> FloatArray:
        """A^-1 + A^-1 X' W (C W - 1) X A^-1, shape (n, n_coeff, n_coeff)."""
        inner = (self.design * self.excess[:, :, None]).transpose(0, 2, 1) @ self.design
        return np.asarray(self.inverse + self.inverse @ inner @ self.inverse)


@dataclass(frozen=True, eq=False)
class WeightedFactors:
    """Covariances and draws of a weighted fit, formed component by component.

    Parameters
    ----------
    inner : Factors
        Of the fit whose noise is W^-1.
    problem : LinearProblem
        The problem; its design is a DesignStack.
    """

    inner: Factors
    problem: LinearProblem

    @cached_property
    def design(self) -> DesignStack:
        """The design of the problem."""
        return stack_of(self.problem)

    @cached_property
    def label(self) -> IntArray:
        """Component of each coefficient, shape (n_coeff,)."""
        return np.asarray(connected_components(self._overlaps, directed=False)[1], np.int64)

    @cached_property
    def _overlaps(self) -> csr_matrix:
        """Which coefficients share observations, shape (n_coeff, n_coeff)."""
        return self.design.overlaps()

    @cached_property
    def excess(self) -> FloatArray:
        """W (C W - 1), shape (n_batch, n_obs)."""
        ivar, ratio = self.problem.ivar, self.problem.noise_ratio
        return np.zeros_like(ivar) if ratio is None else np.where(ivar > 0, ivar * (ratio - 1.0), 0.0)

    def std(self) -> FloatArray:
        """Return standard deviations of all coefficients, shape (n_batch, n_coeff)."""
        from bayesprf.linalg.solvers.blocks import BlockFactors

        if isinstance(self.inner, BlockFactors):
            return self.inner.weighted_std(self.excess)
        answer = np.empty((self.problem.n_batch, self.design.n_coeff))
        for members in self._components(np.arange(self.design.n_coeff)):
            for rows, part in self._parts(members, np.arange(self.problem.n_batch)):
                answer[np.ix_(rows, members)] = np.sqrt(np.diagonal(part.covariance, axis1=1, axis2=2))
        return answer

    def covariance(self, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return the covariance of some coefficients, shape (n_batches, n_selected, n_selected)."""
        answer = np.zeros((batches.size, coefficients.size, coefficients.size))
        for members in self._components(coefficients):
            places = np.flatnonzero(np.isin(coefficients, members))
            inside = np.searchsorted(members, coefficients[places])
            for rows, part in self._parts(members, batches):
                answer[np.ix_(rows, places, places)] = part.covariance[:, inside[:, None], inside]
        return answer

    def noise(self, rng: np.random.Generator, n_draw: int, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return draws of N(0, covariance), shape (n_draw, n_batches, n_selected)."""
        lower = np.linalg.cholesky(self.covariance(batches, coefficients))
        return np.einsum("bij,dbj->dbi", lower, rng.standard_normal((n_draw, batches.size, coefficients.size)))

    def prediction_variance(self, batches: IntArray) -> FloatArray:
        """Return the variance of the model of every observation, shape (n_batches, n_obs)."""
        answer = np.zeros((batches.size, self.design.n_obs))
        for members in self._components(np.arange(self.design.n_coeff)):
            for rows, part in self._parts(members, batches):
                variance = np.sum((part.design @ part.covariance) * part.design, axis=2)
                answer[np.ix_(rows, part.observation)] = variance
        return answer

    def pairs(self, batches: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Return coefficients i < j that share an observation and their covariance, shape (n_batches, n_pair)."""
        first, second = self._overlaps.nonzero()
        order = np.lexsort((second, first))
        order = order[first[order] < second[order]]
        first, second = first[order].astype(np.int64), second[order].astype(np.int64)
        values = np.empty((batches.size, first.size))
        for members in self._components(np.arange(self.design.n_coeff)):
            places = np.flatnonzero(self.label[first] == self.label[members[0]])
            i, j = np.searchsorted(members, first[places]), np.searchsorted(members, second[places])
            for rows, part in self._parts(members, batches):
                values[np.ix_(rows, places)] = part.covariance[:, i, j]
        return first, second, values

    def _components(self, coefficients: IntArray) -> Iterator[IntArray]:
        """Yield the components that some coefficients belong to, as ascending indices of their coefficients."""
        for label in np.unique(self.label[coefficients]):
            yield np.flatnonzero(self.label == label)

    def _parts(self, members: IntArray, batches: IntArray) -> Iterator[tuple[IntArray, Part]]:
        """Yield places in `batches` and what a component has there, some rows at a time."""
        design = self.design
        entry = np.flatnonzero(self.label[design.indices] == self.label[members[0]])
        owner = np.searchsorted(design.indptr, entry, side="right") - 1
        seen, row = np.unique(owner, return_inverse=True)
        column = np.searchsorted(members, design.indices[entry])
        step = max(1, _CHUNK_ELEMENTS // max(1, seen.size * members.size))
        for start in range(0, batches.size, step):
            rows = np.arange(start, min(start + step, batches.size))
            at = batches[rows]
            values = design.parts[:, entry] if design.mix is None else design.mix[at] @ design.parts[:, entry]
            matrix = np.zeros((values.shape[0], seen.size, members.size))
            matrix[:, row, column] = values
            yield rows, Part(seen, matrix, self.inner.covariance(at, members), self.excess[np.ix_(at, seen)])
