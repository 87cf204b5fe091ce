"""KroneckerDesign: time vectors times position columns, never built out."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_finite
from bayesprf.errors import ShapeError


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerDesign:
    """The matrix V (x) B: observation (b, p) and coefficient (k, m) meet in V[b, k] B[p, m].

    Observations are flattened as ``b * n_pos + p``, coefficients as ``k * n_basis + m``.

    Parameters
    ----------
    time_vectors : ndarray of float64, shape (n_bin, n_vec)
        Time vectors V.
    space : csr_matrix of float64, shape (n_pos, n_basis)
        Position columns B.

    Raises
    ------
    ShapeError
        If either does not have two dimensions.
    InputError
        If a time vector is not finite.
    """

    time_vectors: FloatArray
    space: csr_matrix

    def __post_init__(self) -> None:
        if self.time_vectors.ndim != 2:
            raise ShapeError(f"time_vectors: expected shape (n_bin, n_vec), got {self.time_vectors.shape}")
        if len(self.space.shape) != 2:
            raise ShapeError(f"space: expected shape (n_pos, n_basis), got {self.space.shape}")
        check_finite(self.time_vectors, "time_vectors")

    @property
    def n_obs(self) -> int:
        """Number of observations, n_bin * n_pos."""
        return int(self.time_vectors.shape[0] * self.space.shape[0])

    @property
    def n_coeff(self) -> int:
        """Number of coefficients, n_vec * n_basis."""
        return int(self.time_vectors.shape[1] * self.space.shape[1])

    @property
    def n_batch(self) -> int | None:
        """None: the matrix serves any number of batch rows."""
        return None

    def take(self, batches: IntArray) -> "KroneckerDesign":
        """Return itself: every batch row has the same matrix."""
        return self

    def predict(self, coefficients: FloatArray) -> FloatArray:
        """Return X w of shape (n_batch, n_obs) for w of shape (n_batch, n_coeff)."""
        n_batch, n_vec = coefficients.shape[0], self.time_vectors.shape[1]
        fields = self.space @ coefficients.reshape(n_batch * n_vec, -1).T
        by_batch = np.moveaxis(fields.reshape(-1, n_batch, n_vec), 1, 0)
        return np.asarray(self.time_vectors @ by_batch.transpose(0, 2, 1)).reshape(n_batch, -1)

    def normal_equations(self, data: FloatArray, ivar: FloatArray, batch: int) -> tuple[FloatArray, FloatArray]:
        """Return the dense X' C^-1 X and X' C^-1 y of one row; `data` and `ivar` have shape (n_obs,).

        Notes
        -----
        Block (k, l) of X' C^-1 X is B' diag(sum_b ivar[b, p] V[b, k] V[b, l]) B: one sum over time and one small
        product for each pair of time vectors.
        """
        n_vec, n_basis = self.time_vectors.shape[1], self.space.shape[1]
        weight = ivar.reshape(self.time_vectors.shape[0], -1)
        weighted = weight * np.where(weight > 0, data.reshape(weight.shape), 0.0)
        gram = np.empty((n_vec, n_basis, n_vec, n_basis))
        for k in range(n_vec):
            for m in range(k, n_vec):
                per_position = (self.time_vectors[:, k] * self.time_vectors[:, m]) @ weight
                block = (self.space.T @ (diags_array(per_position) @ self.space)).toarray()
                gram[k, :, m] = gram[m, :, k] = block
        rhs = (self.space.T @ (weighted.T @ self.time_vectors)).T
        return gram.reshape(n_vec * n_basis, -1), np.ascontiguousarray(rhs).reshape(-1)
