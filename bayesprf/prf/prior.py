"""PRFs from elsewhere: mission tables as the mean of the PRF, and their spread as its error."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import RectBivariateSpline

from bayesprf.arrays import FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.prf.joint_problem import LN10
from bayesprf.scene.prf import PrfModel

# Outside of its table a PRF falls by three dex per pixel: the table holds all the light it speaks of.
_FALL, _PADDING = 3.0, 4
# Values of a table below this share of its peak are noise of its making, 1 / pixel.
_FLOOR = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class TabulatedPrf:
    """A PRF from a table, as `LogPrf`.

    Parameters
    ----------
    values : ndarray of float64, shape (n, n)
        Share of the light in a pixel, rows first, the star at the middle, 1 / pixel.
    samples : float
        Points per pixel.
    axes : ndarray of float64, shape (2, 2)
        Sky step of one column and one row, arcsec.
    rmax : float
        Radius beyond which the values stay as they are along a ray, arcsec.
    """

    values: FloatArray
    samples: float
    axes: FloatArray
    rmax: float
    spline: RectBivariateSpline = field(init=False, repr=False)
    inverse: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        n_pad = int(_PADDING * self.samples)
        padded = np.pad(np.log10(np.maximum(self.values, _FLOOR)), n_pad, mode="edge")
        beyond = np.maximum(np.abs(np.arange(padded.shape[0]) - (padded.shape[0] - 1) / 2.0), 0.0)
        beyond = np.maximum(beyond - (self.values.shape[0] - 1) / 2.0, 0.0) / self.samples
        padded -= _FALL * np.hypot(beyond[:, None], beyond[None, :])
        along = (np.arange(padded.shape[0]) - (padded.shape[0] - 1) / 2.0) / self.samples
        object.__setattr__(self, "spline", RectBivariateSpline(along, along, padded))
        object.__setattr__(self, "inverse", np.linalg.inv(self.axes))

    def log10(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return log10 of the PRF at offsets in arcsec, dex."""
        column, row, _ = self._places(x, y)
        return np.asarray(self.spline.ev(row, column))

    def gradient(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the gradient of the natural logarithm, shape (n, 2), 1 / arcsec."""
        column, row, shrink = self._places(x, y)
        by_pixel = np.stack([self.spline.ev(row, column, dy=1), self.spline.ev(row, column, dx=1)], axis=1)
        by_sky = LN10 * by_pixel @ self.inverse
        outside = shrink < 1.0
        ray = np.stack([x, y], axis=1) / np.maximum(np.hypot(x, y), 1e-300)[:, None]
        along = np.einsum("pi,pi->p", by_sky, ray)
        return np.where(outside[:, None], shrink[:, None] * (by_sky - along[:, None] * ray), by_sky)

    def _places(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        shrink = np.minimum(1.0, self.rmax / np.maximum(np.hypot(x, y), 1e-300))
        limit = float(self.spline.get_knots()[0][-1])
        column, row = self.inverse @ np.stack([x * shrink, y * shrink])
        return np.clip(column, -limit, limit), np.clip(row, -limit, limit), shrink


@dataclass(frozen=True, slots=True, eq=False)
class PrfPrior:
    """A PRF known beforehand and how far it may be off.

    Parameters
    ----------
    base : TabulatedPrf
        The PRF.
    weights_factor : ndarray of float64, shape (n_basis, n_table)
        L: the weights added to its logarithm have the covariance L L', dex**2.
    basis : PolarBasis
        Their columns.
    """

    base: TabulatedPrf
    weights_factor: FloatArray
    basis: PolarBasis


def prior_from_tables(tables: Sequence[FloatArray], samples: float, axes: FloatArray, basis: PolarBasis) -> PrfPrior:
    """Build a prior from several tables of one instrument.

    Parameters
    ----------
    tables : sequence of ndarray of float64, shape (n, n)
        PRFs at several places, rows first.
    samples : float
        Points per pixel.
    axes : ndarray of float64, shape (2, 2)
        Sky step of one column and one row, arcsec.
    basis : PolarBasis
        Columns of the difference.

    Returns
    -------
    PrfPrior
        Mean of the tables, and the covariance of one more PRF of their kind: (1 + 1 / n) that of the tables.

    Raises
    ------
    InputError
        If there are fewer than two tables, or their shapes differ.
    """
    if len(tables) < 2 or len({one.shape for one in tables}) > 1:
        raise InputError(f"tables: expected at least two PRF tables of one shape, got {len(tables)}")
    base = TabulatedPrf(np.mean(tables, axis=0), samples, axes, basis.rmax)
    step = max(1, round(samples / 4.0))
    half = (tables[0].shape[0] - 1) / 2.0
    row, column = (one.ravel() for one in np.mgrid[0 : tables[0].shape[0] : step, 0 : tables[0].shape[0] : step])
    dx, dy = axes @ (np.stack([column, row]) - half) / samples
    inside = np.hypot(dx, dy) < basis.rmax
    row, column, dx, dy = row[inside], column[inside], dx[inside], dy[inside]
    matrix = basis.matrix(np.hypot(dx, dy), np.arctan2(dy, dx))
    rough = basis.roughness()
    mean = np.maximum(base.values[row, column], _FLOOR)
    ridge = (matrix.T @ matrix + 1e-2 * (rough.T @ rough)).toarray()
    misses = [matrix.T @ np.log10(np.maximum(one[row, column], _FLOOR) / mean) for one in tables]
    weights = np.linalg.solve(ridge, np.stack(misses, axis=1))
    weights = weights - weights.mean(axis=1, keepdims=True)
    n = len(tables)
    return PrfPrior(base, weights * np.sqrt((1.0 + 1.0 / n) / (n - 1.0)), basis)


def nominal_area(prior: PrfPrior, pixel_area: float) -> float:
    """Return the area of the prior's PRF, one for a table that holds all light."""
    return PrfModel(prior.basis, np.zeros(prior.basis.n_basis), pixel_area, base=prior.base).area()
