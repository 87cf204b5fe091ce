"""The PRF over the field: weights, shear and offset of the stars are polynomials of the place in the field.

A place is (u, v), or (u, v, c) with the scaled colour of a star, which the weights follow too.
"""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.scene.pairs import OnSky, offsets
from bayesprf.scene.prf import LogPrf, PrfModel
from bayesprf.scene.sky import ARCSEC_PER_DEG

N_COLUMN = (1, 3, 6)
"""Format: columns over the field of a constant, a plane and a quadratic surface."""


@dataclass(frozen=True, slots=True)
class FieldFrame:
    """Places in the field: tangential offsets from its centre in units of its half width, -1 to 1.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Centre, degree.
    half_width : float
        Half of the larger side, arcsec.
    """

    ra_deg: float
    dec_deg: float
    half_width: float

    @classmethod
    def around(cls, pixels: OnSky) -> "FieldFrame":
        """Return the frame that holds all pixels."""
        first = np.full(pixels.n_pixel, pixels.ra_deg[0]), np.full(pixels.n_pixel, pixels.dec_deg[0])
        dx, dy = offsets(pixels.ra_deg, pixels.dec_deg, *first)
        dec = float(pixels.dec_deg[0] + 0.5 * (dy.min() + dy.max()) / 3600.0)
        ra = float(pixels.ra_deg[0] + 0.5 * (dx.min() + dx.max()) / 3600.0 / np.cos(np.radians(pixels.dec_deg[0])))
        return cls(ra % 360.0, dec, max(0.5 * float(max(np.ptp(dx), np.ptp(dy))), 1e-9))

    def places(self, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
        """Return u and v of places on the sky, shape (n, 2); beyond the frame they stay at its edge."""
        centre = np.full(ra_deg.size, self.ra_deg), np.full(ra_deg.size, self.dec_deg)
        return np.clip(np.stack(offsets(ra_deg, dec_deg, *centre), axis=1) / self.half_width, -1.0, 1.0)

    def turn(self, place: FloatArray) -> FloatArray:
        """Return by how much the detector is turned against north at places (u, v), shape (n,), radian.

        Notes
        -----
        Meridians converge: a step in right ascension turns north by sin(dec) of it, halfway to the centre.
        """
        dec = np.radians(self.dec_deg)
        step = np.radians(self.half_width / ARCSEC_PER_DEG)
        return np.asarray(place[:, 0] * step / np.cos(dec) * np.sin(dec + 0.5 * place[:, 1] * step))


def field_columns(place: FloatArray, order: int, *, colored: bool = False) -> FloatArray:
    """Return 1, u, v, and for order 2 also u**2 - 1/3, u v, v**2 - 1/3; then the colour, if it counts.

    Parameters
    ----------
    place : ndarray of float64, shape (n, 2) or (n, 3)
        u, v and scaled colour, 0 where it is not given.
    order : int
        0, 1 or 2.
    colored : bool
        The colour is a column too.

    Returns
    -------
    ndarray of float64, shape (n, N_COLUMN[order] + colored)
    """
    u, v = place[:, 0], place[:, 1]
    columns = [np.ones(u.size), u, v, u * u - 1.0 / 3.0, u * v, v * v - 1.0 / 3.0][: N_COLUMN[order]]
    if colored:
        columns.append(place[:, 2] if place.shape[1] > 2 else np.zeros(u.size))
    return np.stack(columns, axis=1)


def order_columns(place: FloatArray, order: int) -> FloatArray:
    """Return the columns that an order above 0 adds to those of the order below, shape (n, 2) or (n, 3)."""
    return field_columns(place, order)[:, N_COLUMN[order - 1] :]


@dataclass(frozen=True, slots=True, eq=False)
class FieldPrf:
    """A PRF whose weights and shear vary over the field, and which turns against north as the detector does.

    At places (u, v) it is that of a star of median colour.

    Parameters
    ----------
    basis : PolarBasis
        Columns of log10 PRF.
    weights : ndarray of float64, shape (n_field, n_basis)
        Weights of each column over the field, dex.
    shear : ndarray of float64, shape (n_geometry, 2)
        Shear of each column over the field.
    wing_slope : float
        Power of r beyond rmax.
    pixel_area : float
        arcsec**2.
    frame : FieldFrame
        Places in the field.
    base : LogPrf, optional
        A PRF known beforehand, whose logarithm is added.
    wing_bends : tuple of float
        Changes of that power at `wing_starts`.
    colored : bool
        The last column of the weights is that of the colour.
    """

    basis: PolarBasis
    weights: FloatArray
    shear: FloatArray
    wing_slope: float
    pixel_area: float
    frame: FieldFrame
    base: LogPrf | None = None
    wing_bends: tuple[float, ...] = ()
    colored: bool = False

    @property
    def order(self) -> int:
        """Order of the surface over the field."""
        return N_COLUMN.index(self.weights.shape[0] - self.colored)

    def columns(self, place: FloatArray) -> FloatArray:
        """Return the columns of the weights at places, shape (n, n_field)."""
        return field_columns(place, self.order, colored=self.colored)

    @property
    def geometry_order(self) -> int:
        """Order of the surface of shear."""
        return N_COLUMN.index(self.shear.shape[0])

    def at(self, place: FloatArray) -> PrfModel:
        """Return the PRF at one place of the field, as it is: not normalised."""
        one = np.asarray(place, np.float64)[None]
        e1, e2 = (field_columns(one, self.geometry_order) @ self.shear)[0]
        weights = (self.columns(one) @ self.weights)[0]
        shear = (float(e1), float(e2))
        turn = float(self.frame.turn(one)[0])
        return PrfModel(self.basis, weights, self.pixel_area, shear, self.wing_slope, self.base, self.wing_bends, turn)

    def normalized_at(self, place: FloatArray) -> PrfModel:
        """Return the PRF of area one at one place of the field."""
        return self.at(place).normalized()

    def normalized(self) -> "FieldPrf":
        """Return the PRF whose area is one over the field, as nearly as its columns over the field can."""
        return self.less(fit_surface(np.log10(self.areas()), self.order, colored=self.colored))

    def less(self, level: FloatArray) -> "FieldPrf":
        """Return the PRF with a surface of constants, shape (n_field,), subtracted from the logarithm, dex."""
        return replace(self, weights=self.weights - level[:, None])

    def areas(self) -> FloatArray:
        """Return the area at `area_places`, shape (n_node,)."""
        return np.array([self.at(place).area() for place in area_places(colored=self.colored)])


NODES = np.stack([grid.ravel() for grid in np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])], axis=1)
"""Nine places of the field, shape (9, 2), between which smooth quantities are interpolated."""

COLORS = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
"""The middle of the field for stars one scatter bluer and redder than the median, shape (2, 3)."""


def node_weights(place: FloatArray) -> FloatArray:
    """Return the weights with which values at `NODES` give a biquadratic surface, shape (n, 9)."""

    def along(x: FloatArray) -> FloatArray:
        return np.stack([0.5 * x * (x - 1.0), 1.0 - x * x, 0.5 * x * (x + 1.0)], axis=1)

    first, second = along(place[:, 0]), along(place[:, 1])
    return np.asarray((second[:, :, None] * first[:, None, :]).reshape(-1, 9))


def area_places(*, colored: bool) -> FloatArray:
    """Return the places at which the area is taken: `NODES`, and the middle at either side of the median colour."""
    return np.concatenate([np.pad(NODES, ((0, 0), (0, 1))), COLORS]) if colored else NODES


def fit_surface(values: FloatArray, order: int, *, colored: bool = False) -> FloatArray:
    """Return the coefficients of a surface through values at `area_places`, shape (N_COLUMN[order] + colored,)."""
    columns = field_columns(area_places(colored=colored), order, colored=colored)
    return np.asarray(np.linalg.lstsq(columns, values, rcond=None)[0])
