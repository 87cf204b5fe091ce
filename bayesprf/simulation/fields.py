"""Forward model with known truth, for tests, notebooks and calibration."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import BoolArray, FloatArray, NamedDict
from bayesprf.checks import as_float, check_choice, check_shape
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.layout import count_stamps, draw_magnitudes, place_stars
from bayesprf.simulation.settings import CASES, FieldSettings
from bayesprf.simulation.sky import TangentPlane
from bayesprf.simulation.true_matrix import TrueMatrix, build_true_matrix

# First time stamp, day: a number as mission files have them.
_FIRST_TIME = 120.0
# Pixels times cadences made at once: temporaries of a few MB.
_CHUNK_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedField:
    """Pixels and catalogue as an observer gets them, and the truth behind them.

    Parameters
    ----------
    pixels : PixelTable
        Noisy pixels; `flux_err` is the standard deviation the noise was drawn with.
    sources : SourceTable
        The catalogue, with its errors.
    settings : FieldSettings
        What the field was made from.
    sky : TangentPlane
        Sky coordinates of the detector, as `pixels` has them.
    flux : ndarray of float64, shape (n_time, n_source)
        True fluxes, electron / s.
    column, row : ndarray of float64, shape (n_source,)
        True positions on the detector, mean over time, pixel.
    shift : ndarray of float64, shape (n_time, n_source, 2), optional
        True positions minus their mean, columns and rows, pixel; None without drift.
    prf_matrix : TrueMatrix
        The true PRF of all stars in all pixels.
    """

    pixels: PixelTable
    sources: SourceTable
    settings: FieldSettings
    sky: TangentPlane
    flux: FloatArray
    column: FloatArray
    row: FloatArray
    shift: FloatArray | None
    prf_matrix: TrueMatrix

    @property
    def mean_flux(self) -> FloatArray:
        """True flux, mean over time, shape (n_source,), electron / s."""
        return np.asarray(self.flux.mean(axis=0))

    @property
    def is_target(self) -> BoolArray:
        """Which sources a cutout is centred on, shape (n_source,); none in an image."""
        return np.asarray(np.arange(self.sources.n_source) < count_stamps(self.settings))

    def true_design(self, time: int | None = None) -> csr_matrix:
        """Return the true PRF of every source in every pixel.

        Parameters
        ----------
        time : int, optional
            Cadence; by default the stars sit at their mean positions.

        Returns
        -------
        csr_matrix of float64, shape (n_pixel, n_source), 1 / pixel
        """
        return self.prf_matrix.at(None if time is None or self.shift is None else self.shift[time])

    def expected(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Return the noise-free images of cadences start ... stop - 1, shape (n, n_pixel), electron / s."""
        return self.prf_matrix.image(self.flux[start:stop], None if self.shift is None else self.shift[start:stop])

    def cramer_rao(self, time: int | None = None) -> FloatArray:
        """Return the least standard deviation an unbiased flux at one cadence can have, with the PRF known.

        Parameters
        ----------
        time : int, optional
            Cadence; by default the stars at their mean positions, and variances averaged over time.

        Returns
        -------
        ndarray of float64, shape (n_source,), electron / s
            sqrt(diag((M' C^-1 M)^-1)); infinite in a group of sources that the pixels cannot tell apart, and for
            a source that lights no pixel.

        Notes
        -----
        Dense within each group of sources that share pixels: memory grows as the square of the largest group.
        """
        error = self.pixels.flux_err
        variance = np.mean(error**2, axis=0) if time is None else error[time] ** 2
        design = self.true_design(time)
        gram = csr_matrix(design.T @ design.multiply(1.0 / variance[:, None]))
        label = connected_components(gram, directed=False)[1]
        bound = np.empty(label.size)
        order = np.argsort(label, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
            bound[members] = _marginal_std(gram[members][:, members].toarray())
        return bound


def make_case(name: str, rng: np.random.Generator, **changes: object) -> SimulatedField:
    """Simulate a standard case: "demo", "small", "medium", "quarter", "crowded", "ffi" or "scale".

    Parameters
    ----------
    name : str
        Case; `bayesprf.simulation.settings.CASES` holds their settings.
    rng : numpy.random.Generator
        Source of randomness.
    **changes
        Fields of `FieldSettings` that differ from the case's.

    Returns
    -------
    SimulatedField

    Raises
    ------
    InputError
        If the case is unknown.
    """
    check_choice(name, tuple(CASES), "name")
    return make_field(CASES[name], rng=rng, **changes)


def make_field(settings: FieldSettings | None = None, *, rng: np.random.Generator, **changes: object) -> SimulatedField:
    """Simulate a field: stars, catalogue, pixels and noise.

    Parameters
    ----------
    settings : FieldSettings, optional
        What to start from; the defaults of `FieldSettings` when omitted.
    rng : numpy.random.Generator
        Source of randomness. Stars, catalogue errors and noise use streams of their own: a field made from
        the same seed with another catalogue has the same stars and the same noise.
    **changes
        Fields of `FieldSettings` that differ, for example ``n_source=40, centroid_offset=(0.1, 0.0)``.

    Returns
    -------
    SimulatedField

    Raises
    ------
    InputError
        If a setting is out of range.
    ShapeError
        If `drift` or `variability` has the wrong shape.

    Notes
    -----
    With e[t, p] = sum_s flux[t, s] PRF(pixel p - star s at t) the data are Gaussian with mean e and variance
    e / exposure + background / exposure + (read_noise / exposure)^2.
    """
    given: NamedDict = changes
    chosen = replace(settings or FieldSettings(), **given)
    for_stars, for_catalog, for_noise = rng.spawn(3)
    mag = draw_magnitudes(chosen, for_stars)
    position, grid = place_stars(chosen, mag, for_stars)
    time = _FIRST_TIME + chosen.cadence * np.arange(chosen.n_time, dtype=np.float64)
    flux = _light_curves(chosen, time, mag)
    common = _common_drift(chosen, time)
    star, shift = _true_positions(chosen, position, common)
    level = chosen.reach_level * chosen.noise_floor / flux.max(axis=0)
    matrix = build_true_matrix(chosen.prf, star, grid[:, :2], level=level, shift=shift)
    column0, row0 = (float(one) for one in position.mean(axis=0))
    sky = TangentPlane(chosen.ra0, chosen.dec0, column0, row0, chosen.instrument.pixel_scale, chosen.position_angle)
    observed, error = _observe(chosen, matrix, flux, shift=shift, rng=for_noise)
    ra, dec = sky.to_sky(grid[:, 0], grid[:, 1])
    pixels = PixelTable(
        time, observed, error, ra, dec, grid[:, 0], grid[:, 1],
        stamp=grid[:, 2].astype(np.int64), pos_corr=common, instrument=chosen.instrument,
        meta={"simulated": True},
    )  # fmt: skip
    sources = _make_catalog(chosen, sky, position, flux=flux.mean(axis=0), rng=for_catalog)
    return SimulatedField(pixels, sources, chosen, sky, flux, star[:, 0], star[:, 1], shift, matrix)


def redraw_noise(field: SimulatedField, rng: np.random.Generator) -> SimulatedField:
    """Return the same stars, the same catalogue and the same PRF with other noise.

    Parameters
    ----------
    field : SimulatedField
        The field.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    SimulatedField
    """
    observed, _ = _observe(field.settings, field.prf_matrix, field.flux, shift=field.shift, rng=rng)
    return replace(field, pixels=replace(field.pixels, flux=observed))


def _light_curves(settings: FieldSettings, time: FloatArray, mag: FloatArray) -> FloatArray:
    """Return the true fluxes, shape (n_time, n_source)."""
    flux = np.tile(settings.instrument.flux_from_mag(0.0) * 10.0 ** (-0.4 * mag), (time.size, 1))
    if settings.variability is not None:
        check_shape(settings.variability, flux.shape, "variability", "n_time, n_source")
        flux *= settings.variability
    for transit in settings.transits:
        flux[:, transit.source] *= transit.factor(time)
    return flux


def _common_drift(settings: FieldSettings, time: FloatArray) -> FloatArray | None:
    """Return the motion of the field's centre, shape (n_time, 2), or None."""
    if settings.drift is None:
        return None
    drift = as_float(settings.drift(time) if callable(settings.drift) else settings.drift, "drift", ndim=2)
    check_shape(drift, (time.size, 2), "drift", "n_time, column and row")
    return drift


def _true_positions(
    settings: FieldSettings, position: FloatArray, common: FloatArray | None
) -> tuple[FloatArray, FloatArray | None]:
    """Return where stars truly fall on average, (n_source, 2), and their motion about it, (n_time, n_source, 2)."""
    star = position + np.array(settings.centroid_offset)
    if common is None:
        return star, None
    centred = position[:, 0] - position[:, 0].mean()
    half_width = max(float(np.abs(centred).max()), 1.0)
    factor = 1.0 + settings.drift_differential * centred / half_width
    mean = common.mean(axis=0)
    return star + factor[:, None] * mean, factor[None, :, None] * (common - mean)[:, None, :]


def _observe(
    settings: FieldSettings,
    matrix: TrueMatrix,
    flux: FloatArray,
    *,
    shift: FloatArray | None,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Return noisy images and the standard deviation of their noise, each of shape (n_time, n_pixel)."""
    n_time, n_pixel = flux.shape[0], matrix.pattern.shape[0]
    observed, error = np.empty((n_time, n_pixel)), np.empty((n_time, n_pixel))
    step = max(1, _CHUNK_ELEMENTS // n_pixel)
    for start in range(0, n_time, step):
        part = slice(start, start + step)
        image = matrix.image(flux[part], None if shift is None else shift[part])
        error[part] = np.sqrt(image / settings.exposure + settings.noise_floor**2)
        observed[part] = image + error[part] * rng.standard_normal(image.shape)
    return observed, error


def _make_catalog(
    settings: FieldSettings, sky: TangentPlane, position: FloatArray, *, flux: FloatArray, rng: np.random.Generator
) -> SourceTable:
    """Return the catalogue an observer would have, with its errors."""
    n_source = flux.size
    scatter = rng.standard_normal(n_source)
    moved = position + settings.position_scatter / sky.pixel_scale * rng.standard_normal((n_source, 2))
    ra, dec = sky.to_sky(moved[:, 0], moved[:, 1])
    seen = settings.catalog_scale * flux * np.exp(settings.catalog_scatter * scatter)
    return SourceTable(tuple(f"star-{i:05d}" for i in range(n_source)), ra, dec, seen)


def _marginal_std(precision: FloatArray) -> FloatArray:
    """Return sqrt(diag(precision^-1)), infinite if the matrix is not positive definite."""
    try:
        factor = cho_factor(precision, lower=True)
    except LinAlgError:
        return np.full(precision.shape[0], np.inf)
    return np.asarray(np.sqrt(np.diag(cho_solve(factor, np.eye(precision.shape[0])))))
