"""The eigenbasis of a linear problem, in which every coefficient is alone: one decomposition per noise level."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import block_diag, csc_matrix, csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.linalg.problem import LinearProblem
from bayesprf.photometry.groups import component_labels
from bayesprf.sampling.hyper import proper_design

# Rounding: directions that the data constrain less than this share of the best one of their component are left to the
# prior.
_BLIND = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """All components with the same number of coefficients.

    Parameters
    ----------
    members : ndarray of int64, shape (n_component, size)
        Coefficients of each component.
    entry, place, mirror : ndarray of int64, shape (n_entry,)
        Which entries of the Gram matrix belong here, and their places in the stacked blocks and their transposes.
    """

    members: IntArray
    entry: IntArray
    place: IntArray
    mirror: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """A linear problem at one noise level, in coordinates u = U' (w - m) / s in which its coefficients are independent.

    Parameters
    ----------
    eigenvalues : ndarray of float64, shape (n_row, n_coeff)
        lam of S X' D^-1 X S = U lam U'; n_row is 1 if all batch rows share them, else n_batch.
    peak : ndarray of float64, shape (n_batch, n_coeff)
        Least squares solution in these coordinates, 0 in directions that the data do not see.
    offset : ndarray of float64, shape (n_row, n_coeff)
        The prior mean U' m / s: what a change of the zero point moves.
    chi2 : ndarray of float64, shape (n_batch,)
        Squared residuals over variances at the least squares solution.
    log_noise : float
        Sum of log 2 pi d over all observations in use, d being their variances.
    n_used : int
        Number of observations in use.
    families : tuple of Family
        Components by size.
    vectors : tuple of ndarray of float64, shape (n_row, n_component, size, size)
        U of each family.
    problem : LinearProblem
        What was decomposed.
    """

    eigenvalues: FloatArray
    peak: FloatArray
    offset: FloatArray
    chi2: FloatArray
    log_noise: float
    n_used: int
    families: tuple[Family, ...]
    vectors: tuple[FloatArray, ...]
    problem: LinearProblem

    @property
    def is_shared(self) -> bool:
        """Whether all batch rows have the same eigenvectors."""
        return self.eigenvalues.shape[0] == 1

    def rotate(self, u: FloatArray) -> FloatArray:
        """Return U u.

        Parameters
        ----------
        u : ndarray of float64, shape (..., n_batch, n_coeff)
            Coordinates in the eigenbasis.

        Returns
        -------
        ndarray of float64, as `u`
        """
        answer = np.empty_like(u)
        flat_in, flat_out = u.reshape(-1, u.shape[-1]), answer.reshape(-1, u.shape[-1])
        for family, vectors in zip(self.families, self.vectors, strict=True):
            if self.is_shared:
                for members, matrix in zip(family.members, vectors[0], strict=True):
                    flat_out[:, members] = flat_in[:, members] @ matrix.T
            else:
                answer[..., family.members] = (vectors @ u[..., family.members, None])[..., 0]
        return answer

    def rotation(self) -> csc_matrix:
        """Return U as a sparse matrix: of n_coeff if all batch rows share it, else of n_batch * n_coeff.

        Returns
        -------
        csc_matrix of float64
        """
        n_row, n_coeff = self.eigenvalues.shape
        rows = [self._row_rotation(row, n_coeff) for row in range(n_row)]
        return csc_matrix(rows[0] if n_row == 1 else block_diag(rows, format="csc"))

    def _row_rotation(self, row: int, n_coeff: int) -> csr_matrix:
        index, value = [], []
        for family, vectors in zip(self.families, self.vectors, strict=True):
            size = family.members.shape[1]
            index.append(
                np.stack([np.repeat(family.members, size, axis=1).ravel(), np.tile(family.members, (1, size)).ravel()])
            )
            value.append(vectors[row].ravel())
        return csr_matrix((np.concatenate(value), np.concatenate(index, axis=1)), shape=(n_coeff, n_coeff))


class Decomposer:
    """Decompose one problem at many noise levels; what does not depend on the noise is done once.

    Parameters
    ----------
    problem : LinearProblem
        With a DesignStack and a proper prior.

    Raises
    ------
    UnsupportedError
        If the design is not a DesignStack.
    InputError
        If the prior is flat.
    """

    def __init__(self, problem: LinearProblem) -> None:
        design = proper_design(problem)
        self.problem, self.design = problem, design
        self.sigma = problem.prior.precision**-0.5
        self.used = problem.ivar > 0
        self.variance = np.where(self.used, 1.0 / np.where(self.used, problem.ivar, 1.0), 1.0)
        n_part = design.parts.shape[0]
        self.mix = np.ones((1, 1)) if design.mix is None else design.mix
        self.columns = [design.sparse(part).T.tocsr() for part in design.parts]
        self.pairs = [(k, j) for k in range(n_part) for j in range(k, n_part)]
        self._tabulate()
        same = design.is_static and bool(np.all(problem.ivar == problem.ivar[:1]))
        self.n_row = 1 if same else problem.n_batch
        at_mean = problem.predict(np.tile(problem.prior.mean, (problem.n_batch, 1)))
        self.residual = np.where(self.used, problem.data - at_mean, 0.0)

    def _tabulate(self) -> None:
        """Tabulate the Gram matrix as a linear function of the inverse variances."""
        design = self.design
        first, second = _entry_pairs(design.indptr)
        i, j = design.indices[first], design.indices[second]
        key, entry = np.unique(i * design.n_coeff + j, return_inverse=True)
        observation = np.repeat(np.arange(design.n_obs), np.diff(design.indptr))[first]
        scale = self.sigma[i] * self.sigma[j]
        self.gram_tables = []
        for k, m in self.pairs:
            product = design.parts[k][first] * design.parts[m][second]
            if k != m:
                product = product + design.parts[m][first] * design.parts[k][second]
            table = csr_matrix((scale * product, (entry, observation)), shape=(key.size, design.n_obs))
            self.gram_tables.append(table)
        self.families = _families(component_labels(design), key // design.n_coeff, key % design.n_coeff)

    def at(self, jitter: float = 0.0) -> Spectrum:
        """Decompose the problem with a jitter added to every error.

        Parameters
        ----------
        jitter : float
            In the unit of the data.

        Returns
        -------
        Spectrum
        """
        variance = self.variance + jitter**2
        ivar = np.where(self.used, 1.0 / variance, 0.0)
        gram = self._gram(ivar[: self.n_row])
        shape = (self.n_row, self.design.n_coeff)
        values, vectors = np.zeros(shape), []
        with one_blas_thread():
            for family in self.families:
                n_comp, size = family.members.shape
                block = np.zeros((self.n_row, n_comp * size * size))
                block[:, family.place] = gram[:, family.entry]
                block[:, family.mirror] = gram[:, family.entry]
                lam, vec = np.linalg.eigh(block.reshape(self.n_row, n_comp, size, size))
                values[:, family.members] = np.where(lam > _BLIND * lam[..., -1:], lam, 0.0)
                vectors.append(vec)
            return self._complete(values, tuple(vectors), ivar)

    def _complete(self, values: FloatArray, vectors: tuple[FloatArray, ...], ivar: FloatArray) -> Spectrum:
        """Find the least squares solution in the eigenbasis."""
        problem = self.problem
        seen = values > 0
        gradient = self.sigma * self._gather(ivar * self.residual)
        rotated = _rotate_back(self.families, vectors, gradient)
        peak = np.where(seen, rotated / np.where(seen, values, 1.0), 0.0)
        offset = _rotate_back(self.families, vectors, np.tile(problem.prior.mean / self.sigma, (self.n_row, 1)))
        log_noise = -float(np.sum(np.log(ivar[self.used]))) + np.log(2.0 * np.pi) * float(self.used.sum())
        blank = Spectrum(
            values, peak, offset, np.zeros(problem.n_batch), log_noise, int(self.used.sum()),
            self.families, vectors, problem,
        )  # fmt: skip
        weights = problem.prior.mean + self.sigma * blank.rotate(peak)
        left = np.where(self.used, problem.data - problem.predict(weights), 0.0)
        chi2 = np.sum(ivar * left**2, axis=1)
        return Spectrum(values, peak, offset, chi2, log_noise, blank.n_used, self.families, vectors, problem)

    def _gather(self, values: FloatArray) -> FloatArray:
        """Return X_b' v_b of every batch row, shape (n_batch, n_coeff)."""
        products = [weight * (part @ values.T) for part, weight in zip(self.columns, self.mix.T, strict=True)]
        return np.ascontiguousarray(sum(products[1:], start=products[0]).T)

    def _gram(self, ivar: FloatArray) -> FloatArray:
        """Return the entries of S X' D^-1 X S, shape (n_row, n_entry)."""
        total = np.zeros((ivar.shape[0], self.gram_tables[0].shape[0]))
        for (k, m), table in zip(self.pairs, self.gram_tables, strict=True):
            total += (self.mix[:, k] * self.mix[:, m])[:, None] * (table @ ivar.T).T
        return total


def _entry_pairs(indptr: IntArray) -> tuple[IntArray, IntArray]:
    """Return all pairs of entries first <= second of the same row."""
    count = np.diff(indptr)
    later = np.repeat(indptr[1:], count) - np.arange(indptr[-1])
    first = np.repeat(np.arange(indptr[-1]), later)
    step = np.arange(first.size) - np.repeat(np.cumsum(later) - later, later)
    return first, first + step


def _families(label: IntArray, row: IntArray, column: IntArray) -> tuple[Family, ...]:
    """Group the components by size, and find the place of each Gram entry in their stacked blocks."""
    order = np.argsort(label, kind="stable")
    sizes = np.bincount(label)
    inside = np.empty(label.size, np.int64)
    inside[order] = np.arange(label.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    starts = np.cumsum(sizes) - sizes
    found = []
    for size in np.unique(sizes[sizes > 0]):
        comps = np.flatnonzero(sizes == size)
        number = np.full(sizes.size, -1)
        number[comps] = np.arange(comps.size)
        entry = np.flatnonzero(number[label[row]] >= 0)
        base = number[label[row[entry]]] * size * size
        i, j = inside[row[entry]], inside[column[entry]]
        members = order[starts[comps][:, None] + np.arange(size)]
        found.append(Family(members, entry, base + i * size + j, base + j * size + i))
    return tuple(found)


def _rotate_back(families: tuple[Family, ...], vectors: tuple[FloatArray, ...], values: FloatArray) -> FloatArray:
    """Return U' v, shape (n_batch, n_coeff)."""
    answer = np.empty_like(values)
    for family, vec in zip(families, vectors, strict=True):
        answer[:, family.members] = (np.swapaxes(vec, -1, -2) @ values[:, family.members, None])[..., 0]
    return answer
