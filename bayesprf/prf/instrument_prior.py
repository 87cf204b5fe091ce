"""The PRF that an instrument's handbook leads to expect, and how far a real one may be off."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import uniform_filter

from bayesprf.arrays import FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import UnsupportedError
from bayesprf.instruments import Instrument, PrfWidths
from bayesprf.prf.joint.problem import RMAX, joint_basis
from bayesprf.prf.prior import PrfPrior, TabulatedPrf, deviation_factor, project_tables
from bayesprf.scene.axes import pixel_side

# Accuracy: points per pixel of the table, and cells of the integral between two of them; half width of the table,
# pixel.
_SAMPLES, _FINE = 9, 3
# Format: half width of the table, pixel.
_HALF = 8.5
# Measured: what width and power leave of a real PRF at its peak, dex; it grows outwards as one over the square root of
# the light, as the relative error of the joint fit does, to a factor of three. The official TESS tables of the corners
# of camera 2, CCD 3, about the best Moffat profiles (rms 0.04, 0.08, 0.08, 0.10, 0.34, 0.58 dex at 0.25, 0.75, 1.25,
# 1.75, 2.5 and 3.5 pixels) have 0.041, 0.062, 0.048, 0.031, 0.062 and 0.055 in these units, 0.051 together, out to 6
# pixels 0.046. With 0.05 a PRF follows a bright star that the catalogue lacks, and none is found (TIC 25155310 without
# its target, `tests/real/test_few_stars.py`).
_PEAK_SIGMA, _MAX_SIGMA = 0.04, 0.5
# Measured: how far such deviations reach in ln(1 + r / pixel), if they are smooth, which those of tables are not: light
# that the catalogue lacks is looked for beside them. Rougher ones let the PRF of few stars follow a companion, and the
# wings of a single star hold a sky of 100 electron / s (`tests/real/test_few_stars.py`: 3.2 times its flux).
_LENGTH = 0.5
# Measured: the same of deviations as rough as real ones: the likeliest exponential covariance (0.069, 0.72, 0.54) of
# the corner tables about the typical Moffat profile, ellipticity and position free. The likeliest power of the
# light by which they grow is 0.4. The five other tables have the mean log likelihood 141, chi-square per weight 0.92;
# with Matern covariances of 3/2 and 5/2 140 and 135, with squared exponentials 110 (`docs/scripts/prf_record.py`).
_ROUGH_PEAK, _ROUGH_MAX, _ROUGH_LENGTH = 0.07, 0.7, 0.55
# Rounding: what keeps the covariance invertible, dex.
_MIN_SIGMA = 1e-3


def instrument_prior(
    instrument: Instrument, axes: FloatArray, basis: PolarBasis | None = None, *, density: int = 1
) -> PrfPrior:
    """Build the prior of the PRF from the record of an instrument.

    Parameters
    ----------
    instrument : Instrument
        Its `prf_widths` count.
    axes : ndarray of float64, shape (2, 2)
        Sky step of one column and one row, arcsec.
    basis : PolarBasis, optional
        Columns of log10 PRF; by default those of `joint_basis` out to `RMAX`.
    density : int
        Density of the knots of those by default.

    Returns
    -------
    PrfPrior
        Mean: a Moffat profile of the typical width and power, integrated over pixels. Covariance: width and power as
        they vary over field and detectors, to first order, and smooth deviations of any form. Ellipticity is free in
        the fit.

    Raises
    ------
    UnsupportedError
        If the record says nothing of the PRF.
    """
    widths = instrument.prf_widths
    if widths is None:
        raise UnsupportedError(
            f"prf='instrument': expected pixels of an instrument whose PRF is on record (Kepler, K2, TESS), got"
            f" {instrument.name}; give the file of a saved PRF, or leave prf out"
        )
    basis = basis or joint_basis(pixel_side(axes), RMAX, density)
    base = TabulatedPrf(moffat_table(widths), float(_SAMPLES), axes, basis.rmax)
    modes = [0.5 * (_log_table(widths, name, 1.0) - _log_table(widths, name, -1.0)) for name in ("width", "power")]
    widths_factor = project_tables(np.array(modes), base, basis)[0]
    growth = _peak_growth(base, basis)
    sigma, rough = np.minimum(_PEAK_SIGMA * growth, _MAX_SIGMA), np.minimum(_ROUGH_PEAK * growth, _ROUGH_MAX)
    smooth = deviation_factor(basis, sigma, axes, _LENGTH, smooth=True)
    free = deviation_factor(basis, rough, axes, _ROUGH_LENGTH, smooth=False)
    factor, rough_factor = (np.concatenate([widths_factor, one], axis=1) for one in (smooth, free))
    return PrfPrior(base, factor, _MIN_SIGMA, basis, slope=expected_wing(widths), rough_factor=rough_factor)


def moffat_table(widths: PrfWidths) -> FloatArray:
    """Return a round Moffat profile integrated over pixels, 9 points per pixel, 1 / pixel."""
    fine, step = _SAMPLES * _FINE, 1.0 / (_SAMPLES * _FINE)
    half = round(_HALF * _SAMPLES) * _FINE + fine // 2
    along = np.arange(-half, half + 1) * step
    r2 = (along[:, None] ** 2 + along**2) / widths.width**2
    density = (widths.power - 1.0) / (np.pi * widths.width**2) * (1.0 + r2) ** -widths.power
    margin = fine // 2
    return np.asarray(uniform_filter(density, fine)[margin:-margin:_FINE, margin:-margin:_FINE])


def expected_wing(widths: PrfWidths) -> tuple[float, float]:
    """Return the power of r with which the profile falls far out, and its standard deviation."""
    return -2.0 * widths.power, 2.0 * (widths.power - 1.0) * widths.power_sigma


def _log_table(widths: PrfWidths, name: str, sigma: float) -> FloatArray:
    """Return log10 of the table with one of the two widths changed by some standard deviations, dex."""
    changed = replace(widths, width=widths.width * float(np.exp(sigma * widths.width_sigma)))
    if name == "power":
        changed = replace(widths, power=1.0 + (widths.power - 1.0) * float(np.exp(sigma * widths.power_sigma)))
    return np.asarray(np.log10(moffat_table(changed)))


def _peak_growth(base: TabulatedPrf, basis: PolarBasis) -> FloatArray:
    """Return how deviations grow outwards, at the places of the columns."""
    level = base.log10(basis.centers, np.zeros(basis.n_basis)) - base.log10(np.zeros(1), np.zeros(1))
    return np.asarray(10.0 ** (-0.5 * level))
