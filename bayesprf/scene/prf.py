"""The PRF as a function on the sky: splines inside rmax, a power law outside, area one."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.design.polar import PolarBasis
from bayesprf.design.splines import local_periodic_splines

# The slope of the wing stays inside bounds in which the area is finite: an Airy pattern falls as r**-3,
# scattered light no slower than r**-2.5.
_TAIL_BOUNDS = (-8.0, -2.5)
_N_ANGLE = 96
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class PrfModel:
    """Fraction of a star's light in a pixel, as a function of the pixel's offset from the star.

    Parameters
    ----------
    basis : PolarBasis
        Columns of log10 PRF.
    weights : ndarray of float64, shape (n_basis,)
        `psf_w`, dex.
    pixel_area : float
        Area of a pixel on the sky, arcsec**2.
    shear : tuple of float
        Stretch of the sky along the axes and along the diagonals, after which the core is round.
    tail_slope : float
        Power of r with which the PRF falls beyond rmax.

    Notes
    -----
    log10 PRF = A(phi, r) psf_w for r <= rmax (Hedges et al. 2021, equation 5), and falls as a power of
    r beyond. r and phi are
    taken in coordinates in which the core is round, so that "only the radius counts" holds for
    elliptical stars too; the map keeps areas.
    """

    basis: PolarBasis
    weights: FloatArray
    pixel_area: float
    shear: tuple[float, float] = (0.0, 0.0)
    tail_slope: float = -3.5

    def with_tail(self, slope: float) -> "PrfModel":
        """Return the PRF with another slope of the wing, kept inside bounds in which its area is finite."""
        return replace(self, tail_slope=float(np.clip(slope, *_TAIL_BOUNDS)))

    def sheared(self, e1: float, e2: float) -> "PrfModel":
        """Return the PRF with its shear changed by (e1, e2)."""
        return replace(self, shear=(self.shear[0] + float(e1), self.shear[1] + float(e2)))

    def evaluate(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the PRF at offsets from the star.

        Parameters
        ----------
        dx, dy : ndarray of float64, shape (n,)
            Offset of the pixel centre towards east and north, arcsec.

        Returns
        -------
        ndarray of float64, shape (n,)
            1 / pixel.
        """
        values = np.empty(dx.size)
        slope = self.tail_slope
        for start in range(0, dx.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            r, phi = round_coordinates(dx[part], dy[part], self.shear)
            inside = r < self.basis.rmax
            log = np.empty(r.size)
            log[inside] = self._spline(r[inside], phi[inside])
            log[~inside] = self._edge(phi[~inside])
            log += slope * np.log10(np.maximum(r, self.basis.rmax) / self.basis.rmax)
            values[part] = 10.0**log
        return values

    @property
    def peak(self) -> float:
        """PRF at the centre, 1 / pixel."""
        return float(10.0 ** self.weights[0])

    def envelope(self, r: FloatArray) -> FloatArray:
        """Return an upper bound of the PRF over all angles at each radius, 1 / pixel, never rising outwards.

        B-splines lie below the largest of the weights that matter at a place: no evaluation is needed.
        """
        r = r * np.exp(-np.hypot(*self.shear))
        radial = np.full(self.basis.n_radial, -np.inf)
        np.maximum.at(radial, self.basis.radial_index, self.weights)
        highest_from = np.maximum.accumulate(radial[::-1])[::-1]
        first = np.searchsorted(self.basis.ends, np.minimum(r, self.basis.rmax), side="right")
        highest = highest_from[np.minimum(first, self.basis.n_radial - 1)]
        tail = self.tail_slope * np.log10(np.maximum(r, self.basis.rmax) / self.basis.rmax)
        return 10.0 ** (highest + tail)

    def area(self) -> float:
        """Return the integral of the PRF over the sky in units of a pixel; one once normalised."""
        columns, values, weight = self._quadrature()
        return float(weight @ 10.0 ** np.einsum("ij,ij->i", values, self.weights[columns]))

    def area_gradient(self) -> FloatArray:
        """Return the derivative of log10 of the area with respect to each weight, shape (n_basis,); it sums to one."""
        columns, values, weight = self._quadrature()
        share = weight * 10.0 ** np.einsum("ij,ij->i", values, self.weights[columns])
        return np.bincount(
            columns.ravel(), weights=(values * share[:, None]).ravel(), minlength=self.basis.n_basis
        ) / float(share.sum())

    def _quadrature(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return basis entries and weights (pixel) of nodes inside rmax, and of the edge for the wing beyond it."""
        nodes, node_weights = np.polynomial.legendre.leggauss(8)
        bounds = np.unique(self.basis.knots)
        half = 0.5 * np.diff(bounds)
        radius = (0.5 * (bounds[1:] + bounds[:-1])[:, None] + half[:, None] * nodes).ravel()
        inside = radius * (half[:, None] * node_weights).ravel()
        wing = self.basis.rmax**2 / (-self.tail_slope - 2.0)
        columns, values = self.basis.entries(
            np.repeat(np.append(radius, self.basis.rmax), _N_ANGLE), np.tile(_angles(), radius.size + 1)
        )
        weight = np.repeat(np.append(inside, wing), _N_ANGLE) * (2.0 * np.pi / _N_ANGLE / self.pixel_area)
        return columns, values, weight

    def normalized(self) -> "PrfModel":
        """Return the PRF with area one: a constant is added to the log, the shape stays."""
        return replace(self, weights=self.weights - np.log10(self.area()))

    def _edge(self, phi: FloatArray) -> FloatArray:
        """Return log10 PRF at rmax, where one radial function alone is left."""
        if self.basis.n_core == self.basis.n_radial:
            return np.full(phi.size, self.weights[-1])
        around, values = local_periodic_splines(phi, self.basis.n_phi_knots)
        return np.einsum("ij,ij->i", values, self.weights[-self.basis.n_phi_knots :][around])

    def _spline(self, r: FloatArray, phi: FloatArray) -> FloatArray:
        columns, values = self.basis.entries(r, phi)
        return np.einsum("ij,ij->i", values, self.weights[columns])


def round_coordinates(dx: FloatArray, dy: FloatArray, shear: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Return radius and angle in the coordinates in which the core is round.

    Parameters
    ----------
    dx, dy : ndarray of float64, shape (n,)
        Offset towards east and north, arcsec.
    shear : tuple of float
        (e1, e2) of the map exp([[e1, e2], [e2, -e1]]), whose determinant is one.

    Returns
    -------
    r, phi : ndarray of float64, shape (n,)
        arcsec, radian.
    """
    size = float(np.hypot(*shear))
    grow = np.sinh(size) / size if size > 0 else 1.0
    e1, e2, even = grow * shear[0], grow * shear[1], np.cosh(size)
    u, v = (even + e1) * dx + e2 * dy, e2 * dx + (even - e1) * dy
    return np.hypot(u, v), np.arctan2(v, u)


def _angles() -> FloatArray:
    return np.linspace(0.0, 2.0 * np.pi, _N_ANGLE, endpoint=False, dtype=np.float64)
