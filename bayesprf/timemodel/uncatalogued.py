"""Light that no source of the catalogue gives, as it comes and goes with the pointing: by pixel, or by star."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.smoothing import smooth_series
from bayesprf.linalg.stack import DesignStack
from bayesprf.scene.pixels import PixelTable
from bayesprf.stats import fit_clipped, mad_sigma
from bayesprf.timemodel.columns import POSITIONS
from bayesprf.timemodel.fit import GainModel

# Derived: knot distance, in roll periods, of the spline that follows slow change: with two knots a period, periods from
# two days on, the span of the filter before noise is measured (Gilliland et al. 2011).
_KNOTS_PER_ROLL = 4.0
# Outliers of a star's series are clipped as astropy's `sigma_clip` does: at so many standard deviations, in so many
# passes (Astropy Collaboration 2022).
_CLIP_SIGMA, _N_CLIP = 3.0, 5
# Cadences needed per column: the rule of ten observations for each coefficient (Harrell et al. 1996).
_LEAST_CADENCES = 10
# Derived: Cauchy weights of outliers among pixels, in standard deviations (95 % efficient for normal errors); passes,
# which also learn the prior width of a series' coefficients; least ridge relative to the largest product of columns.
_CAUCHY, _N_PASS, _RIDGE = 2.385, 10, 1e-10
# Cost: pixels handled at once.
_CHUNK = 512


@dataclass(frozen=True, slots=True, eq=False)
class UncataloguedLight:
    """Light that comes and goes in each pixel with the pointing.

    Parameters
    ----------
    mix : ndarray of float64, shape (n_time, n_part)
        Weights of the parts of the shifted PRF at each cadence.
    parts : ndarray of float64, shape (n_part, n_pixel)
        Coefficients, electron / s.
    constant : ndarray of float64, shape (n_pixel,)
        What does not move, electron / s.
    """

    mix: FloatArray
    parts: FloatArray
    constant: FloatArray

    def image(self) -> FloatArray:
        """Return the light, shape (n_time, n_pixel), electron / s."""
        return self.mix @ self.parts + self.constant


def find_uncatalogued_light(
    pixels: PixelTable,
    design: DesignStack,
    flux: FloatArray,
    *,
    fixed_light: FloatArray,
    mix: FloatArray,
    roll_hours: float,
) -> UncataloguedLight:
    """Learn from every pixel what the catalogue's sources, moved, leave of its light.

    Parameters
    ----------
    pixels : PixelTable
        Data: float64, shape (n_time, n_pixel), electron / s.
    design : DesignStack
        Shifted PRF of the sources, shape (n_pixel, n_source), 1 / pixel.
    flux : ndarray of float64, shape (n_time, n_source)
        Fluxes fitted with it, electron / s; NaN counts as dark.
    fixed_light : ndarray of float64, shape (n_pixel,)
        Light of each pixel that is not fitted, electron / s.
    mix : ndarray of float64, shape (n_time, n_part)
        Weights of the most important parts of the shifted PRF at each cadence.
    roll_hours : float
        Time scale of the motion, hour.

    Returns
    -------
    UncataloguedLight

    Notes
    -----
    Stars that no catalogue holds move with the others: what they give to a pixel at all pointings is a sum of the
    parts of the PRF's shifts, with coefficients of the same size for all (normalised) parts. What the fluxes share
    with the parts is left to that light, the rest is the stars' own and subtracted; then each pixel is regressed on
    the parts, robustly and by ridge regression, both sides free of slow change. Vanderburg & Johnson (2014)
    decorrelate aperture fluxes; this decorrelates pixels, and leaves the scale of the fluxes alone.
    """
    columns = _fast_part(pixels.time, mix, roll_hours)
    seen = np.isfinite(flux)
    own = np.where(seen, flux, np.nan)
    fast = np.nan_to_num(_fast_part(pixels.time, own, roll_hours))
    own = np.nan_to_num(own) - columns @ _regress(columns, fast, seen)
    modelled = design.predict(own)
    parts, constant = np.zeros((mix.shape[1], pixels.n_pixel)), np.zeros(pixels.n_pixel)
    for start in range(0, pixels.n_pixel, _CHUNK):
        part = slice(start, start + _CHUNK)
        seen = pixels.ivar[:, part] > 0
        rest = np.where(seen, pixels.flux[:, part] - fixed_light[part] - modelled[:, part], np.nan)
        fast = np.nan_to_num(_fast_part(pixels.time, rest, roll_hours))
        parts[:, part] = _regress(columns, fast, seen)
        static = np.where(seen.any(axis=0), rest - mix @ parts[:, part], 0.0)
        constant[part] = np.nanmedian(static, axis=0)
    return UncataloguedLight(mix, parts, constant)


def add_roll_gain(fit: GainModel, time: FloatArray, flux: FloatArray, roll_hours: float) -> GainModel:
    """Give the time model what the brightness of stars shares with the position columns.

    Parameters
    ----------
    fit : GainModel
        Time model with position columns.
    time : ndarray of float64, shape (n_time,)
        Times, day.
    flux : ndarray of float64, shape (n_time, n_source)
        Fluxes fitted with that time model, electron / s.
    roll_hours : float
        Time scale of the roll, hour.

    Returns
    -------
    GainModel
        The same with other `source_weights`; the sum of its PRF over the pixels follows the roll.

    Notes
    -----
    Light of uncatalogued neighbours moves in and out of a star's pixels with the roll, which no change of
    the star's own PRF explains. Motion back and forth within hours is separated from the star's own variability by
    taking both free of slow change; Vanderburg & Johnson (2014) decorrelate aperture fluxes in the same way.
    """
    position = np.array([name.startswith(POSITIONS) for name in fit.names[1:]], bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = flux / np.nanmean(np.where(np.isfinite(flux), flux, np.nan), axis=0)
    columns = fit.vectors[:, 1:][:, position]
    fast = _fast_part(time, columns, roll_hours)
    gain = np.zeros_like(fit.source_weights)
    for source, series in enumerate(relative.T):
        known = np.isfinite(series)
        if np.nanmean(flux[:, source]) > 0 and known.sum() > _LEAST_CADENCES * position.sum():
            rest = _fast_part(time, series[:, None], roll_hours)[:, 0]
            gain[position, source] = _regress_star(fast, rest, known)
    return replace(fit, source_weights=fit.source_weights + gain)


def _fast_part(time: FloatArray, values: FloatArray, roll_hours: float) -> FloatArray:
    """Return series, shape (n_time, n_series), less a spline that follows change slower than the roll."""
    return values - smooth_series(time, values, _KNOTS_PER_ROLL * roll_hours / 24.0)


def _regress_star(columns: FloatArray, values: FloatArray, known: BoolArray) -> FloatArray:
    """Return least-squares coefficients of one series, its outliers clipped."""

    def spread(residual: FloatArray, _: BoolArray) -> float:
        return float(mad_sigma(residual[known]))

    return fit_clipped(columns, values, spread, limit=_CLIP_SIGMA, n_pass=_N_CLIP, known=known)[0]


def _regress(columns: FloatArray, values: FloatArray, known: BoolArray) -> FloatArray:
    """Return ridge coefficients of every series, shape (n_column, n_series), that eclipses and outliers do not bend."""
    n_column = columns.shape[1]
    products = (columns[:, :, None] * columns[:, None, :]).reshape(columns.shape[0], -1)
    weight, found = known.astype(np.float64), np.zeros((n_column, values.shape[1]))
    least = _RIDGE * float(np.abs(products).sum(axis=0).max())
    ridge = np.full(values.shape[1], least)
    for _ in range(_N_PASS):
        gram = (weight.T @ products).reshape(-1, n_column, n_column) + ridge[:, None, None] * np.eye(n_column)
        found = np.linalg.solve(gram, ((weight * values).T @ columns)[:, :, None])[:, :, 0].T
        left = values - columns @ found
        noise = _spread(left, known)
        variance = noise**2 * np.trace(np.linalg.inv(gram), axis1=1, axis2=2) / n_column
        ridge = np.maximum(noise**2 / np.maximum((found**2).mean(axis=0) + variance, 1e-300), least)
        weight = known / (1.0 + (left / (_CAUCHY * noise)) ** 2)
    return found


def _spread(values: FloatArray, known: BoolArray) -> FloatArray:
    """Return the robust standard deviation of every series about zero."""
    size = np.where(known, np.abs(values), np.nan)
    size[:, ~known.any(axis=0)] = 0.0
    return np.maximum(mad_sigma(size, axis=0), 1e-300)
