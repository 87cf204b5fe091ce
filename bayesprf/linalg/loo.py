"""Exact leave-one-out densities of a solved problem, from the leverages: no observation is ever really left out."""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import UnsupportedError
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.linalg.stack import DesignStack

# Numbers held at once while covariances become variances of predictions.
_CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class LeaveOneOut:
    """What each observation looks like from all others of its batch row.

    Parameters
    ----------
    leverage : ndarray of float64, shape (n_batch, n_obs)
        Share h of the observation in its own fitted value; 0 where ivar is 0.
    log_density : ndarray of float64, shape (n_batch, n_obs)
        log p(y_i | all y but y_i); 0 where ivar is 0.
    """

    leverage: FloatArray
    log_density: FloatArray


def leave_one_out(problem: LinearProblem, posterior: GaussianPosterior) -> LeaveOneOut:
    """Return the exact leave-one-out density of every observation.

    Parameters
    ----------
    problem : LinearProblem
        Its design must be a DesignStack.
    posterior : GaussianPosterior
        Its answer, from BlockSolver.

    Returns
    -------
    LeaveOneOut

    Raises
    ------
    UnsupportedError
        If the design is not a DesignStack, or the posterior not of BlockSolver.

    Notes
    -----
    With v = 1 / ivar, h = x' Lambda^-1 x / v and r = y - x' w, taking an observation away leaves
    y_i ~ N(x' w_(-i), v / (1 - h)) with y_i - x' w_(-i) = r / (1 - h), so that
    log p(y_i | y_(-i)) = -1/2 log(2 pi v / (1 - h)) - r^2 / (2 v (1 - h)) (Sundararajan & Keerthi 2001).
    """
    ivar = problem.ivar
    leverage = ivar * prediction_variance(problem, posterior)
    used = ivar > 0
    residual = np.where(used, problem.data, 0.0) - np.where(used, problem.predict(posterior.mean), 0.0)
    rest = 1.0 - leverage
    with np.errstate(divide="ignore", invalid="ignore"):
        density = 0.5 * np.log(ivar * rest / (2.0 * np.pi)) - 0.5 * ivar * residual**2 / rest
    return LeaveOneOut(leverage, np.where(used, density, 0.0))


def prediction_variance(problem: LinearProblem, posterior: GaussianPosterior) -> FloatArray:
    """Return the posterior variance x' Lambda^-1 x of every observation's mean.

    Parameters
    ----------
    problem : LinearProblem
        Its design must be a DesignStack.
    posterior : GaussianPosterior
        Its answer, from BlockSolver.

    Returns
    -------
    ndarray of float64, shape (n_batch, n_obs)

    Raises
    ------
    UnsupportedError
        If the design is not a DesignStack, or the posterior not of BlockSolver.
    """
    design = problem.design
    if not isinstance(design, DesignStack):
        raise UnsupportedError(f"problem: expected a DesignStack as design, got {type(design).__name__}")
    from bayesprf.linalg.blocks import pair_covariance

    first, second, _ = pair_covariance(posterior, np.arange(0))
    products = _RowProducts(design, first * design.n_coeff + second)
    answer = np.empty(problem.data.shape)
    step = max(1, _CHUNK_ELEMENTS // max(1, design.n_coeff + first.size, design.n_obs))
    for start in range(0, problem.n_batch, step):
        rows = np.arange(start, min(start + step, problem.n_batch))
        covariance = np.concatenate([posterior.std[rows] ** 2, pair_covariance(posterior, rows)[2]], axis=1)
        answer[rows] = products.contract(covariance, rows)
    return answer


@dataclass(frozen=True, slots=True, eq=False)
class _RowProducts:
    """Products x_j x_k inside each row of a design, matched with variances (j = k) and covariances (j < k)."""

    design: DesignStack
    pairs: IntArray
    left: IntArray = field(init=False)
    right: IntArray = field(init=False)
    column: IntArray = field(init=False)
    indptr: IntArray = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        design = self.design
        count = np.diff(design.indptr)
        entry = np.arange(design.indices.size)
        follow = np.repeat(design.indptr[1:], count) - entry
        left = np.repeat(entry, follow)
        right = left + np.arange(left.size) - np.repeat(np.cumsum(follow) - follow, follow)
        j, k = design.indices[left], design.indices[right]
        place = np.searchsorted(self.pairs, j * design.n_coeff + k)
        put(self, "left", left)
        put(self, "right", right)
        put(self, "column", np.where(left == right, j, design.n_coeff + place))
        put(self, "indptr", np.concatenate([[0], np.cumsum(follow)])[design.indptr])

    def contract(self, covariance: FloatArray, rows: IntArray) -> FloatArray:
        """Return sum_jk x_j x_k cov_jk of some batch rows, shape (n_rows, n_obs)."""
        if self.design.is_static:
            return np.ascontiguousarray((self._matrix(0) @ covariance.T).T)
        return np.stack([self._matrix(int(row)) @ one for row, one in zip(rows, covariance, strict=True)])

    def _matrix(self, batch: int) -> csr_matrix:
        values = self.design.values(batch)
        products = values[self.left] * values[self.right]
        products[self.left != self.right] *= 2.0
        shape = (self.design.n_obs, self.design.n_coeff + self.pairs.size)
        return csr_matrix((products, self.column, self.indptr), shape=shape)
