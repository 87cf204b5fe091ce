"""PRFs from elsewhere: mission tables as the mean of the PRF, and their spread as its error."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.interpolate import RectBivariateSpline

from bayesprf.arrays import FloatArray
from bayesprf.checks import checked, say_what_the_system_refused
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.joint.problem import LN10, RMAX, joint_basis
from bayesprf.prf.nominal import STAR_WINGS
from bayesprf.scene.axes import pixel_side
from bayesprf.scene.field_prf import NODES
from bayesprf.scene.prf import PrfModel

# Format: a table is padded by so many pixels.
_PADDING = 4
# Rounding: values of a table below this share of its peak are noise of its making, 1 / pixel.
_FLOOR = 1e-7
# Accuracy: points of a made table per pixel: those of the missions' own tables (9 of TESS, 50 of Kepler).
_SAMPLES = 9.0
# Derived: what is believed of the covariance of tables counts as much as two of them, the fewest that show any.
_N_BELIEF = 2.0
# Measured: how far deviations of tables from their mean reach in ln(1 + r / pixel). Nine official TESS tables of camera
# 2, CCD 3, each about the mean of its neighbours, have the mean log likelihood 239, 230 and 211 at 0.25, 0.35 and 0.5
# (chi-square per weight 1.3, 1.6 and 2.1); deviations that are smooth, of squared-exponential covariance, -1923 at 0.5.
_LENGTH = 0.25
# Rounding: what keeps the covariance of smooth deviations invertible, relative.
_JITTER = 1e-6
# Rounding: keeps the prior's covariance invertible, dex.
_MIN_SIGMA = 1e-4


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

    Notes
    -----
    The outermost points of a table stand for cells that reach half a step beyond. There the logarithm falls by as much
    per pixel, 2 samples / ln 10, as leaves outside what these halves hold: the table holds all the light it speaks of.
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
        padded -= _fall(self.samples) * np.hypot(beyond[:, None], beyond[None, :])
        along = (np.arange(padded.shape[0]) - (padded.shape[0] - 1) / 2.0) / self.samples
        object.__setattr__(self, "spline", RectBivariateSpline(along, along, padded))
        object.__setattr__(self, "inverse", np.linalg.inv(self.axes))

    def log10(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return log10 of the PRF at offsets in arcsec, dex."""
        column, row, _ = self._places(x, y)
        return self._surface(column, row)[0]

    def gradient(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the gradient of the natural logarithm, shape (n, 2), 1 / arcsec."""
        column, row, shrink = self._places(x, y)
        by_sky = LN10 * self._surface(column, row)[1][:, ::-1] @ self.inverse
        outside = shrink < 1.0
        ray = np.stack([x, y], axis=1) / np.maximum(np.hypot(x, y), 1e-300)[:, None]
        along = np.einsum("pi,pi->p", by_sky, ray)
        return np.where(outside[:, None], shrink[:, None] * (by_sky - along[:, None] * ray), by_sky)

    def _surface(self, column: FloatArray, row: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log10 of the PRF, dex, and its derivatives by row and column, shape (n, 2), dex / pixel."""
        from bayesprf.linalg.compiled.surface import evaluate_surface

        knots, value, gradient = self.spline.get_knots(), np.empty(row.size), np.empty((row.size, 2))
        shape = knots[0].size - 4, knots[1].size - 4
        coefficients = self.spline.get_coeffs().reshape(shape)
        evaluate_surface(row, column, knots[0], knots[1], coefficients, value, gradient)
        return value, gradient

    def _places(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        shrink = np.minimum(1.0, self.rmax / np.maximum(np.hypot(x, y), 1e-300))
        limit = float(self.spline.get_knots()[0][-1])
        column, row = self.inverse @ np.stack([x * shrink, y * shrink])
        return np.clip(column, -limit, limit), np.clip(row, -limit, limit), shrink


def _fall(samples: float) -> float:
    """Return by how many dex per pixel light falls that adds up to half a step of a table."""
    return 2.0 * samples / LN10


@dataclass(frozen=True, slots=True, eq=False)
class PrfPrior:
    """A PRF known beforehand and how far it may be off.

    Parameters
    ----------
    base : TabulatedPrf
        The PRF.
    weights_factor : ndarray of float64, shape (n_basis, n_table)
        L: the weights added to its logarithm have the covariance L L', dex**2.
    weights_sigma : float
        Error of each weight beside: what splines leave of the differences between tables, weighted by light, dex.
    basis : PolarBasis
        Their columns.
    slope : tuple of float, optional
        Power of r beyond the splines, and its standard deviation.
    rough_factor : ndarray of float64, shape (n_basis, n_factor), optional
        L of a covariance that holds deviations as real PRFs have them, where `weights_factor` has smooth ones.
    """

    base: TabulatedPrf
    weights_factor: FloatArray
    weights_sigma: float
    basis: PolarBasis
    slope: tuple[float, float] | None = None
    rough_factor: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PrfTables:
    """PRFs of one instrument as tables in detector coordinates: at several places, or draws from a posterior.

    Parameters
    ----------
    values : ndarray of float64, shape (n_table, n, n)
        Share of the light in a pixel, rows first, the star at the middle, 1 / pixel.
    samples : float
        Points per pixel.
    complete : bool
        All light lies within the tables; otherwise their wings go on.

    Raises
    ------
    InputError
        If there are fewer than two tables, or they are not square.
    """

    values: FloatArray
    samples: float
    complete: bool

    def __post_init__(self) -> None:
        shape = np.shape(self.values)
        if len(shape) != 3 or shape[0] < 2 or shape[1] != shape[2]:
            raise InputError(f"values: expected two or more square PRF tables, (n_table, n, n), got shape {shape}")

    @property
    def half(self) -> float:
        """Half width, pixel."""
        return float((self.values.shape[1] - 1) / 2.0 / self.samples)

    @checked
    def save(self, path: str | Path) -> None:
        """Write the tables to an ``.npz`` file."""
        with say_what_the_system_refused(Path(path)):
            np.savez_compressed(path, values=self.values, samples=self.samples, complete=self.complete)


def load_prf_tables(path: str | Path) -> PrfTables:
    """Read what `PrfTables.save` or `Machine.save_prf` wrote.

    Raises
    ------
    InputError
        If the file is none of these.
    """
    try:
        with np.load(path) as file:
            return PrfTables(np.asarray(file["values"]), float(file["samples"]), bool(file["complete"]))
    except (KeyError, ValueError, OSError) as error:
        raise InputError(
            'prf: expected "instrument", "mission" or a file written by Machine.save_prf or'
            f" bayesprf.io.prf_files.save_prf_tables, got {path} ({error})"
        ) from error


def build_prior(tables: PrfTables, axes: FloatArray, basis: PolarBasis | None = None, *, density: int = 1) -> PrfPrior:
    """Build the prior of the PRF on pixels whose sky steps are `axes`, shape (2, 2), arcsec per pixel.

    By default its columns are those of `joint_basis` as far as the tables reach, with knots of a `density`.

    Returns
    -------
    PrfPrior
        Mean of the tables, and the covariance of one more PRF of their kind: (1 + 1 / n) that of the tables. A few
        tables do not show all ways in which another may differ: deviations of any form and the same size count as two
        of them (an inverse Wishart prior of the covariance).
    """
    # Splines reach the corners of a table that holds all light.
    half = float(np.sqrt(2.0)) * tables.half if tables.complete else min(tables.half, RMAX)
    basis = basis or joint_basis(pixel_side(axes), half, density)
    base = TabulatedPrf(tables.values.mean(axis=0), tables.samples, axes, basis.rmax)
    weights, left = project_tables(_log_differences(tables.values), base, basis)
    n = tables.values.shape[0]
    grow = (1.0 + 1.0 / n) / (n - 1.0)
    ring = np.bincount(basis.radial_index, np.sum(weights**2, axis=1)) / np.bincount(basis.radial_index) / (n - 1.0)
    free = deviation_factor(basis, np.sqrt(ring)[basis.radial_index], axes, _LENGTH, smooth=False)
    factor = np.concatenate([weights, np.sqrt(_N_BELIEF) * free], axis=1)
    factor *= np.sqrt((1.0 + 1.0 / n) / (n - 1.0 + _N_BELIEF))
    # Beyond a table that holds all light the wing goes on as steeply as at its edge: there is nothing.
    slope = (-LN10 * _fall(tables.samples) * basis.rmax / pixel_side(axes), STAR_WINGS[1]) if tables.complete else None
    return PrfPrior(base, factor, max(float(np.sqrt(grow * left)), _MIN_SIGMA), basis, slope)


def _log_differences(values: FloatArray) -> FloatArray:
    """Return log10 of tables less their mean, dex; zeros, as at the edge of some, tell of no difference."""
    told = values > _FLOOR
    logs = np.log10(np.where(told, values, 1.0))
    mean = logs.sum(axis=0) / np.maximum(told.sum(axis=0), 1)
    return np.asarray(np.where(told, logs - mean, 0.0))


def deviation_factor(
    basis: PolarBasis, sigma: FloatArray, axes: FloatArray, length: float, *, smooth: bool
) -> FloatArray:
    """Return L, (n_basis, n_basis), of deviations that are the wider the farther from the star.

    Their covariance falls over `length` in places whose radius counts as ln(1 + r / pixel), from the variances `sigma`
    squared, dex**2: as a squared exponential if they are `smooth`, as an exponential if they are continuous alone.
    """
    around = np.arange(basis.n_basis - basis.n_core) % basis.n_phi_knots
    angle = 2.0 * np.pi / basis.n_phi_knots * np.concatenate([np.zeros(basis.n_core), around])
    radius = np.log1p(basis.centers / pixel_side(axes))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    distance = np.hypot(x[:, None] - x, y[:, None] - y) / length
    kernel = np.exp(-0.5 * distance**2) + _JITTER * np.eye(x.size) if smooth else np.exp(-distance)
    return np.asarray(sigma[:, None] * np.linalg.cholesky(kernel))


def project_tables(logs: FloatArray, base: TabulatedPrf, basis: PolarBasis) -> tuple[FloatArray, float]:
    """Project changes of log10 PRF, given as tables like that of `base`, on splines.

    Parameters
    ----------
    logs : ndarray of float64, shape (n_table, n, n)
        Changes, dex.
    base : TabulatedPrf
        Its light weighs what splines leave.
    basis : PolarBasis
        Splines.

    Returns
    -------
    weights : ndarray of float64, shape (n_basis, n_table)
        Weights, dex.
    left : float
        Mean over the light of the sum over tables of what splines leave, squared, dex**2.
    """
    step, n_side = max(1, round(base.samples / 4.0)), base.values.shape[1]
    row, column = (one.ravel() for one in np.mgrid[0:n_side:step, 0:n_side:step])
    dx, dy = base.axes @ (np.stack([column, row]) - (n_side - 1) / 2.0) / base.samples
    inside = np.hypot(dx, dy) < basis.rmax
    row, column, dx, dy = row[inside], column[inside], dx[inside], dy[inside]
    matrix, rough = basis.matrix(np.hypot(dx, dy), np.arctan2(dy, dx)), basis.roughness()
    ridge = (matrix.T @ matrix + 1e-2 * (rough.T @ rough)).toarray()
    differences, light = logs[:, row, column].T, base.values[row, column]
    weights = np.linalg.solve(ridge, matrix.T @ differences)
    return weights, float(light @ np.sum((differences - matrix @ weights) ** 2, axis=1) / light.sum())


def tabulate(shape: PrfFit, axes: FloatArray, rng: np.random.Generator) -> PrfTables:
    """Return draws from the posterior of a fitted PRF, at nine places of the field where it varies.

    Parameters
    ----------
    shape : PrfFit
        The fit.
    axes : ndarray of float64, shape (2, 2)
        Sky step of one column and one row, arcsec.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    PrfTables
        Nine tables; their wings go on.
    """
    half = min(RMAX, shape.prf.basis.rmax / float(np.sqrt(shape.prf.pixel_area)))
    along = np.arange(-np.floor(half * _SAMPLES), np.floor(half * _SAMPLES) + 1.0) / _SAMPLES
    column, row = np.meshgrid(along, along)
    dx, dy = axes @ np.stack([column.ravel(), row.ravel()])
    values = [one.evaluate(dx, dy).reshape(column.shape) for one in _draws(shape, rng)]
    return PrfTables(np.array(values), _SAMPLES, complete=False)


def _draws(shape: PrfFit, rng: np.random.Generator) -> list[PrfModel]:
    joint, models = shape.joint, []
    for place in NODES:
        factor = joint.posterior.global_factor
        step = (factor @ rng.standard_normal(factor.shape[1]))[: joint.problem.n_weight]
        prf = replace(joint.prf, weights=joint.prf.weights + step.reshape(joint.prf.weights.shape))
        models.append(prf.normalized_at(place))
    return models
