"""Coefficients that all batch rows share, found with the rows' own coefficients integrated out."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from bayesprf.arrays import FloatArray
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.stack import stack_of

# Numbers held at once while batch rows are summed up.
_CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class RowSum:
    """What all batch rows together say about a pattern that each of them contains.

    Parameters
    ----------
    information : ndarray of float64, shape (n_obs, n_obs)
        S = sum_b K_b^-1, with K_b = C_b + X_b P^-1 X_b' the covariance of a row's data.
    residual : ndarray of float64, shape (n_obs,)
        v = sum_b K_b^-1 (y_b - known - X_b m).

    Notes
    -----
    For y_b ~ N(X_b w_b + known + q, C_b) with the same q at all rows and w_b ~ N(m, P^-1) integrated out, log p(y | q)
    is q' v - q' S q / 2 plus a constant.
    """

    information: FloatArray
    residual: FloatArray

    def with_errors(self, factor: FloatArray) -> "RowSum":
        """Integrate out a further common pattern R u, u ~ N(0, 1).

        Parameters
        ----------
        factor : ndarray of float64, shape (n_obs, n_error)
            R; R R' is the covariance of the pattern.

        Returns
        -------
        RowSum
            S - S R M^-1 R' S and v - S R M^-1 R' v with M = 1 + R' S R.
        """
        response = self.information @ factor
        inner = cho_factor(np.eye(factor.shape[1]) + factor.T @ response)
        return RowSum(
            self.information - response @ cho_solve(inner, response.T),
            self.residual - response @ cho_solve(inner, factor.T @ self.residual),
        )

    def project(self, column: FloatArray) -> tuple[float, float]:
        """Return precision q' S q and right-hand side q' v of the amplitude of a pattern q, shape (n_obs,)."""
        return float(column @ self.information @ column), float(column @ self.residual)


def sum_rows(problem: LinearProblem) -> RowSum:
    """Sum the information of all batch rows of a small problem about a common pattern.

    Parameters
    ----------
    problem : LinearProblem
        Its design is a DesignStack; n_obs**2 numbers are kept, so it should have hundreds of observations.

    Returns
    -------
    RowSum

    Notes
    -----
    K^-1 = D - D X Lambda^-1 X' D with D = C^-1 and Lambda = X' D X + P (Woodbury).
    """
    n_obs, n_coeff = problem.design.n_obs, problem.design.n_coeff
    information, residual = np.zeros((n_obs, n_obs)), np.zeros(n_obs)
    step = max(1, _CHUNK_ELEMENTS // max(1, n_obs * (n_coeff + 2)))
    with one_blas_thread():
        for start in range(0, problem.n_batch, step):
            rows = slice(start, start + step)
            design = dense_rows(problem, rows)
            ivar = problem.ivar[rows]
            offset = np.where(ivar > 0, problem.data[rows], 0.0) - problem.known - design @ problem.prior.mean
            weighted = ivar[:, :, None] * design
            gram = design.transpose(0, 2, 1) @ weighted
            gram[:, np.arange(n_coeff), np.arange(n_coeff)] += problem.prior.precision
            half = np.linalg.solve(np.linalg.cholesky(gram), weighted.transpose(0, 2, 1))
            scaled = np.where(ivar > 0, ivar * offset, 0.0)
            shared = np.einsum("bko,bo->bk", half, np.where(ivar > 0, offset, 0.0))
            residual += scaled.sum(axis=0) - np.einsum("bko,bk->o", half, shared)
            flat = half.reshape(-1, n_obs)
            information += np.diag(ivar.sum(axis=0)) - flat.T @ flat
    return RowSum(information, residual)


def dense_rows(problem: LinearProblem, rows: slice) -> FloatArray:
    """Return the matrices X_b of some batch rows.

    Parameters
    ----------
    problem : LinearProblem
        Its design is a DesignStack.
    rows : slice
        Which rows.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_obs, n_coeff)

    Raises
    ------
    UnsupportedError
        If the design is not a DesignStack.
    """
    design = stack_of(problem)
    n_rows = problem.data[rows].shape[0]
    if design.mix is None:
        return np.broadcast_to(design.matrix().toarray(), (n_rows, design.n_obs, design.n_coeff))
    observation = np.repeat(np.arange(design.n_obs), np.diff(design.indptr))
    matrices = np.zeros((n_rows, design.n_obs, design.n_coeff))
    matrices[:, observation, design.indices] = design.mix[rows] @ design.parts
    return matrices
