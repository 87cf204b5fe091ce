"""Position columns: products of B-splines in dx and dy on fixed knots."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray
from bayesprf.checks import check_choice, check_positive, check_types
from bayesprf.design.splines import open_knots, open_splines
from bayesprf.errors import InputError

KNOT_SPACINGS = ("linear", "sqrt")


@dataclass(frozen=True, slots=True)
class CartesianBasis:
    """Functions B_m(dx, dy) = b_i(dx) b_j(dy), m = j n_side + i, that sum to one on the square |dx|, |dy| <= radius.

    Parameters
    ----------
    n_knots : int
        Knots on each axis from -radius to radius; an even number is raised by one, so that one lies in the middle.
    radius : float
        Half side of the square, arcsec.
    degree : int
        Degree of the pieces.
    spacing : {"linear", "sqrt"}
        Knots at equal distances, or denser in the middle: at equal distances in the root of |dx|.

    Raises
    ------
    InputError
        If a number is out of range or the spacing unknown.

    Notes
    -----
    The knots are these numbers whatever the data, so that fit and prediction share one basis. Outside the
    square a function keeps the value of the nearest point of the square.
    """

    n_knots: int = 10
    radius: float = 8.0
    degree: int = 2
    spacing: str = "linear"

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self.radius, "radius")
        check_choice(self.spacing, KNOT_SPACINGS, "spacing")
        if self.n_knots < 2 or self.degree < 1:
            raise InputError(
                f"n_knots, degree: expected at least 2 knots and degree 1, got {self.n_knots} and {self.degree}"
            )

    @property
    def breaks(self) -> FloatArray:
        """Knots on one axis, shape (n_knots,) or one more, arcsec."""
        steps = np.linspace(-1.0, 1.0, self.n_knots + (self.n_knots + 1) % 2)
        if self.spacing == "sqrt":
            steps = np.sign(steps) * steps**2
        return self.radius * steps

    @property
    def n_side(self) -> int:
        """Number of functions on one axis."""
        return int(self.breaks.size) + self.degree - 1

    @property
    def n_column(self) -> int:
        """Number of functions."""
        return self.n_side**2

    def columns(self, dx: FloatArray, dy: FloatArray) -> csr_matrix:
        """Evaluate all functions.

        Parameters
        ----------
        dx, dy : ndarray of float64, shape (n,)
            Offsets, arcsec.

        Returns
        -------
        csr_matrix of float64, shape (n, n_column)
            Rows sum to one.
        """
        knots = open_knots(self.breaks, self.degree)
        x, y = (np.clip(one, -self.radius, self.radius) for one in (dx, dy))
        return _row_product(open_splines(x, knots, self.degree), open_splines(y, knots, self.degree))

    def reaching_columns(self, dx: FloatArray, dy: FloatArray) -> csr_matrix:
        """Evaluate functions that go on beyond the square, as PSFMachine's do.

        Parameters
        ----------
        dx, dy : ndarray of float64, shape (n,)
            Offsets, arcsec.

        Returns
        -------
        csr_matrix of float64, shape (n, (n_side + 3)**2)
            Products of n_side + 3 functions on each axis.

        Notes
        -----
        On each axis: the splines of `columns`, whose outer pieces go on as polynomials and which add up to one, then
        three functions of what lies beyond the edges: the power of each side, and the distance. So columns within the
        square do not depend on the data; beyond twice its half side they keep their value. PSFMachine puts its outer
        knots at the outermost data, and adds a constant.
        """
        first, second = (self._reaching_side(one) for one in (dx, dy))
        return csr_matrix((second[:, :, None] * first[:, None, :]).reshape(dx.size, -1))

    def _reaching_side(self, offset: FloatArray) -> FloatArray:
        """Return the functions of one axis, shape (n, n_side + 3)."""
        offset = np.clip(offset, -2.0 * self.radius, 2.0 * self.radius)
        knots = open_knots(self.breaks, self.degree)
        splines = BSpline.design_matrix(offset, knots, self.degree, extrapolate=True).toarray()
        beyond = np.maximum(np.stack([-offset, offset], axis=1) / self.radius - 1.0, 0.0)
        return np.hstack([splines, beyond**self.degree, beyond.sum(axis=1, keepdims=True)])


def _row_product(first: csr_matrix, second: csr_matrix) -> csr_matrix:
    """Return the row-by-row Kronecker product of two matrices with equally many entries in every row."""
    n, width = first.shape
    a, b = first.data.reshape(n, -1), second.data.reshape(n, -1)
    i, j = first.indices.reshape(n, -1), second.indices.reshape(n, -1)
    data = (b[:, :, None] * a[:, None, :]).ravel()
    indices = (j[:, :, None] * width + i[:, None, :]).ravel()
    indptr = np.arange(n + 1) * (a.shape[1] * b.shape[1])
    return csr_matrix((data, indices, indptr), shape=(n, width * second.shape[1]))
