"""How the PRF of a source can change: splines shared by all stars, and motion that varies over the field."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix, eye_array, hstack, kron

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.design.cartesian import CartesianBasis
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix

PrfFunction = Callable[[FloatArray, FloatArray], FloatArray]

# Weight of the squared curvature of the spline through ln PRF, dex-free: small beside one pixel's weight of one.
_CURVATURE_WEIGHT = 1e-3
# Motion differs little over fewer pixels than this to either side: smaller fields are scaled as if so large.
_LEAST_HALF_FIELD = 50.0
# Accuracy: half side of the pixel plane around a source over which the PRF is summed, in radii of the basis.
_PLANE_RADII = 2.0
# With less of the PRF on the pixels, its sum over these alone is kept.
_LEAST_SEEN = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class PrfChange:
    """Columns g_m of a relative change of the PRF, 1 + sum_m c_m g_m.

    Parameters
    ----------
    basis : CartesianBasis
        Functions of the offset, the same for all stars.
    log_prf : ndarray of float64, shape (n_column,)
        ln PRF on that basis: its gradient is the effect of a small motion.
    position : ndarray of float64, shape (n_source, 2)
        Column and row of each source, scaled to -1 ... 1 over the field (less in a field of under 100 pixels).
    field_order : int
        Degree of the polynomial in position by which the motion differs from the common one.
    pixel_scale : float
        arcsec per pixel.

    Notes
    -----
    A star moved by (u, v) pixels changes by -scale (u d/dx + v d/dy) ln PRF to first order, so that u and v,
    polynomials of the star's position, are coefficients. Outside the square of the basis the values at its nearest
    point are used, falling as one over distance: so does the gradient of the logarithm of a power law.
    """

    basis: CartesianBasis
    log_prf: FloatArray
    position: FloatArray
    field_order: int
    pixel_scale: float

    @property
    def powers(self) -> list[tuple[int, int]]:
        """Powers of column and row, the constant left out: the shared columns hold it."""
        order = self.field_order
        return [(i, total - i) for total in range(1, order + 1) for i in range(total, -1, -1)]

    @property
    def n_column(self) -> int:
        """Number of columns."""
        return self.basis.n_column + 2 * len(self.powers)

    def columns(self, source: IntArray, dx: FloatArray, dy: FloatArray) -> csr_matrix:
        """Return all columns, shape (n, n_column), for pixels at offsets dx, dy (arcsec) from sources."""
        fall = self._fall(dx, dy)
        shared = self.basis.columns(dx, dy)
        shared.data *= np.repeat(fall, np.diff(shared.indptr))
        if not self.powers:
            return shared
        motion = self.motion(dx, dy)
        position = np.stack([np.prod(self.position[source] ** power, axis=1) for power in self.powers], axis=1)
        field = (motion[:, :, None] * position[:, None, :]).reshape(dx.size, -1)
        return csr_matrix(hstack([shared, csr_matrix(field)], format="csr"))

    def motion(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the relative change per pixel of motion towards east and north, shape (n, 2)."""
        along_x, along_y = self.basis.gradient(dx, dy, self.log_prf)
        fall = self._fall(dx, dy)
        return -self.pixel_scale * np.stack([along_x * fall, along_y * fall], axis=1)

    def _fall(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        distance = np.maximum(np.abs(dx), np.abs(dy))
        return self.basis.radius / np.maximum(distance, self.basis.radius)


def build_change(pixels: PixelTable, prf: PrfMatrix, *, basis: CartesianBasis, field_order: int) -> PrfChange:
    """Prepare the columns from the mean PRF of the pairs.

    Parameters
    ----------
    pixels : PixelTable
        Detector positions.
    prf : PrfMatrix
        Mean PRF of the pairs in which the sources matter.
    basis : CartesianBasis
        Functions of the offset.
    field_order : int
        Degree of the polynomial over the field.

    Returns
    -------
    PrfChange
    """
    pairs, values = prf.pairs, prf.values
    inside = (values > 0) & (np.maximum(np.abs(pairs.dx), np.abs(pairs.dy)) <= basis.radius)
    columns = basis.columns(pairs.dx[inside], pairs.dy[inside])
    side = eye_array(basis.n_side)
    curvature = np.diff(np.eye(basis.n_side), 2, axis=0)
    penalty = kron(side, csr_matrix(curvature.T @ curvature)) + kron(csr_matrix(curvature.T @ curvature), side)
    gram = (columns.T @ columns + _CURVATURE_WEIGHT * penalty).toarray()
    gram[np.diag_indices_from(gram)] += 1e-9 * max(1.0, float(np.trace(gram)))
    log_prf = cho_solve(cho_factor(gram), columns.T @ np.log(values[inside]))
    return PrfChange(basis, log_prf, _positions(pixels, prf), field_order, pixels.instrument.pixel_scale)


@dataclass(frozen=True, slots=True, eq=False)
class PixelPlane:
    """Columns of every pixel around every source, measured or not.

    Parameters
    ----------
    columns : csr_matrix of float64, shape (n_pair + n_unseen, n_column)
        Columns of the pairs, then of the pixels of the plane that are not among them.
    source : ndarray of int64, shape (n_pair + n_unseen,)
        Source of each row.
    unseen : ndarray of float64, shape (n_unseen,)
        Mean PRF in the unseen pixels, 1 / pixel.
    n_source : int
        Number of sources.
    """

    columns: csr_matrix
    source: IntArray
    unseen: FloatArray
    n_source: int

    def mean(self, prf: FloatArray) -> FloatArray:
        """Return the PRF-weighted mean of every column over each source's plane.

        Parameters
        ----------
        prf : ndarray of float64, shape (n_pair,)
            Mean PRF of the pairs, 1 / pixel.

        Returns
        -------
        ndarray of float64, shape (n_source, n_column)
            Subtracting these means from the columns leaves the sum of the PRF as it is; zero without pixels.
        """
        member, total = self._weigh(prf)
        return (member @ self.columns).toarray() / total[:, None]

    def mean_of_pairs(self, prf: FloatArray, values: FloatArray) -> FloatArray:
        """Return the PRF-weighted mean of values (n, n_pair), zero in unseen pixels, shape (n, n_source)."""
        member, total = self._weigh(prf)
        return np.asarray((member[:, : prf.size] @ values.T).T / total)

    def _weigh(self, prf: FloatArray) -> tuple[csr_matrix, FloatArray]:
        value, rows = np.append(prf, self._trusted(prf)), np.arange(self.source.size)
        member = csr_matrix((value, (self.source, rows)), shape=(self.n_source, rows.size))
        total = np.asarray(member.sum(axis=1)).ravel()
        return member, np.where(total > 0, total, 1.0)

    def _trusted(self, prf: FloatArray) -> FloatArray:
        """Return the PRF in unseen pixels, zero for sources of which too little is seen."""
        seen = np.bincount(self.source[: prf.size], prf, minlength=self.n_source)
        unseen = np.bincount(self.source[prf.size :], self.unseen, minlength=self.n_source)
        return np.where((seen >= _LEAST_SEEN * (seen + unseen))[self.source[prf.size :]], self.unseen, 0.0)


def build_plane(
    change: PrfChange, pixels: PixelTable, pairs: PairTable, *, evaluate: PrfFunction | None = None
) -> PixelPlane:
    """Evaluate the columns in the pixel plane around every source.

    Parameters
    ----------
    change : PrfChange
        The columns.
    pixels : PixelTable
        Detector and sky positions.
    pairs : PairTable
        Pairs in which the sources matter.
    evaluate : callable, optional
        The PRF as a function of offsets (arcsec), for the pixels of the plane that are not among the pairs; without
        it the plane is the pairs alone.

    Returns
    -------
    PixelPlane
    """
    source, dx, dy, unseen = pairs.source, pairs.dx, pairs.dy, np.zeros(0)
    if evaluate is not None:
        far_source, far_dx, far_dy = _unseen_plane(pixels, pairs, _PLANE_RADII * change.basis.radius)
        source, dx, dy = np.append(source, far_source), np.append(dx, far_dx), np.append(dy, far_dy)
        unseen = evaluate(far_dx, far_dy)
    return PixelPlane(change.columns(source, dx, dy), source, unseen, pairs.n_source)


def _unseen_plane(pixels: PixelTable, pairs: PairTable, radius: float) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return source and offsets of the pixels around each source, out to a radius, that are not among its pairs."""
    axes = pixel_axes(pixels)
    order = np.lexsort((pairs.r, pairs.source))
    source, first = np.unique(pairs.source[order], return_index=True)
    nearest = order[first]
    half = int(np.ceil(radius / np.sqrt(abs(np.linalg.det(axes)))))
    steps = np.stack(np.meshgrid(np.arange(-half, half + 1), np.arange(-half, half + 1))).reshape(2, -1)
    position = np.rint(np.stack([pixels.column, pixels.row])).astype(np.int64)
    position -= position.min(axis=1, keepdims=True) - half
    width = int(position[0].max()) + half + 1
    height = int(position[1].max()) + half + 1

    def number(sources: IntArray, column: IntArray, row: IntArray) -> IntArray:
        return (sources * height + row) * width + column

    home = position[:, pairs.pixel[nearest]]
    around = number(source[:, None], home[0][:, None] + steps[0], home[1][:, None] + steps[1])
    seen = np.isin(around, number(pairs.source, position[0, pairs.pixel], position[1, pairs.pixel]))
    move = axes @ steps
    dx, dy = pairs.dx[nearest][:, None] + move[0], pairs.dy[nearest][:, None] + move[1]
    return np.repeat(source, (~seen).sum(axis=1)), dx[~seen], dy[~seen]


def _positions(pixels: PixelTable, prf: PrfMatrix) -> FloatArray:
    """Return the light-weighted column and row of each source's pixels, scaled to -1 ... 1; 0 without pixels."""
    pairs, weight = prf.pairs, prf.caught()[0]
    detector = np.stack([pixels.column, pixels.row], axis=1)
    middle = 0.5 * (detector.min(axis=0) + detector.max(axis=0))
    half = np.maximum(0.5 * np.ptp(detector, axis=0), _LEAST_HALF_FIELD)
    scaled = (detector[pairs.pixel] - middle) / half * prf.values[:, None]
    summed = np.stack([np.bincount(pairs.source, one, minlength=pairs.n_source) for one in scaled.T], axis=1)
    return summed / np.where(weight > 0, weight, 1.0)[:, None]
