"""What a star's brightness shares with the roll of the spacecraft."""

from dataclasses import replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.smoothing import smooth_series
from bayesprf.stats import fit_clipped, mad_sigma
from bayesprf.timemodel.columns import POSITIONS
from bayesprf.timemodel.fit import PerturbationFit

# Knot distance, in roll periods, of the spline that takes the star's own slow change off; strays are clipped at so
# many standard deviations, in so many passes.
_KNOTS_PER_ROLL, _CLIP_SIGMA, _N_PASS = 4.0, 3.0, 5
# Cadences wanted per position column.
_LEAST_CADENCES = 10


def add_roll_gain(fit: PerturbationFit, time: FloatArray, flux: FloatArray, roll_hours: float) -> PerturbationFit:
    """Give the time model what the brightness of stars shares with the position columns.

    Parameters
    ----------
    fit : PerturbationFit
        Time model with position columns.
    time : ndarray of float64, shape (n_time,)
        Times, day.
    flux : ndarray of float64, shape (n_time, n_source)
        Fluxes fitted with that time model, electron / s.
    roll_hours : float
        Time scale of the roll, hour.

    Returns
    -------
    PerturbationFit
        The same with other `source_weights`; the sum of its PRF over the pixels follows the roll.

    Notes
    -----
    Light of neighbours that no catalogue knows moves in and out of a star's pixels with the roll, which no change of
    the star's own PRF explains. Motion back and forth within hours is told from what the star does itself by taking
    both free of slow change; Vanderburg & Johnson (2014) decorrelate aperture fluxes in the same way.
    """
    position = np.array([name.startswith(POSITIONS) for name in fit.names[1:]], bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = flux / np.nanmean(np.where(np.isfinite(flux), flux, np.nan), axis=0)
    columns = fit.vectors[:, 1:][:, position]
    scale = _KNOTS_PER_ROLL * roll_hours / 24.0
    fast = columns - smooth_series(time, columns, scale)
    gain = np.zeros_like(fit.source_weights)
    for source, series in enumerate(relative.T):
        known = np.isfinite(series)
        if np.nanmean(flux[:, source]) > 0 and known.sum() > _LEAST_CADENCES * position.sum():
            rest = series - smooth_series(time, series[:, None], scale)[:, 0]
            gain[position, source] = _regress(fast, rest, known)
    return replace(fit, source_weights=fit.source_weights + gain)


def _regress(columns: FloatArray, values: FloatArray, known: BoolArray) -> FloatArray:
    """Return least-squares coefficients, with strays clipped."""

    def spread(residual: FloatArray, _: BoolArray) -> float:
        return float(mad_sigma(residual[known]))

    return fit_clipped(columns, values, spread, limit=_CLIP_SIGMA, n_pass=_N_PASS, known=known)[0]
