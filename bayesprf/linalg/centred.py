"""CentredDesign: a Kronecker design with one free amplitude per (bin, group) marginalised."""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_shape
from bayesprf.linalg.kronecker import KroneckerDesign

# Numbers held at once while the group sums of a batch of bins are formed.
_CHUNK_ELEMENTS = 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class GroupMeans:
    """Weighted means over groups of positions, bin by bin.

    Parameters
    ----------
    group : ndarray of int64, shape (n_pos,)
        Group of each position, 0, 1, 2, ..., n_group - 1.
    ivar : ndarray of float64, shape (n_bin, n_pos)
        Weights; where 0 a value is not read.

    Raises
    ------
    ShapeError
        If the arrays do not agree.
    """

    group: IntArray
    ivar: FloatArray
    n_group: int = field(init=False)
    total: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_shape(self.ivar, (self.ivar.shape[0], self.group.size), "ivar", "n_bin, n_pos")
        object.__setattr__(self, "n_group", int(self.group.max(initial=-1)) + 1)
        object.__setattr__(self, "total", self._sum(self.ivar))

    def mean(self, values: FloatArray, *, empty: float = 0.0) -> FloatArray:
        """Return the mean of values (n_bin, n_pos), shape (n_bin, n_group), and `empty` where nothing weighs."""
        summed = self._sum(self.ivar * np.where(self.ivar > 0, values, 0.0))
        return np.where(self.total > 0, summed / np.where(self.total > 0, self.total, 1.0), empty)

    def centre(self, values: FloatArray) -> FloatArray:
        """Return values, shape (n_bin, n_pos), minus the mean of their group in their bin."""
        return values - self.mean(values)[:, self.group]

    def _sum(self, values: FloatArray) -> FloatArray:
        n_pos = self.group.size
        member = csr_matrix((np.ones(n_pos), self.group, np.arange(n_pos + 1)), shape=(n_pos, self.n_group))
        return np.asarray(values @ member)


@dataclass(frozen=True, slots=True, eq=False)
class CentredDesign:
    """X minus its weighted mean over each group of positions in each bin.

    Observation (b, p) is a bin b and a position p that belongs to group g(p). A free amplitude a[b, g] that adds
    to all observations of a group in a bin, under a flat prior, is marginalised by taking the weighted mean over
    the group off both data and design: what is learned then comes from differences inside groups alone.

    Parameters
    ----------
    design : KroneckerDesign
        `time_vectors` (n_bin, n_vec) and `space` (n_pos, n_basis); observation (b, p) is number b n_pos + p.
    groups : GroupMeans
        Group of each position, and inverse variances, which weigh the means; pass the same to `normal_equations`.

    Raises
    ------
    ShapeError
        If the arrays do not agree.

    Notes
    -----
    With A the 0/1 matrix of groups, X~ = (I - A (A' C^-1 A)^-1 A' C^-1) X, so that X~' C^-1 X~ is X' C^-1 X less one
    outer product per (bin, group): the Schur complement of the amplitudes (Frisch & Waugh 1933).
    """

    design: KroneckerDesign
    groups: GroupMeans

    def __post_init__(self) -> None:
        shape = (self.design.time_vectors.shape[0], self.design.space.shape[0])
        check_shape(self.groups.ivar, shape, "groups", "n_bin, n_pos")

    @property
    def n_obs(self) -> int:
        """Number of observations."""
        return self.design.n_obs

    @property
    def n_coeff(self) -> int:
        """Number of coefficients."""
        return self.design.n_coeff

    @property
    def n_batch(self) -> int | None:
        """None: the matrix is the same for any number of batch rows."""
        return None

    def take(self, batches: IntArray) -> "CentredDesign":
        """Return itself: every batch row has the same matrix."""
        return self

    def predict(self, coefficients: FloatArray) -> FloatArray:
        """Return X~ w, shape (n_batch, n_obs), for w of shape (n_batch, n_coeff)."""
        plain = self.design.predict(coefficients).reshape(-1, *self.groups.ivar.shape)
        return np.stack([self.groups.centre(one).ravel() for one in plain])

    def normal_equations(self, data: FloatArray, ivar: FloatArray, batch: int) -> tuple[FloatArray, FloatArray]:
        """Return the dense X~' C^-1 X~ and X~' C^-1 y; `data` and `ivar` have shape (n_obs,)."""
        centred = self.groups.centre(data.reshape(self.groups.ivar.shape)).ravel()
        gram, rhs = self.design.normal_equations(centred, ivar, batch)
        return gram - self._amplitude_gram(), rhs

    def _amplitude_gram(self) -> FloatArray:
        """Return sum over bins of (v_b v_b') x (E_b' E_b), E_b the scaled group sums of the positions' columns."""
        vectors, space = self.design.time_vectors, self.design.space
        n_bin, n_vec = vectors.shape
        n_basis, n_group, total = space.shape[1], self.groups.n_group, self.groups.total
        spread = csr_matrix(
            (space.data, space.indices + np.repeat(self.groups.group * n_basis, np.diff(space.indptr)), space.indptr),
            shape=(space.shape[0], n_group * n_basis),
        )
        scale = np.sqrt(1.0 / np.where(total > 0, total, np.inf))
        products = np.einsum("bk,bl->klb", vectors, vectors).reshape(n_vec * n_vec, n_bin)
        gram = np.zeros((n_vec * n_vec, n_basis * n_basis))
        step = max(1, _CHUNK_ELEMENTS // max(spread.shape[1], n_basis * n_basis, 1))
        for start in range(0, n_bin, step):
            part = slice(start, start + step)
            sums = np.asarray(self.groups.ivar[part] @ spread).reshape(-1, n_group, n_basis) * scale[part, :, None]
            inner = np.matmul(sums.transpose(0, 2, 1), sums)
            gram += products[:, part] @ inner.reshape(inner.shape[0], -1)
        blocks = gram.reshape(n_vec, n_vec, n_basis, n_basis)
        return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).reshape(self.n_coeff, self.n_coeff)
