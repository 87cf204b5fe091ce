"""Fields whose PRF is of a family that the fit does not know: tables, Airy patterns, Gaussians, wings that end."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.interpolate import RectBivariateSpline
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.scene.pixels import PixelTable
from bayesprf.simulation.fields import SimulatedField, _make_catalog
from bayesprf.simulation.layout import draw_magnitudes, place_stars
from bayesprf.simulation.settings import FieldSettings
from bayesprf.simulation.sky import TangentPlane
from bayesprf.simulation.true_matrix import TrueMatrix
from bayesprf.simulation.true_prf import Moffat, MoffatMixture, PrfTruth

# Format: how far the wing of a table is followed, pixel, and directions in which its light beyond is counted.
_WING_REACH, _N_ANGLE = 60.0, 360
PrfAt = Callable[..., PrfTruth]
"""The PRF of a star at the position (u, v) of the field, each -1 to 1; (u, v, colour) where stars have colours."""

DrawColors = Callable[[FloatArray, np.random.Generator], FloatArray]
"""Colours of stars of some magnitudes, shape (n_source,)."""


@dataclass(frozen=True, slots=True, eq=False)
class TablePrf:
    """A PRF given as a table, already integrated over pixels; beyond it zero, or a power law.

    Parameters
    ----------
    values : ndarray of float64, shape (n, n)
        Share of the light of a star in a pixel, rows first, the star at the middle.
    step : float
        Spacing of the table, pixel.
    wing : float, optional
        Power of r with which the light falls on from the edge of the table, in each direction, below -2; by default
        there is none. Official tables end where a star of 1e6 electron / s gives 200 electron / s to a pixel.
    """

    values: FloatArray
    step: float
    wing: float | None = None
    spline: RectBivariateSpline = field(init=False, repr=False)

    def __post_init__(self) -> None:
        along = (np.arange(self.values.shape[0]) - (self.values.shape[0] - 1) / 2.0) * self.step
        object.__setattr__(self, "spline", RectBivariateSpline(along, along, self.values))

    @property
    def half(self) -> float:
        """Half width of the table, pixel."""
        return float((self.values.shape[0] - 1) / 2.0 * self.step)

    def evaluate(self, dcolumn: FloatArray, drow: FloatArray) -> FloatArray:
        """Return the share of the light in pixels whose centres lie (dcolumn, drow) pixels from the star."""
        out = np.maximum(np.maximum(np.abs(dcolumn), np.abs(drow)) / self.half, 1.0)
        found = np.maximum(self.spline.ev(drow / out, dcolumn / out), 0.0)
        return found * (np.where(out < 1.0 / (1.0 - 1e-12), 1.0, 0.0) if self.wing is None else out**self.wing)

    def radius(self, level: FloatArray) -> FloatArray:
        """Return the distance within which all light of the table lies, pixel, and with a wing most of it."""
        return np.full(np.shape(level), np.sqrt(2.0) * self.half if self.wing is None else _WING_REACH)

    def light_beyond(self, radius: float) -> float:
        """Return the share of the light beyond a circle outside of the table."""
        if self.wing is None:
            return 0.0
        angle = 2.0 * np.pi * (np.arange(_N_ANGLE) + 0.5) / _N_ANGLE
        edge = self.evaluate(radius * np.cos(angle), radius * np.sin(angle))
        return float(edge.mean() * 2.0 * np.pi * radius**2 / (-self.wing - 2.0))


@dataclass(frozen=True, slots=True, eq=False)
class TruncatedPrf:
    """A PRF whose wing ends smoothly between two radii, pixel."""

    prf: MoffatMixture
    start: float
    stop: float

    def evaluate(self, dcolumn: FloatArray, drow: FloatArray) -> FloatArray:
        """Return the share of the light in pixels whose centres lie (dcolumn, drow) pixels from the star."""
        depth = np.clip((np.hypot(dcolumn, drow) - self.start) / (self.stop - self.start), 0.0, 1.0)
        return self.prf.evaluate(dcolumn, drow) * 0.5 * (1.0 + np.cos(np.pi * depth))

    def radius(self, level: FloatArray) -> FloatArray:
        """Return the distance beyond which there is no light, pixel."""
        return np.full(np.shape(level), self.stop)


def integrate_table(intensity: FloatArray, step: float, *, scale: float = 1.0, n_side: int = 0) -> TablePrf:
    """Integrate an optical PSF over unit pixels.

    Parameters
    ----------
    intensity : ndarray of float64, shape (n, n)
        Light per cell, rows first.
    step : float
        Side of a cell, pixel.
    scale : float
        The PSF is made this many times as wide.
    n_side : int
        Points of the resulting table per pixel; 16 by default.
    """
    step, per_pixel = step * scale, n_side or 16
    total = np.pad(np.cumsum(np.cumsum(intensity / intensity.sum(), axis=0), axis=1), ((1, 0), (1, 0)))
    edge = (np.arange(intensity.shape[0] + 1) - intensity.shape[0] / 2.0) * step
    cumulative = RectBivariateSpline(edge, edge, total, kx=1, ky=1)
    reach = int(np.ceil((edge[-1] + 1.0) * per_pixel))
    along = np.arange(-reach, reach + 1) / per_pixel
    low, high = np.clip(along - 0.5, edge[0], edge[-1]), np.clip(along + 0.5, edge[0], edge[-1])
    values = cumulative(high, high) - cumulative(low, high) - cumulative(high, low) + cumulative(low, low)
    return TablePrf(values, 1.0 / per_pixel)


def airy_intensity(*, cutoff: float = 1.6, obstruction: float = 0.3, spider: float = 0.04, n: int = 1024) -> FloatArray:
    """Return the PSF of a pupil with a central obstruction and four vanes, 8 cells per pixel, shape (n, n).

    Parameters
    ----------
    cutoff : float
        Diameter of the pupil in units in which the core is 1 / `cutoff` pixel wide.
    obstruction, spider : float
        Diameter of the obstruction and width of the vanes in diameters of the pupil.
    n : int
        Side, cells.
    """
    frequency = np.fft.fftshift(np.fft.fftfreq(n, 1.0 / 8.0)) / cutoff * 2.0
    x, y = np.meshgrid(frequency, frequency)
    r = np.hypot(x, y)
    pupil = (r < 1.0) & (r > obstruction) & (np.abs(x) > spider) & (np.abs(y) > spider)
    wave = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(pupil.astype(np.float64))))
    return np.abs(wave) ** 2 / np.sum(np.abs(wave) ** 2)


def gaussian_table(parts: FloatArray, *, half: float = 12.0, per_pixel: int = 12, scale: float = 1.0) -> TablePrf:
    """Return the PRF of a sum of Gaussians that hold the pixel's integral already.

    Parameters
    ----------
    parts : ndarray of float64, shape (n, 6)
        Amplitude, column, row, and variances column, column-row, row of each, pixel.
    half : float
        Half width of the table, pixel.
    per_pixel : int
        Points per pixel.
    scale : float
        The PRF is made this many times as wide.
    """
    along = np.arange(-half * per_pixel, half * per_pixel + 1) / per_pixel
    column, row = np.meshgrid(along, along)
    values = np.zeros_like(column)
    for amplitude, x, y, xx, xy, yy in parts:
        variance = scale**2 * np.array([[xx, xy], [xy, yy]])
        inverse, dx, dy = np.linalg.inv(variance), column - scale * x, row - scale * y
        power = inverse[0, 0] * dx * dx + 2.0 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy * dy
        values += amplitude * np.exp(-0.5 * power) / (2.0 * np.pi * np.sqrt(np.linalg.det(variance)))
    return TablePrf(values / values.sum() * per_pixel**2, 1.0 / per_pixel)


def scaled_mixture(prf: MoffatMixture, scale: float) -> MoffatMixture:
    """Return a mixture made `scale` times as wide."""
    return MoffatMixture(
        tuple(
            Moffat(p.weight, p.major * scale, p.minor * scale, p.beta, p.angle, p.column * scale, p.row * scale)
            for p in prf.parts
        )
    )


def bleed(image: FloatArray, pixels_column: FloatArray, pixels_row: FloatArray, full: float) -> FloatArray:
    """Spill what a pixel holds above `full` along its column, half up and half down, until all has found room."""
    image = image.copy()
    for column in np.unique(pixels_column):
        index = np.flatnonzero(pixels_column == column)
        index = index[np.argsort(pixels_row[index])]
        line = image[index]
        for _ in range(2000):
            excess = np.maximum(line - full, 0.0)
            if excess.max(initial=0.0) < 1e-3 * full:
                break
            line = line - excess
            line[1:] += 0.5 * excess[:-1]
            line[:-1] += 0.5 * excess[1:]
        image[index] = line
    return image


@dataclass(frozen=True, slots=True, eq=False)
class Troubles:
    """What is wrong with a field beside its PRF.

    Parameters
    ----------
    sky : tuple of float
        Level of the sky left in the pixels, and its slopes along columns and rows from centre to edge, electron / s.
    missing_faint : float
        Share of the fainter half of the stars that the catalogue lacks.
    bleeding : bool
        Pixels above the instrument's saturation spill along their column.
    """

    sky: tuple[float, float, float] = (0.0, 0.0, 0.0)
    missing_faint: float = 0.0
    bleeding: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ForeignField:
    """A field and what its catalogue knows of it.

    Parameters
    ----------
    field : SimulatedField
        The field; its catalogue lacks the stars that are not `listed`.
    listed : ndarray of bool, shape (n_source,)
        Stars of `field.flux` that the catalogue lists.
    sky : ndarray of float64, shape (n_pixel,)
        True sky, electron / s.
    """

    field: SimulatedField
    listed: BoolArray
    sky: FloatArray

    @property
    def flux(self) -> FloatArray:
        """True mean fluxes of the catalogue's stars, electron / s."""
        return self.field.mean_flux[self.listed]

    @property
    def position(self) -> FloatArray:
        """Column and row of the catalogue's stars, shape (n, 2), pixel."""
        return np.stack([self.field.column, self.field.row], axis=1)[self.listed]


def make_foreign(
    settings: FieldSettings,
    prf_at: PrfAt,
    *,
    rng: np.random.Generator,
    troubles: Troubles | None = None,
    colors: DrawColors | None = None,
) -> ForeignField:
    """Simulate a field whose PRF differs from star to star, without motion; colours are the catalogue's "color"."""
    troubles = troubles or Troubles()
    for_stars, for_catalog, for_noise, for_missing, for_colors = rng.spawn(5)
    mag = draw_magnitudes(settings, for_stars)
    position, grid = place_stars(settings, mag, for_stars)
    true_flux = settings.instrument.flux_from_mag(0.0) * 10.0 ** (-0.4 * mag)
    star = position + np.array(settings.centroid_offset)
    color = {} if colors is None else {"color": colors(mag, for_colors)}
    level = settings.reach_level * settings.noise_floor / true_flux
    matrix = _design(prf_at, star, grid[:, :2], level, *color.values())
    u, v = _unit(grid[:, 0], grid[:, 0]), _unit(grid[:, 1], grid[:, 1])
    sky_light = troubles.sky[0] + troubles.sky[1] * u + troubles.sky[2] * v
    image = matrix @ true_flux + sky_light
    if troubles.bleeding:
        image = bleed(image, grid[:, 0], grid[:, 1], settings.instrument.saturation)
    error = np.sqrt(np.maximum(image, 0.0) / settings.exposure + settings.noise_floor**2)
    observed = image + error * for_noise.standard_normal((settings.n_time, image.size))
    column0, row0 = (float(one) for one in position.mean(axis=0))
    scale, angle = settings.instrument.pixel_scale, settings.position_angle
    frame = TangentPlane(settings.ra0, settings.dec0, column0, row0, scale, angle)
    time = 120.0 + settings.cadence * np.arange(settings.n_time, dtype=np.float64)
    pixels = PixelTable(
        time, observed, np.tile(error, (settings.n_time, 1)), *frame.to_sky(grid[:, 0], grid[:, 1]), grid[:, 0],
        grid[:, 1], stamp=grid[:, 2].astype(np.int64), instrument=settings.instrument, meta={"simulated": True},
    )  # fmt: skip
    sources = _make_catalog(settings, frame, position, flux=true_flux, rng=for_catalog)
    faint = true_flux < np.median(true_flux)
    listed = ~(faint & (for_missing.random(faint.size) < troubles.missing_faint))
    index = np.flatnonzero(listed)
    sources = replace(
        sources, source_id=tuple(sources.source_id[i] for i in index), ra_deg=sources.ra_deg[index],
        dec_deg=sources.dec_deg[index], flux=sources.flux[index], mag=sources.mag[index],
        columns={name: values[index] for name, values in color.items()},
    )  # fmt: skip
    flux = np.tile(true_flux, (settings.n_time, 1))
    known = SimulatedField(pixels, sources, settings, frame, flux, star[:, 0], star[:, 1], None, TrueMatrix(matrix))
    return ForeignField(known, listed, sky_light)


def _unit(x: FloatArray, all_x: FloatArray) -> FloatArray:
    low, high = float(all_x.min()), float(all_x.max())
    return np.clip((2.0 * x - low - high) / max(high - low, 1e-9), -1.0, 1.0)


def _design(prf_at: PrfAt, star: FloatArray, grid: FloatArray, level: FloatArray, *color: FloatArray) -> csr_matrix:
    """Return the PRF of every star in every pixel, shape (n_pixel, n_source)."""
    given = np.stack([_unit(star[:, 0], grid[:, 0]), _unit(star[:, 1], grid[:, 1]), *color], axis=1)
    rows, columns, values = [], [], []
    for number, (column, row) in enumerate(star):
        prf = prf_at(*(float(one) for one in given[number]))
        reach = float(prf.radius(level[number : number + 1])[0])
        near = np.flatnonzero(np.hypot(grid[:, 0] - column, grid[:, 1] - row) < reach)
        rows.append(near)
        columns.append(np.full(near.size, number))
        values.append(prf.evaluate(grid[near, 0] - column, grid[near, 1] - row) / _total(prf, column, row))
    return csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(grid.shape[0], star.shape[0])
    )


def _total(prf: PrfTruth, column: float, row: float) -> float:
    """Return the sum of a PRF of finite size over all pixels: light is conserved wherever a star lies in its pixel."""
    if isinstance(prf, MoffatMixture):
        return 1.0
    reach = int(np.ceil(float(prf.radius(np.array([0.0]))[0]))) + 1
    along = np.arange(-reach, reach + 1.0)
    x, y = np.meshgrid(along - (column - np.round(column)), along - (row - np.round(row)))
    light = prf.evaluate(x.ravel(), y.ravel())
    if not (isinstance(prf, TablePrf) and prf.wing is not None):
        return float(light.sum())
    near = np.hypot(x, y).ravel() < _WING_REACH
    return float(light[near].sum()) + prf.light_beyond(_WING_REACH)
