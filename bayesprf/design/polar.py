"""Polar columns of the PRF: cubic B-splines in radius times periodic cubic B-splines in angle."""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_positive
from bayesprf.design.splines import CUBIC, local_periodic_splines, local_splines, open_knots
from bayesprf.errors import InputError

# Derived: a knot closer to cut_r than half the local spacing is dropped, so that the nearer of the two is the cut, a
# knot itself.
_MERGE_SHARE = 0.5

# Cost: weights whose normal matrix is factorised in about a third of a second, some fifty times in a fit.
_MAX_WEIGHTS = 1600


@dataclass(frozen=True, slots=True)
class PolarBasis:
    """Columns A(phi, r) of the logarithm of the PRF.

    Radial knots are square-root spaced from `rmin` to `rmax`, with fixed bounds 0 and `rmax`. The two
    innermost B-splines share a weight, so that the PRF is flat, not pointed, at the centre. Inside
    `cut_r` only the radius counts: functions that begin there have one column, those that begin
    farther out have one column per angular function. All columns sum to one at every place, so
    adding a constant to every weight adds it to the log of the PRF.

    Parameters
    ----------
    rmin, rmax : float
        Smallest and largest knot, arcsec.
    cut_r : float
        Radius inside which the angle does not count, arcsec.
    n_r_knots, n_phi_knots : int
        Number of radial and angular knots.

    Raises
    ------
    InputError
        If the radii are not 0 < rmin < rmax, `cut_r` is negative, or there are too few knots.

    Notes
    -----
    Hedges et al. (2021), section 2: log10 of the normalised flux as splines in r and phi.
    """

    rmin: float = 1.0
    rmax: float = 16.0
    cut_r: float = 6.0
    n_r_knots: int = 10
    n_phi_knots: int = 15
    knots: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_positive(self.rmin, "rmin")
        if not self.rmax > self.rmin:
            raise InputError(f"rmax: expected a radius above rmin = {self.rmin} arcsec, got {self.rmax}")
        if not self.cut_r >= 0:
            raise InputError(f"cut_r: expected 0 or more arcsec, got {self.cut_r}")
        if self.n_r_knots < 3:
            raise InputError(f"n_r_knots: expected at least 3, got {self.n_r_knots}")
        if self.n_phi_knots <= CUBIC:
            raise InputError(f"n_phi_knots: expected at least {CUBIC + 1}, got {self.n_phi_knots}")
        if self.n_r_knots * self.n_phi_knots > _MAX_WEIGHTS:
            raise InputError(
                f"n_r_knots, n_phi_knots: expected at most {_MAX_WEIGHTS} weights, got {self.n_r_knots} x"
                f" {self.n_phi_knots}; take fewer knots"
            )
        object.__setattr__(self, "knots", open_knots(self._breaks(), CUBIC))

    def _breaks(self) -> FloatArray:
        """Return 0, the square-root spaced knots, and the cut twice: the angle sets in with a smooth slope."""
        radii = np.linspace(np.sqrt(self.rmin), np.sqrt(self.rmax), self.n_r_knots) ** 2
        radii[-1] = self.rmax
        if 0 < self.cut_r < self.rmax:
            spacing = np.interp(self.cut_r, radii[1:], np.diff(radii))
            inner = radii[:-1][np.abs(radii[:-1] - self.cut_r) > _MERGE_SHARE * spacing]
            radii = np.sort(np.concatenate([inner, [self.cut_r, self.cut_r, self.rmax]]))
        return np.concatenate([[0.0], radii])

    @property
    def starts(self) -> FloatArray:
        """Radius at which each radial function begins, shape (n_radial,), arcsec."""
        return self.knots[1 : -CUBIC - 1]

    @property
    def ends(self) -> FloatArray:
        """Radius at which each radial function ends, shape (n_radial,), arcsec."""
        return self.knots[CUBIC + 2 :]

    @property
    def n_core(self) -> int:
        """Number of radial functions that do not depend on the angle; at least the one at r = 0."""
        return max(1, int(np.sum(self.starts < self.cut_r)))

    @property
    def n_radial(self) -> int:
        """Number of radial functions."""
        return int(self.starts.size)

    @property
    def n_basis(self) -> int:
        """Number of columns."""
        return self.n_core + (self.n_radial - self.n_core) * self.n_phi_knots

    @property
    def greville(self) -> FloatArray:
        """Radius that each radial function stands for, shape (n_radial,), arcsec."""
        radii = np.array([self.knots[j + 1 : j + 1 + CUBIC].mean() for j in range(1, self.n_radial + 1)])
        radii[0] = 0.0
        return radii

    @property
    def radial_index(self) -> IntArray:
        """Radial function of each column, shape (n_basis,)."""
        outer = np.repeat(np.arange(self.n_core, self.n_radial), self.n_phi_knots)
        return np.concatenate([np.arange(self.n_core), outer])

    @property
    def centers(self) -> FloatArray:
        """Radius that each column stands for, shape (n_basis,), arcsec."""
        return self.greville[self.radial_index]

    def matrix(self, r: FloatArray, phi: FloatArray) -> csr_matrix:
        """Evaluate the columns; beyond `rmax` they keep their value at `rmax`.

        Parameters
        ----------
        r : ndarray of float64, shape (n,)
            Distance from the source, arcsec.
        phi : ndarray of float64, shape (n,)
            Angle, radian.

        Returns
        -------
        csr_matrix of float64, shape (n, n_basis)
        """
        columns, values = self.entries(r, phi)
        indptr = np.arange(r.size + 1) * columns.shape[1]
        matrix = csr_matrix((values.ravel(), columns.ravel(), indptr), shape=(r.size, self.n_basis))
        matrix.sum_duplicates()
        return matrix

    def entries(self, r: FloatArray, phi: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the column and the value of the 16 products that are not zero at each place.

        Parameters
        ----------
        r, phi : ndarray of float64, shape (n,)
            Distance, arcsec, and angle, radian.

        Returns
        -------
        columns : ndarray of int64, shape (n, 16)
            A radial function of the core names its one column four times: the angular values sum to one.
        values : ndarray of float64, shape (n, 16)
        """
        radial, radial_value = local_splines(np.minimum(r, self.rmax), self.knots, CUBIC)
        radial = np.maximum(radial - 1, 0)
        around, around_value = local_periodic_splines(phi, self.n_phi_knots, CUBIC)
        columns = self._column_of(radial[:, :, None], around[:, None, :])
        values = radial_value[:, :, None] * around_value[:, None, :]
        per_place = columns.shape[1] * columns.shape[2]
        return columns.reshape(r.size, per_place), values.reshape(r.size, per_place)

    def roughness(self) -> csr_matrix:
        """Return rows whose squares penalise bends: second differences in radius and around the circle.

        Returns
        -------
        csr_matrix of float64, shape (n_row, n_basis)
            Radial rows are second differences of the weights over the Greville radii in units of their
            spacing; angular rows second differences between neighbours on the circle.
        """
        column = self._column_of(np.arange(self.n_radial)[:, None], np.arange(self.n_phi_knots))
        left, right = np.diff(self.greville)[:-1], np.diff(self.greville)[1:]
        inner = 4.0 * np.minimum(left, right) / (left + right) ** 2
        bends = []
        for j in range(1, self.n_radial - 1):
            around = slice(None) if j >= self.n_core - 1 else slice(1)
            values = inner[j - 1] * np.array([right[j - 1], -(left[j - 1] + right[j - 1]), left[j - 1]])
            bends.append((column[j - 1 : j + 2, around].T, values))
        for j in range(self.n_core, self.n_radial):
            ring = column[j]
            bends.append((np.stack([np.roll(ring, 1), ring, np.roll(ring, -1)], axis=1), np.array([1.0, -2.0, 1.0])))
        columns = np.concatenate([one for one, _ in bends])
        values = np.concatenate([np.tile(weights, (one.shape[0], 1)) for one, weights in bends])
        indptr = np.arange(columns.shape[0] + 1) * 3
        rows = csr_matrix((values.ravel(), columns.ravel(), indptr), shape=(columns.shape[0], self.n_basis))
        rows.sum_duplicates()
        return rows

    def _column_of(self, radial: IntArray, around: IntArray) -> IntArray:
        """Return the column of a radial and an angular function; all angles share the columns of the core."""
        core = self.n_core
        outer = radial >= core
        return np.where(outer, core + (radial - core) * self.n_phi_knots, radial) + around * outer
