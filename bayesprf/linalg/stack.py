"""DesignStack: one sparsity pattern whose values may differ between batch rows."""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_shape
from bayesprf.errors import InputError, ShapeError, UnsupportedError
from bayesprf.linalg.problem import LinearProblem


@dataclass(frozen=True, slots=True, eq=False)
class DesignStack:
    """Sparse matrices X_b of shape (n_obs, n_coeff) with values ``mix[b] @ parts`` on one CSR pattern.

    A static PRF has one part and no mix; a PRF that changes in time is the mean PRF times a few
    time vectors, so a handful of parts describes every cadence and no matrix is stored per cadence.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_obs + 1,)
        Row pointers: observation i owns entries ``indptr[i]:indptr[i + 1]``.
    indices : ndarray of int64, shape (nnz,)
        Coefficient of each entry, sorted within a row.
    parts : ndarray of float64, shape (n_part, nnz)
        Values of each part on the pattern.
    n_coeff : int
        Number of columns.
    mix : ndarray of float64, shape (n_batch, n_part), optional
        Weight of each part in each batch row; omitted, the single part is used at every row.

    Raises
    ------
    ShapeError
        If the arrays do not agree.
    InputError
        If an index is out of range, or the indices of a row do not ascend.
    """

    indptr: IntArray
    indices: IntArray
    parts: FloatArray
    n_coeff: int
    mix: FloatArray | None = None
    n_obs: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_obs", self.indptr.size - 1)
        if self.parts.ndim != 2 or self.parts.shape[1] != self.indices.size:
            raise ShapeError(f"parts: expected shape (n_part, {self.indices.size}), got {self.parts.shape}")
        if self.mix is None and self.parts.shape[0] != 1:
            raise ShapeError(
                f"mix: expected shape (n_batch, {self.parts.shape[0]}), got None; give one row per batch row"
            )
        if self.mix is not None:
            check_shape(self.mix, (self.mix.shape[0], self.parts.shape[0]), "mix", "n_batch, n_part")
        if self.indptr[-1] != self.indices.size:
            raise ShapeError(f"indptr: expected to end at {self.indices.size}, got {self.indptr[-1]}")
        if self.indices.size:
            self._check_indices()

    @classmethod
    def from_sparse(cls, matrix: csr_matrix) -> "DesignStack":
        """Build a stack of one constant matrix of shape (n_obs, n_coeff)."""
        csr = csr_matrix(matrix, copy=True)
        csr.sum_duplicates()
        return cls(
            indptr=csr.indptr.astype(np.int64),
            indices=csr.indices.astype(np.int64),
            parts=np.ascontiguousarray(csr.data, np.float64)[None, :],
            n_coeff=csr.shape[1],
        )

    def _check_indices(self) -> None:
        if self.indices.min() < 0 or self.indices.max() >= self.n_coeff:
            raise InputError(
                f"indices: expected 0 to {self.n_coeff - 1}, got {self.indices.min()} to {self.indices.max()}"
            )
        rises = np.diff(self.indices) > 0
        starts = self.indptr[1:-1]
        rises[starts[(starts > 0) & (starts < self.indices.size)] - 1] = True
        if not rises.all():
            entry = int(np.argmin(rises)) + 1
            raise InputError(
                f"indices: expected ascending coefficients within a row, got {self.indices[entry]}"
                f" after {self.indices[entry - 1]} at entry {entry}; sort the row and add up duplicates"
            )

    @property
    def n_batch(self) -> int | None:
        """Number of batch rows with values of their own; None for a static design, which serves any number."""
        return None if self.mix is None else int(self.mix.shape[0])

    def take(self, batches: IntArray) -> "DesignStack":
        """Return the stack of some batch rows, given by index."""
        if self.mix is None:
            return self
        return DesignStack(self.indptr, self.indices, self.parts, self.n_coeff, self.mix[batches])

    @property
    def is_static(self) -> bool:
        """Whether every batch row has the same matrix."""
        return self.mix is None

    def values(self, batch: int) -> FloatArray:
        """Return the entries of one batch row's matrix, shape (nnz,)."""
        if self.mix is None:
            return self.parts[0]
        return np.asarray(self.mix[batch] @ self.parts)

    def sparse(self, values: FloatArray | IntArray) -> csr_matrix:
        """Return values on the pattern, shape (n_obs, n_coeff)."""
        return csr_matrix((values, self.indices, self.indptr), shape=(self.n_obs, self.n_coeff))

    def matrix(self, batch: int = 0) -> csr_matrix:
        """Return one batch row's matrix, shape (n_obs, n_coeff)."""
        return self.sparse(self.values(batch))

    def overlaps(self) -> csr_matrix:
        """Return how many observations coefficients share, shape (n_coeff, n_coeff)."""
        pattern = self.sparse(np.ones(self.indices.size))
        return csr_matrix(pattern.T @ pattern)

    def predict(self, coefficients: FloatArray) -> FloatArray:
        """Return X_b w_b of every batch row.

        Parameters
        ----------
        coefficients : ndarray of float64, shape (n_batch, n_coeff)

        Returns
        -------
        ndarray of float64, shape (n_batch, n_obs)
        """
        if self.mix is None:
            return np.ascontiguousarray((self.matrix() @ coefficients.T).T)
        total = np.zeros((coefficients.shape[0], self.n_obs))
        for part, weight in zip(self.parts, self.mix.T, strict=True):
            total += weight[:, None] * (self.sparse(part) @ coefficients.T).T
        return total

    def normal_equations(self, data: FloatArray, ivar: FloatArray, batch: int) -> tuple[FloatArray, FloatArray]:
        """Return the dense X' C^-1 X and X' C^-1 y of one row; `data` and `ivar` have shape (n_obs,)."""
        matrix = self.matrix(batch)
        weighted = matrix.multiply(ivar[:, None]).tocsr()
        gram = (matrix.T @ weighted).toarray()
        return gram, weighted.T @ np.where(ivar > 0, data, 0.0)


def stack_of(problem: LinearProblem) -> DesignStack:
    """Return the design of a problem, which is a DesignStack, or raise an UnsupportedError."""
    if not isinstance(problem.design, DesignStack):
        raise UnsupportedError(f"problem: expected a DesignStack as design, got {type(problem.design).__name__}")
    return problem.design
