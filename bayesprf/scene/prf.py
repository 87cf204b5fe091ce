"""The PRF as a function on the sky: splines inside rmax, a power law outside, area one."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix, hstack

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.design.polar import PolarBasis

# Derived: the slope of the wing stays inside bounds in which the area is finite: an Airy pattern falls as r**-3,
# scattered light no slower than r**-2.5.
FLATTEST_WING = -2.5
_WING_BOUNDS = (-8.0, FLATTEST_WING)
# Accuracy: points of the integral of the PRF's area: per interval of knots, and around.
_N_NODE, N_EDGE_NODE = 8, 96
"""Nodes of the integral of the PRF that lie at rmax."""
# Accuracy: radii at which the largest value around is looked up.
_N_RING = 256
_WING_STEP = float(np.sqrt(2.0))
_CHUNK = 1 << 18
# Accuracy: nodes per ring and angle of the area as a function of weights and slope: it only corrects what moves from
# the fit.
_N_FREE_NODE, _N_FREE_ANGLE = 4, 30
# Rounding: step of the numerical derivative of log10 PRF with position, in pixels.
_LOG_STEP = 1e-3

LN10 = float(np.log(10.0))

STEPS: dict[str, float] = {"east": 0.05, "north": 0.05, "size": 0.005, "e1": 0.005, "e2": 0.005}
"""What a star's PRF may differ by from the common one, and the steps of the numerical derivatives: arcsec for the
position, a ratio for the size, shear for the rest."""


class LogPrf(Protocol):
    """A PRF known beforehand, to which splines are added in the logarithm; it is constant along a ray beyond rmax."""

    def log10(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return log10 of the PRF at offsets, arcsec, in coordinates in which the core is round, shape (n,), dex."""
        ...

    def gradient(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the gradient of the natural logarithm, shape (n, 2), 1 / arcsec."""
        ...


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
    wing_slope : float
        Power of r with which the PRF falls beyond rmax.
    base : LogPrf, optional
        A PRF known beforehand, whose logarithm is added.
    wing_bends : tuple of float
        Changes of that power at `wing_starts`.
    turn : float
        Angle from the axes of the PRF to east and north, radian.

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
    wing_slope: float = -3.5
    base: LogPrf | None = None
    wing_bends: tuple[float, ...] = ()
    turn: float = 0.0

    def with_wing(self, slope: float) -> "PrfModel":
        """Return the PRF with another slope of the wing, kept inside bounds in which its area is finite."""
        return replace(self, wing_slope=float(np.clip(slope, *_WING_BOUNDS)))

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
        from bayesprf.linalg.compiled.polar import evaluate_pairs

        values, basis = np.empty(dx.size), self.basis
        wing, shape = np.array([self.wing_slope, *self.wing_bends]), (basis.n_core, basis.n_phi_knots)
        weights = np.ascontiguousarray(self.weights, np.float64)[None]
        for start in range(0, dx.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            place = np.stack(round_offsets(*turned(dx[part], dy[part], self.turn), self.shear), axis=1)
            known = np.isfinite(place).all(axis=1)
            place[~known] = 0.0
            one, log, gradient = np.zeros(len(place), np.int64), np.empty(len(place)), np.empty(place.shape)
            evaluate_pairs(one, place, weights, wing, wing_starts(wing.size), basis.knots, shape, log, gradient)
            if self.base is not None:
                log += self.base.log10(*place.T)
            values[part] = np.where(known, 10.0**log, np.nan)
        return values

    @property
    def peak(self) -> float:
        """PRF at the centre, 1 / pixel."""
        return float(10.0 ** (self.weights[0] + self.base_at(np.zeros(1), np.zeros(1))[0]))

    def base_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return log10 of what is known beforehand at offsets in round coordinates, 0 without, shape (n,), dex."""
        return np.zeros(x.size) if self.base is None else self.base.log10(x, y)

    def envelope(self, r: FloatArray) -> FloatArray:
        """Return an upper bound of the PRF over all angles at each radius, 1 / pixel, never rising outwards.

        B-splines lie below the largest of the weights that matter at a radius: no evaluation is needed.
        """
        r = r * np.exp(-np.hypot(*self.shear))
        radial = np.full(self.basis.n_radial, -np.inf)
        np.maximum.at(radial, self.basis.radial_index, self.weights)
        highest_from = np.maximum.accumulate(radial[::-1])[::-1]
        first = np.searchsorted(self.basis.ends, np.minimum(r, self.basis.rmax), side="right")
        highest = highest_from[np.minimum(first, self.basis.n_radial - 1)]
        tail = wing_columns(r / self.basis.rmax, len(self.wing_bends)) @ np.array([self.wing_slope, *self.wing_bends])
        return 10.0 ** (highest + tail + self._highest_base(np.minimum(r, self.basis.rmax)))

    def _highest_base(self, r: FloatArray) -> FloatArray:
        """Return the largest value over all angles of what is known beforehand at each radius and beyond, dex."""
        if self.base is None:
            return np.zeros(r.size)
        radius = np.linspace(0.0, self.basis.rmax, _N_RING)
        x, y = radius[:, None] * np.cos(_angles(N_EDGE_NODE)), radius[:, None] * np.sin(_angles(N_EDGE_NODE))
        ring = self.base.log10(x.ravel(), y.ravel()).reshape(_N_RING, N_EDGE_NODE).max(axis=1)
        highest_from = np.maximum.accumulate(ring[::-1])[::-1]
        return highest_from[np.maximum(np.searchsorted(radius, r, side="right") - 1, 0)]

    def area(self) -> float:
        """Return the integral of the PRF over the sky in units of a pixel; one once normalised."""
        _, _, share = self._shares()
        return float(share.sum())

    def area_gradient(self) -> FloatArray:
        """Return the derivative of log10 of the area with respect to each weight, shape (n_basis,); it sums to one."""
        columns, values, share = self._shares()
        return np.bincount(
            columns.ravel(), weights=(values * share[:, None]).ravel(), minlength=self.basis.n_basis
        ) / float(share.sum())

    def _shares(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return basis entries of all nodes, and the light that each stands for, pixel."""
        columns, values, weight, base = self._quadrature()
        return columns, values, weight * 10.0 ** (base + np.einsum("ij,ij->i", values, self.weights[columns]))

    def _quadrature(self) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
        """Return basis entries and weights (pixel) of nodes inside rmax, and of the edge for the wing beyond it."""
        r, phi, weight = area_nodes(self.basis)
        columns, values = self.basis.entries(r, phi)
        weight = weight / self.pixel_area
        weight[-N_EDGE_NODE:] *= wing_area((self.wing_slope, *self.wing_bends))
        return columns, values, weight, self.base_at(r * np.cos(phi), r * np.sin(phi))

    def normalized(self) -> "PrfModel":
        """Return the PRF with area one: a constant is added to the log, the shape stays."""
        return replace(self, weights=self.weights - np.log10(self.area()))


@dataclass(frozen=True, slots=True)
class StarPrf:
    """The PRFs of sources.

    Parameters
    ----------
    prfs : tuple of PrfModel
        One per source, or one for all.
    turn : ndarray of float64, shape (n_source,), optional
        By how much one for all is turned at each source, radian.
    """

    prfs: tuple[PrfModel, ...]
    turn: FloatArray | None = None

    def __call__(self, source: IntArray, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the PRF of sources at offsets.

        Parameters
        ----------
        source : ndarray of int64, shape (n,)
            Numbers of the sources.
        dx, dy : ndarray of float64, shape (n,)
            Offset of the pixel centre towards east and north, arcsec.

        Returns
        -------
        ndarray of float64, shape (n,)
            1 / pixel.
        """
        if len(self.prfs) == 1:
            turn = 0.0 if self.turn is None else self.turn[source]
            return self.prfs[0].evaluate(*turned(dx, dy, turn))
        values, order = np.empty(dx.size), np.argsort(source, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(source[order])) + 1):
            if part.size:
                values[part] = self.prfs[int(source[part[0]])].evaluate(dx[part], dy[part])
        return values


def wing_columns(stretch: FloatArray, n_bend: int) -> FloatArray:
    """Return what slope and bends of the wing are multiplied by in log10 PRF, shape (n, 1 + n_bend).

    Parameters
    ----------
    stretch : ndarray of float64, shape (n,)
        r / rmax.
    n_bend : int
        Number of bends.
    """
    return np.maximum(np.log10(np.maximum(stretch, 1e-300))[:, None] - wing_starts(n_bend + 1), 0.0)


def wing_starts(n_wing: int) -> FloatArray:
    """Return where slope and bends of the wing begin, log10(r / rmax), shape (n_wing,); rings double in area."""
    return 0.5 * np.log10(2.0) * np.arange(n_wing)


def wing_area(wing: tuple[float, ...]) -> float:
    """Return the integral of (PRF / PRF(rmax)) x dx over x = r / rmax from 1 to infinity."""
    total, level, powers = 0.0, 1.0, np.cumsum(wing) + 2.0
    for k, power in enumerate(powers):
        if k == len(powers) - 1:
            return float(total + level / -power) if power < 0 else np.inf
        safe = power if abs(power) > 1e-9 else 1e-9
        total += level * (_WING_STEP**safe - 1.0) / safe
        level *= _WING_STEP**safe
    return total


def turned(dx: FloatArray, dy: FloatArray, angle: FloatArray | float) -> tuple[FloatArray, FloatArray]:
    """Return offsets along axes that are turned by an angle from north towards east, radian."""
    if not np.any(angle):
        return dx, dy
    c, s = np.cos(angle), np.sin(angle)
    return c * dx - s * dy, s * dx + c * dy


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
    u, v = round_offsets(dx, dy, shear)
    return np.hypot(u, v), np.arctan2(v, u)


def round_offsets(dx: FloatArray, dy: FloatArray, shear: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Return offsets, shape (n,), arcsec, in the coordinates in which the core is round."""
    size = float(np.hypot(*shear))
    grow = np.sinh(size) / size if size > 0 else 1.0
    e1, e2, even = grow * shear[0], grow * shear[1], np.cosh(size)
    return (even + e1) * dx + e2 * dy, e2 * dx + (even - e1) * dy


def prf_gradients(
    prf: PrfModel, dx: FloatArray, dy: FloatArray, *, names: Iterable[str] = tuple(STEPS)
) -> dict[str, FloatArray]:
    """Return the derivatives of the PRF with respect to a star's position, size and shear.

    Parameters
    ----------
    prf : PrfModel
        The PRF.
    dx, dy : ndarray of float64, shape (n,)
        Offset of the pixel from the star towards east and north, arcsec.
    names : iterable of str
        Which of `STEPS`.

    Returns
    -------
    dict of str to ndarray of float64, shape (n,)
        Per name, 1 / pixel per unit, by central differences; the total light stays the same.
    """

    def moved(name: str, step: float) -> FloatArray:
        if name == "east":
            return prf.evaluate(dx - step, dy)
        if name == "north":
            return prf.evaluate(dx, dy - step)
        if name == "size":
            return prf.evaluate(dx / (1.0 + step), dy / (1.0 + step)) / (1.0 + step) ** 2
        return prf.sheared(*((step, 0.0) if name == "e1" else (0.0, step))).evaluate(dx, dy)

    return {name: (moved(name, STEPS[name]) - moved(name, -STEPS[name])) / (2.0 * STEPS[name]) for name in names}


def log_motion_gradients(prf: PrfModel, dx: FloatArray, dy: FloatArray) -> FloatArray:
    """Return the change of log10 PRF per arcsec that the star moves east and north, shape (n, 2), dex / arcsec."""
    step = _LOG_STEP * np.sqrt(prf.pixel_area)
    ahead = [prf.evaluate(dx - step * (k == 0), dy - step * (k == 1)) for k in (0, 1)]
    behind = [prf.evaluate(dx + step * (k == 0), dy + step * (k == 1)) for k in (0, 1)]
    return np.stack([np.log10(a / b) / (2.0 * step) for a, b in zip(ahead, behind, strict=True)], axis=1)


def area_columns(prf: PrfModel) -> tuple[csr_matrix, FloatArray]:
    """Return columns and weights with which the area is sum of weight 10**(columns v), one at the PRF itself.

    v holds the weights of log10 PRF and the slope of the wing, whose area is the integral of exp((2 + slope) u) over
    u = ln(r / rmax) from 0 to infinity (Gauss-Laguerre). Bends of the wing, and what is known beforehand, are part of
    the weights.
    """
    radius, ring = _ring_nodes(prf.basis, _N_FREE_NODE)
    depth, depth_weights = np.polynomial.laguerre.laggauss(_N_FREE_NODE)
    u = depth / (-prf.wing_slope - 2.0)
    bent = wing_columns(np.exp(u), len(prf.wing_bends))[:, 1:] @ np.array(prf.wing_bends)
    outer = prf.basis.rmax**2 * depth_weights * np.exp(-prf.wing_slope * u) / (-prf.wing_slope - 2.0) * 10.0**bent
    wing = np.append(np.zeros(radius.size), np.log10(np.e) * u)
    radius, ring = np.append(radius, np.full(u.size, prf.basis.rmax)), np.append(ring, outer)
    r, phi = np.repeat(radius, _N_FREE_ANGLE), np.tile(_angles(_N_FREE_ANGLE), radius.size)
    columns = hstack([prf.basis.matrix(r, phi), np.repeat(wing, _N_FREE_ANGLE)[:, None]]).tocsr()
    weight = np.repeat(ring, _N_FREE_ANGLE) * 10.0 ** prf.base_at(r * np.cos(phi), r * np.sin(phi))
    return columns, weight / (weight @ 10.0 ** (columns @ np.append(prf.weights, prf.wing_slope)))


def area_nodes(basis: PolarBasis) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return nodes of the integral of a PRF over the sky: r (arcsec), phi (radian) and weights (arcsec**2).

    The last `N_EDGE_NODE` lie at rmax and stand for a wing whose `wing_area` is one.
    """
    radius, inside = _ring_nodes(basis, _N_NODE)
    weight = np.repeat(np.append(inside, basis.rmax**2), N_EDGE_NODE) * (2.0 * np.pi / N_EDGE_NODE)
    radius = np.append(radius, basis.rmax)
    return np.repeat(radius, N_EDGE_NODE), np.tile(_angles(N_EDGE_NODE), radius.size), weight


def _ring_nodes(basis: PolarBasis, n_node: int) -> tuple[FloatArray, FloatArray]:
    """Return Gauss-Legendre nodes between the radial knots, arcsec, and weights of the integral r dr, arcsec**2."""
    nodes, node_weights = np.polynomial.legendre.leggauss(n_node)
    bounds = np.unique(basis.knots)
    half = 0.5 * np.diff(bounds)
    radius = (0.5 * (bounds[1:] + bounds[:-1])[:, None] + half[:, None] * nodes).ravel()
    return radius, radius * (half[:, None] * node_weights).ravel()


def _angles(n_angle: int) -> FloatArray:
    return np.linspace(0.0, 2.0 * np.pi, n_angle, endpoint=False, dtype=np.float64)
