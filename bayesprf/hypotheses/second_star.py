"""One star or two at a place: the evidence for a further star of constant flux."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

from bayesprf.arrays import FloatArray, brief, brief_html
from bayesprf.linalg.common import sum_rows
from bayesprf.linalg.problem import LinearProblem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Accuracy: below this the density is the same all over an interval, to a tenth of its square.
_THIN = 1e-5
# Unit: logarithm of the root of 2 pi.
_LOG_ROOT = 0.5 * float(np.log(2.0 * np.pi))


@dataclass(frozen=True, slots=True)
class BlendTest:
    """One star or two?

    Parameters
    ----------
    log_bayes_factor : float
        Log evidence with the second star minus that without, all cadences together.
    probability : float
        Posterior probability of the second star at the prior odds.
    flux, flux_err : float
        Mean and standard deviation of the second star's flux from the data and a flat prior, electron / s: it may come
        out negative, which the test counts against the star.
    prior_sigma : float
        Scale of the half-normal prior of its flux, electron / s.
    prior_odds : float
        Prior probability of two stars over that of one.
    separation : float
        Distance between the two places, arcsec.
    n_pixel, n_time : int
        Number of pixels and cadences used.
    """

    log_bayes_factor: float
    probability: float
    flux: float
    flux_err: float
    prior_sigma: float
    prior_odds: float
    separation: float
    n_pixel: int
    n_time: int

    def plot(self, *, ax: "Axes | None" = None) -> "Figure":
        """Draw what the data say of the flux of a second star, beside its prior.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.answers import plot_blend_test

        return plot_blend_test(self, ax=ax)

    __repr__, _repr_html_ = brief, brief_html

    def __str__(self) -> str:
        """Say which way the test went, how clearly, and how bright the second star would be."""
        verdict = "two stars" if self.log_bayes_factor > 0 else "one star"
        return (
            f"{verdict}: ln Bayes factor {self.log_bayes_factor:+.1f} for a second star {self.separation:.2f} arcsec"
            f" away, probability {self.probability:.3g}; its flux {self.flux:.4g} +- {self.flux_err:.2g} electron / s"
        )


def second_star(
    problem: LinearProblem, column: FloatArray, *, errors: FloatArray, prior_sigma: float
) -> tuple[float, float, float]:
    """Return log Bayes factor, flux and its error of a further star of constant flux.

    Parameters
    ----------
    problem : LinearProblem
        Fluxes of the stars in the catalogue, free at every cadence under their prior.
    column : ndarray of float64, shape (n_pixel,)
        PRF of the further star, 1 / pixel.
    errors : ndarray of float64, shape (n_pixel, n_error)
        Common errors of the model of the catalogue's stars, in standard deviations, electron / s.
    prior_sigma : float
        Scale of the half-normal prior of the flux g > 0, electron / s.

    Returns
    -------
    log_bayes_factor, flux, flux_err : float

    Notes
    -----
    y_t ~ N(M_t F_t + q g + e, C_t) with F_t ~ N(m, P^-1) at each cadence, and the constants g > 0 and e ~ N(0, R R')
    common to all. With A = q' S q, b = q' v from `RowSum`, s the scale, t^2 = 1 / (A + 1 / s^2) and u = b t^2:
    log B = -1/2 log(1 + s^2 A) + u^2 / (2 t^2) + log(2 Phi(u / t)).
    """
    rows = sum_rows(problem)
    precision, rhs = (rows.with_errors(errors) if errors.shape[1] else rows).project(column)
    return float(amplitude_log_bayes(precision, rhs, prior_sigma)), rhs / precision, float(precision**-0.5)


def amplitude_log_bayes(
    precision: FloatArray | float,
    rhs: FloatArray | float,
    scale: FloatArray | float,
    *,
    limit: FloatArray | float = np.inf,
) -> FloatArray:
    """Return the log Bayes factor of a positive amplitude against none.

    Parameters
    ----------
    precision, rhs : float or ndarray of float64
        The log likelihood is rhs a - precision a**2 / 2 plus a constant.
    scale : float or ndarray of float64
        Scale of the prior N(0, scale**2), cut to 0 ... limit.
    limit : float or ndarray of float64
        Largest amplitude.

    Returns
    -------
    ndarray of float64
        Of the shape that the arguments have together.
    """
    scale = np.asarray(scale, np.float64)
    variance = 1.0 / (precision + scale**-2.0)
    mean, width = rhs * variance, np.sqrt(variance)
    gain = 0.5 * mean**2 / variance - 0.5 * np.log1p(scale**2 * precision)
    return np.asarray(gain + _log_mass(-mean / width, (limit - mean) / width) - _log_mass(0.0 * scale, limit / scale))


def _log_mass(low: FloatArray, high: FloatArray) -> FloatArray:
    """Return log(Phi(high) - Phi(low)), exact in both tails and between bounds that differ by rounding."""
    upper, lower = log_ndtr(np.where(low > 0, -low, high)), log_ndtr(np.where(low > 0, -high, low))
    span, middle = high - low, 0.5 * (high + low)
    thin = span * np.maximum(1.0, np.abs(middle)) < _THIN
    inside = np.log(np.maximum(span, np.finfo(np.float64).tiny)) - 0.5 * np.where(thin, middle, 0.0) ** 2 - _LOG_ROOT
    return np.where(thin, inside, upper + np.log1p(-np.exp(np.where(thin, -1.0, lower - upper))))
