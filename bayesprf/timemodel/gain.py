"""How the PRF of a source can change: motion that varies over the field, and splines shared by all stars."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, hstack

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.design.cartesian import CartesianBasis
from bayesprf.scene.axes import pixel_axes, pixel_side
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix

StarFunction = Callable[[IntArray, FloatArray, FloatArray], FloatArray]
"""The PRF of sources, given by their numbers, at offsets east and north (arcsec): 1 / pixel."""

_STRETCHES = ("size", "stretch", "shear")
# Rounding: a PRF below this is as good as dark, 1 / pixel.
_DARK = 1e-300
# Accuracy: step of the numerical derivatives of the PRF, pixel.
_STEP = 0.05
# Definition: variance of a uniform pixel along each axis, squared pixel.
_PIXEL_VARIANCE = 1.0 / 12.0
# Derived: smaller fields are scaled as if they had so many pixels to either side: 0.3 degree of TESS, over which roll
# differs by no more than what is expected (`pointing._GAIN_WIDTH`) a degree or more from its axis, and less in
# proportion over fewer.
_LEAST_HALF_FIELD = 50.0
# Accuracy: half side of the pixel plane around a source over which the PRF is summed, in radii of the basis.
_PLANE_RADII = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class PrfChange:
    """Columns g_m of a relative change of the PRF, 1 + sum_m c_m g_m.

    Parameters
    ----------
    basis : CartesianBasis
        Functions of the offset, the same for all stars.
    evaluate : callable
        The mean PRF of sources at offsets, whose derivatives are the effect of motion.
    position : ndarray of float64, shape (n_source, 2)
        Column and row of each source, scaled to -1 ... 1 over the field (less in a field of under 100 pixels).
    field_order : int
        Degree of the polynomial in position that the motion is.
    pixel_scale : float
        arcsec per pixel.

    Notes
    -----
    A star moved by (u, v) pixels changes by -(u d/dx + v d/dy) ln PRF to first order, and by (u**2 d2/dx2 +
    2 u v d2/dxdy + v**2 d2/dy2) PRF / (2 PRF) to second. Coefficients are u and v, polynomials of the star's position,
    and u**2, u v and v**2, the same for all. Jitter within an exposure widens the PRF as the last three do; focus
    stretches it: by 1 + a + b along x and 1 + a - b along y, with a shear c, it changes by -(2 a + (a + b) x d/dx +
    (a - b) y d/dy + c (x d/dy + y d/dx)) ln PRF, less what this does to the pixel, which is part of the PRF and does
    not stretch: the second moment of its square, 1/12, to leading order. The splines are for what neither explains.
    Outside their square the values at its nearest point are used, falling as one over distance.
    """

    basis: CartesianBasis
    evaluate: StarFunction
    position: FloatArray
    field_order: int
    pixel_scale: float

    @property
    def powers(self) -> list[tuple[int, int]]:
        """Powers of column and row that motion is made of."""
        return [(i, total - i) for total in range(self.field_order + 1) for i in range(total, -1, -1)]

    @property
    def kind(self) -> IntArray:
        """What the size of each coefficient is learned with, shape (n_column,).

        0 splines, 1 motion of all, 2 how it differs over the field, 3 its square, 4 stretch.
        """
        return np.repeat([0, 1, 2, 3, 4], [self.basis.n_column, 2, 2 * len(self.powers) - 2, 3, 3])

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column."""
        field = [f"{axis} {i}{j}" for i, j in self.powers for axis in "xy"]
        return (*(f"spline {one}" for one in range(self.basis.n_column)), *field, "xx", "xy", "yy", *_STRETCHES)

    @property
    def n_column(self) -> int:
        """Number of columns."""
        return self.basis.n_column + 2 * len(self.powers) + 3 + len(_STRETCHES)

    def columns(self, source: IntArray, dx: FloatArray, dy: FloatArray) -> csr_matrix:
        """Return all columns, shape (n, n_column), for pixels at offsets dx, dy (arcsec) from sources."""
        shared = self.basis.columns(dx, dy)
        distance = np.maximum(np.abs(dx), np.abs(dy))
        shared.data *= np.repeat(self.basis.radius / np.maximum(distance, self.basis.radius), np.diff(shared.indptr))
        position = np.stack([np.prod(self.position[source] ** power, axis=1) for power in self.powers], axis=1)
        motion, bending = self.motion(source, dx, dy), self.bending(source, dx, dy)
        field = (position[:, :, None] * motion[:, None, :]).reshape(dx.size, -1)
        moved = np.hstack([field, bending, self.stretch(motion, bending, dx, dy)])
        return csr_matrix(hstack([shared, csr_matrix(moved)], format="csr"))

    def motion(self, source: IntArray, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the relative change per pixel of motion towards east and north, shape (n, 2)."""
        middle = self._at(source, dx, dy, 0, 0)
        ahead = [self._at(source, dx, dy, 1, 0), self._at(source, dx, dy, 0, 1)]
        behind = [self._at(source, dx, dy, -1, 0), self._at(source, dx, dy, 0, -1)]
        return np.stack([(a - b) / (2.0 * _STEP * middle) for a, b in zip(ahead, behind, strict=True)], axis=1)

    def bending(self, source: IntArray, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the relative change per squared pixel: of u**2, u v and v**2, shape (n, 3)."""
        at = {(i, j): self._at(source, dx, dy, i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        middle = at[0, 0]
        east = 0.5 * (at[1, 0] + at[-1, 0]) - middle
        north = 0.5 * (at[0, 1] + at[0, -1]) - middle
        both = 0.25 * (at[1, 1] + at[-1, -1] - at[1, -1] - at[-1, 1])
        return np.stack([east, both, north], axis=1) / (_STEP**2 * middle[:, None])

    def stretch(self, motion: FloatArray, bending: FloatArray, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the relative change per unit of stretch along both axes, of x against y, and shear, shape (n, 3)."""
        x, y = dx / self.pixel_scale, dy / self.pixel_scale
        (east, north), (xx, xy, yy) = motion.T, bending.T
        whole = np.stack([x * east + y * north - 2.0, x * east - y * north, x * north + y * east], axis=1)
        return whole - 2.0 * _PIXEL_VARIANCE * np.stack([xx + yy, xx - yy, xy], axis=1)

    def _at(self, source: IntArray, dx: FloatArray, dy: FloatArray, east: int, north: int) -> FloatArray:
        """Return the PRF of stars moved by some steps, 1 / pixel."""
        step = _STEP * self.pixel_scale
        return np.maximum(self.evaluate(source, dx - step * east, dy - step * north), _DARK)


def build_change(
    pixels: PixelTable, prf: PrfMatrix, evaluate: StarFunction, *, basis: CartesianBasis, field_order: int
) -> PrfChange:
    """Prepare the columns.

    Parameters
    ----------
    pixels : PixelTable
        Detector positions.
    prf : PrfMatrix
        Mean PRF of the pairs in which the sources matter.
    evaluate : callable
        The same as a function of source and offset.
    basis : CartesianBasis
        Functions of the offset.
    field_order : int
        Degree of the polynomial over the field.

    Returns
    -------
    PrfChange
    """
    return PrfChange(basis, evaluate, _positions(pixels, prf), field_order, pixels.instrument.pixel_scale)


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
        value, rows = np.append(prf, self.unseen), np.arange(self.source.size)
        member = csr_matrix((value, (self.source, rows)), shape=(self.n_source, rows.size))
        total = np.asarray(member.sum(axis=1)).ravel()
        return member, np.where(total > 0, total, 1.0)


def build_plane(
    change: PrfChange, pixels: PixelTable, pairs: PairTable, *, evaluate: StarFunction | None = None
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
        The PRF of sources at offsets (arcsec), for the pixels of the plane that are not among the pairs; without
        it the plane is the pairs alone.

    Returns
    -------
    PixelPlane
    """
    source, dx, dy, unseen = pairs.source, pairs.dx, pairs.dy, np.zeros(0)
    if evaluate is not None:
        far_source, far_dx, far_dy = _unseen_plane(pixels, pairs, _PLANE_RADII * change.basis.radius)
        source, dx, dy = np.append(source, far_source), np.append(dx, far_dx), np.append(dy, far_dy)
        unseen = evaluate(far_source, far_dx, far_dy)
    return PixelPlane(change.columns(source, dx, dy), source, unseen, pairs.n_source)


def _unseen_plane(pixels: PixelTable, pairs: PairTable, radius: float) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return source and offsets of the pixels around each source, out to a radius, that are not among its pairs."""
    axes = pixel_axes(pixels)
    order = np.lexsort((pairs.r, pairs.source))
    source, first = np.unique(pairs.source[order], return_index=True)
    nearest = order[first]
    to_star = -np.rint(np.linalg.solve(axes, np.stack([pairs.dx[nearest], pairs.dy[nearest]]))).astype(np.int64)
    half = int(np.ceil(radius / pixel_side(axes)))
    steps = np.stack(np.meshgrid(np.arange(-half, half + 1), np.arange(-half, half + 1))).reshape(2, -1)
    position = np.rint(np.stack([pixels.column, pixels.row])).astype(np.int64)
    position -= position.min(axis=1, keepdims=True) - half - int(np.abs(to_star).max(initial=0))
    width, height = (int(one.max()) + int(position.min()) + 1 for one in position)

    def number(sources: IntArray, column: IntArray, row: IntArray) -> IntArray:
        return (sources * height + row) * width + column

    around = to_star[:, :, None] + steps[:, None, :]
    home = position[:, pairs.pixel[nearest], None] + around
    seen = np.isin(
        number(source[:, None], *home), number(pairs.source, position[0, pairs.pixel], position[1, pairs.pixel])
    )
    move = np.tensordot(axes, around, axes=1)
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
