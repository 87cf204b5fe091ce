"""DenseSolver: one dense Cholesky factorisation per batch row, for any design."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack, solve_triangular

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.linalg.density import check_observations, log_evidence
from bayesprf.linalg.problem import Design, GaussianPosterior, LinearProblem
from bayesprf.linalg.singular import PIVOT_EPS, singular_error
from bayesprf.linalg.stack import DesignStack


@dataclass(frozen=True, slots=True, eq=False)
class DenseSolver:
    """Solve (X' C^-1 X + P) w = X' C^-1 y + P m by dense Cholesky, row by row.

    Costs n_coeff**3 / 3 per batch row; right for up to some thousand coefficients that all share data.
    """

    def solve(self, problem: LinearProblem) -> GaussianPosterior:
        """Return the posterior of every batch row.

        Parameters
        ----------
        problem : LinearProblem
            Any design.

        Returns
        -------
        GaussianPosterior
            Covariances and draws factorise the row they are asked for again.

        Raises
        ------
        NotPositiveDefiniteError
            If a coefficient is constrained by neither data nor prior.
        InputError
            If an inverse variance is negative or not finite, or a datum in use is not finite.
        """
        check_observations(problem)
        shape = (problem.n_batch, problem.design.n_coeff)
        mean, std, log_det = np.empty(shape), np.empty(shape), np.empty(shape[0])
        with one_blas_thread():
            for batch in range(problem.n_batch):
                lower, rhs = _factorise(problem, batch)
                mean[batch] = _solve(lower, rhs)
                std[batch] = np.sqrt(np.diag(lapack.dpotri(lower, lower=1)[0]))
                log_det[batch] = 2.0 * np.sum(np.log(np.diag(lower)))
        return GaussianPosterior(mean, std, log_evidence(problem, mean, log_det), DenseFactors(problem))


@dataclass(frozen=True, slots=True, eq=False)
class DenseFactors:
    """Covariances and draws of a problem solved densely; keeps the problem, not the factors."""

    problem: LinearProblem

    def covariance(self, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return the posterior covariance of some coefficients, shape (n_batches, n_selected, n_selected)."""
        unit = np.zeros((self.problem.design.n_coeff, coefficients.size))
        unit[coefficients, np.arange(coefficients.size)] = 1.0
        answer = np.empty((batches.size, coefficients.size, coefficients.size))
        with one_blas_thread():
            for row, batch in enumerate(batches):
                half = solve_triangular(_factorise(self.problem, int(batch))[0], unit, lower=True)
                answer[row] = half.T @ half
        return answer

    def noise(self, rng: np.random.Generator, n_draw: int, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return draws of N(0, Lambda^-1), shape (n_draw, n_batches, n_selected)."""
        answer = np.empty((n_draw, batches.size, coefficients.size))
        with one_blas_thread():
            for row, batch in enumerate(batches):
                lower = _factorise(self.problem, int(batch))[0]
                white = rng.standard_normal((lower.shape[0], n_draw))
                answer[:, row] = solve_triangular(lower, white, lower=True, trans="T")[coefficients].T
        return answer

    def prediction_variance(self, batches: IntArray) -> FloatArray:
        """Return x' Lambda^-1 x of every observation, shape (n_batches, n_obs)."""
        design = self.problem.design
        answer = np.empty((batches.size, design.n_obs))
        with one_blas_thread():
            for row, batch in enumerate(batches):
                lower = _factorise(self.problem, int(batch))[0]
                half = solve_triangular(lower, np.eye(design.n_coeff), lower=True)
                answer[row] = np.sum(_predict_row(design, half, int(batch)) ** 2, axis=0)
        return answer


def _predict_row(design: Design, coefficients: FloatArray, batch: int) -> FloatArray:
    """Return X_b w of one batch row for many w, shape (n, n_coeff)."""
    if isinstance(design, DesignStack):
        return np.asarray((design.matrix(batch) @ coefficients.T).T)
    return design.predict(coefficients)


def _factorise(problem: LinearProblem, batch: int) -> tuple[FloatArray, FloatArray]:
    """Return the lower Cholesky factor of Lambda and the right-hand side of one row."""
    gram, rhs = problem.design.normal_equations(problem.data[batch] - problem.known, problem.ivar[batch], batch)
    diagonal = np.diag(gram) + problem.prior.precision
    np.fill_diagonal(gram, diagonal)
    lower, info = lapack.dpotrf(gram, lower=1, clean=1)
    tolerance = PIVOT_EPS * (4 + np.arange(diagonal.size))
    weak = ~(np.diag(lower) ** 2 > tolerance * diagonal)
    if info > 0:
        weak[info - 1] = True
    if weak.any():
        raise singular_error(int(np.argmax(weak)), batch)
    return lower, rhs + problem.prior.precision * problem.prior.mean


def _solve(lower: FloatArray, rhs: FloatArray) -> FloatArray:
    solution: FloatArray = lapack.dpotrs(lower, rhs, lower=1)[0]
    return solution
