"""Known PRFs for simulations: sums of elliptical Moffat profiles over pixels, outside every spline family."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.optimize import minimize

from bayesprf.arrays import FloatArray
from bayesprf.checks import check_choice, check_positive, shown
from bayesprf.errors import InputError

# Gauss-Legendre nodes per axis, used from this distance on (pixel): the relative error of a pixel's integral
# of a Moffat profile 1.5 pixels wide stays below 2e-6 everywhere.
_NODES_FROM = ((0.0, 5), (4.0, 4), (6.0, 3), (20.0, 2))
# Pairs evaluated at once, so that temporaries stay in cache.
_CHUNK_PAIRS = 1 << 15
# Radii (pixel) of the table of light above a level, and angles looked at.
_TABLE_RADII = np.geomspace(0.5, 1000.0, 400)
_TABLE_ANGLES = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)


class PrfTruth(Protocol):
    """The share of a star's light that falls into a pixel, as a function of the pixel's offset from the star."""

    def evaluate(self, dcolumn: FloatArray, drow: FloatArray) -> FloatArray:
        """Return the share of the light in pixels whose centres lie (dcolumn, drow) pixels from the star."""
        ...

    def radius(self, level: FloatArray) -> FloatArray:
        """Return the distance (pixel) beyond which the PRF stays below each level (1 / pixel)."""
        ...


@dataclass(frozen=True, slots=True)
class Moffat:
    """One elliptical Moffat profile, I = w (beta - 1) / (pi a b) (1 + u^2 / a^2 + v^2 / b^2)^-beta (Moffat 1969).

    Parameters
    ----------
    weight : float
        Integral w over the plane.
    major, minor : float
        Scales a and b along the axes u and v, pixel.
    beta : float
        Slope; above 1, so that the light is finite, and above 1.5, so that its centroid is.
    angle : float
        Angle of the axis u from the column axis towards the row axis, radian.
    column, row : float
        Centre, pixel.
    """

    weight: float
    major: float
    minor: float
    beta: float
    angle: float = 0.0
    column: float = 0.0
    row: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self.major, "major")
        check_positive(self.minor, "minor")
        if not self.beta > 1.5:
            raise InputError(
                f"beta: expected a slope above 1.5, so that the centroid is finite, got {shown(self.beta)}"
            )

    def intensity(self, column: FloatArray, row: FloatArray) -> FloatArray:
        """Return the light per square pixel at points given in pixels."""
        x, y = column - self.column, row - self.row
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        u, v = (cos * x + sin * y) / self.major, (cos * y - sin * x) / self.minor
        peak = self.weight * (self.beta - 1.0) / (np.pi * self.major * self.minor)
        return np.asarray(peak * (1.0 + u * u + v * v) ** -self.beta)


@dataclass(frozen=True, slots=True)
class MoffatMixture:
    """A PRF that is a sum of Moffat profiles, each pixel its exact integral.

    Parameters
    ----------
    parts : tuple of Moffat
        Profiles whose weights sum to one: the PRF then sums to one over an infinite pixel grid, whatever the
        star's pixel phase.

    Raises
    ------
    InputError
        If the weights do not sum to one.
    """

    parts: tuple[Moffat, ...]

    def __post_init__(self) -> None:
        total = sum(part.weight for part in self.parts)
        if not abs(total - 1.0) < 1e-12:
            raise InputError(f"parts: expected weights that sum to 1, got {total!r}")

    @property
    def centroid(self) -> tuple[float, float]:
        """Centre of the light (column, row) relative to the star's position, pixel."""
        column = sum(part.weight * part.column for part in self.parts)
        return float(column), float(sum(part.weight * part.row for part in self.parts))

    def intensity(self, column: FloatArray, row: FloatArray) -> FloatArray:
        """Return the light per square pixel at points (column, row), pixel, any shape."""
        return np.asarray(sum(part.intensity(column, row) for part in self.parts))

    def evaluate(self, dcolumn: FloatArray, drow: FloatArray) -> FloatArray:
        """Return the share of the light in each pixel.

        Parameters
        ----------
        dcolumn, drow : ndarray of float64, shape (n,)
            Offset of the pixel's centre from the star along columns and rows, pixel.

        Returns
        -------
        ndarray of float64, shape (n,)
            Integral of the profile over the unit pixel, by Gauss-Legendre quadrature, 1 / pixel.
        """
        distance = np.hypot(dcolumn, drow)
        share = np.empty(distance.shape)
        bounds = [start for start, _ in _NODES_FROM[1:]] + [np.inf]
        for (start, n_node), stop in zip(_NODES_FROM, bounds, strict=True):
            chosen = np.flatnonzero((distance >= start) & (distance < stop))
            for first in range(0, chosen.size, _CHUNK_PAIRS):
                some = chosen[first : first + _CHUNK_PAIRS]
                share[some] = self._integrate(dcolumn[some], drow[some], n_node)
        return share

    def radius(self, level: FloatArray) -> FloatArray:
        """Return the distance beyond which the profile stays below a level.

        Parameters
        ----------
        level : ndarray of float64, shape (n,)
            Share of the light per pixel, 1 / pixel.

        Returns
        -------
        ndarray of float64, shape (n,)
            Distance, pixel, between 0.5 and 1000.
        """
        radius, angle = _TABLE_RADII[:, None], _TABLE_ANGLES[None, :]
        brightest = self.intensity(radius * np.cos(angle), radius * np.sin(angle)).max(axis=1)
        falling = np.maximum.accumulate(brightest[::-1])
        return np.asarray(np.interp(np.log(level), np.log(falling), _TABLE_RADII[::-1]))

    def shifted(self, column: float, row: float) -> "MoffatMixture":
        """Return the PRF moved by (column, row) pixels relative to the star's position."""
        return MoffatMixture(
            tuple(replace(part, column=part.column + column, row=part.row + row) for part in self.parts)
        )

    def _integrate(self, dcolumn: FloatArray, drow: FloatArray, n_node: int) -> FloatArray:
        nodes, weights = np.polynomial.legendre.leggauss(n_node)
        total = np.zeros(dcolumn.shape)
        for x, wx in zip(nodes / 2.0, weights / 2.0, strict=True):
            for y, wy in zip(nodes / 2.0, weights / 2.0, strict=True):
                total += wx * wy * self.intensity(dcolumn + x, drow + y)
        return total


def asymmetric_prf(
    *,
    fwhm_pix: float = 1.5,
    beta: float = 2.8,
    ellipticity: float = 0.15,
    angle: float = 0.6,
    coma_fraction: float = 0.15,
    coma_offset: float = 0.5,
    wing_fraction: float = 0.06,
    wing_fwhm_pix: float = 6.0,
    wing_beta: float = 1.9,
    anchor: str = "peak",
) -> MoffatMixture:
    """Build a PRF with an elliptical core, a one-sided shoulder and wide asymmetric wings.

    Parameters
    ----------
    fwhm_pix : float
        Full width at half maximum of the core (geometric mean of its axes) before pixel integration, pixel.
    beta : float
        Moffat slope of the core.
    ellipticity : float
        1 - minor / major axis of the core, 0 to below 1.
    angle : float
        Direction of the major axis from the column axis towards the row axis, radian. The shoulder lies
        one radian further.
    coma_fraction, coma_offset : float
        Share of the light in the shoulder, 1.5 times as wide as the core, and its distance from the core, pixel.
    wing_fraction, wing_fwhm_pix, wing_beta : float
        Share of the light in the wings, their width (pixel) and slope.
    anchor : {"peak", "centroid"}
        What lies at zero offset, and so is the star's position: the brightest point of the profile, or the
        centre of all its light. With the defaults the two are 0.05 pixel apart.

    Returns
    -------
    MoffatMixture

    Raises
    ------
    InputError
        If a width is not positive, a slope too shallow or `anchor` unknown.
    """
    check_choice(anchor, ("peak", "centroid"), "anchor")
    core, wing = _moffat_scale(fwhm_pix, beta), _moffat_scale(wing_fwhm_pix, wing_beta)
    stretch = np.sqrt(1.0 - ellipticity)
    offset = coma_offset * np.cos(angle + 1.0), coma_offset * np.sin(angle + 1.0)
    main = Moffat(1.0 - coma_fraction - wing_fraction, core / stretch, core * stretch, beta, angle)
    shoulder = Moffat(coma_fraction, 1.5 * core, 1.5 * core, beta, 0.0, *offset)
    halo = Moffat(wing_fraction, wing / stretch, wing * stretch, wing_beta, angle + 0.8, -offset[0] / 2, -offset[1] / 2)
    mixture = MoffatMixture((main, shoulder, halo))
    column, row = mixture.centroid if anchor == "centroid" else _peak(mixture)
    return mixture.shifted(-column, -row)


def _moffat_scale(fwhm: float, beta: float) -> float:
    check_positive(fwhm, "fwhm_pix")
    return float(fwhm / (2.0 * np.sqrt(2.0 ** (1.0 / beta) - 1.0)))


def _peak(mixture: MoffatMixture) -> tuple[float, float]:
    found = minimize(
        lambda point: -float(mixture.intensity(point[0], point[1])),
        np.zeros(2),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 0.0},
    )
    return float(found.x[0]), float(found.x[1])
