"""How deep an event is: dip over flux of one star, with the error of the flux in it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import brentq
from scipy.special import ndtr, owens_t

from bayesprf.arrays import FloatArray, brief, brief_html
from bayesprf.checks import shown
from bayesprf.errors import InputError
from bayesprf.hypotheses.event_host import baseline_columns
from bayesprf.linalg.blas import one_blas_thread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Accuracy: steps that double, from about one standard deviation: 1e12 of them are reached.
_MAX_DOUBLINGS = 40
# Definition: a star so many standard deviations below zero has no depth.
_LEAST_FLUX = -5.0
# Rounding: below this share of the posterior's precision the data have said nothing.
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Dip:
    """What a star loses, and what it has, both fitted to its light curve.

    Parameters
    ----------
    mean : ndarray of float64, shape (2,)
        Light lost at full depth, and flux of the star without the event, mean under the template, electron / s.
    covariance : ndarray of float64, shape (2, 2)
        Theirs, from the noise of the cadences, (electron / s)**2.
    scatter : float
        Standard deviation from cadence to cadence beyond the errors, electron / s.
    """

    mean: FloatArray
    covariance: FloatArray
    scatter: float


@dataclass(frozen=True, slots=True, eq=False)
class EventDepth:
    """Share of its light that a star loses, with everything that is uncertain about it.

    Parameters
    ----------
    source : str
        Name of the star.
    dip, dip_err : float
        Light lost at full depth and its standard deviation from cadence to cadence, electron / s.
    flux, flux_err : float
        Flux of the star without the event, and the standard deviation that matters to the depth, electron / s: noise,
        and what errors of the PRF and of positions move between this star and its neighbours. An error that makes
        the star as a whole brighter or fainter acts equally on the dip, and drops out.
    correlation : float
        Between dip and flux.
    noise_err : float
        Standard deviation that the depth had if the flux of the star were known.
    """

    source: str
    dip: float
    dip_err: float
    flux: float
    flux_err: float
    correlation: float
    noise_err: float

    __repr__, _repr_html_ = brief, brief_html

    @property
    def depth(self) -> float:
        """Median of the posterior of dip / flux."""
        return self.quantile(0.5)

    @property
    def depth_err(self) -> float:
        """Half the width of its central 68.27 % interval: one standard deviation where it is Gaussian."""
        low, high = self.interval(float(ndtr(1.0) - ndtr(-1.0)))
        return 0.5 * (high - low)

    def plot(self, *, ax: "Axes | None" = None) -> "Figure":
        """Draw the posterior of the depth with the intervals that hold 68 and 95 %.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.answers import plot_event_depth

        return plot_event_depth(self, ax=ax)

    def __str__(self) -> str:
        """Give the depth with its central 68 % interval, and what it is the ratio of."""
        low, high = self.interval(0.68)
        return (
            f"{self.source}: depth {self.depth:.4g}, 68 % interval {low:.4g} to {high:.4g}"
            f" (dip {self.dip:.4g} +- {self.dip_err:.2g} of flux {self.flux:.5g} +- {self.flux_err:.2g} electron / s)"
        )

    def interval(self, level: float = 0.68) -> tuple[float, float]:
        """Return the central interval of the depth.

        Parameters
        ----------
        level : float
            Probability inside, 0 to 1.

        Returns
        -------
        low, high : float

        Raises
        ------
        InputError
            If the level is not between 0 and 1.
        """
        _check_share(level, "level")
        return self.quantile(0.5 - 0.5 * level), self.quantile(0.5 + 0.5 * level)

    def quantile(self, share: float) -> float:
        """Return the depth below which a share of the posterior lies.

        Parameters
        ----------
        share : float
            0 to 1.

        Returns
        -------
        float

        Raises
        ------
        InputError
            If the share is not between 0 and 1.

        Notes
        -----
        Dip D and flux B > 0 are jointly Gaussian: P(D / B < x) = P(D - x B < 0, B > 0) / P(B > 0), the numerator by
        the function of Owen (1956). Where B is many of its errors this is the interval of Fieller (1954).
        """
        _check_share(share, "share")
        floor = max(self.flux, self.flux_err)
        centre = self.dip / floor
        step = (self.dip_err + abs(centre) * self.flux_err) / floor

        def excess(depth: float) -> float:
            return self._below(depth) - share

        low, high = centre - step, centre + step
        for _ in range(_MAX_DOUBLINGS):
            low, high = low - step * (excess(low) > 0), high + step * (excess(high) < 0)
            step *= 2.0
        found: float = brentq(excess, low, high, xtol=1e-12 * abs(high - low), rtol=1e-12)
        return found

    def _below(self, depth: float) -> float:
        """Return P(dip / flux < depth)."""
        cross = self.correlation * self.dip_err * self.flux_err
        spread = np.sqrt(self.dip_err**2 - 2.0 * depth * cross + (depth * self.flux_err) ** 2)
        upper = -(self.dip - depth * self.flux) / spread
        positive = self.flux / self.flux_err
        correlation = -(cross - depth * self.flux_err**2) / (spread * self.flux_err)
        return _both_below(upper, positive, correlation) / float(ndtr(positive))


def without_prior(
    mean: FloatArray, variance: FloatArray, *, prior_mean: float, prior_precision: float
) -> tuple[FloatArray, FloatArray]:
    """Take its own prior out of the posterior fluxes of a star.

    Parameters
    ----------
    mean, variance : ndarray of float64, shape (n_time,)
        Posterior, electron / s and its square.
    prior_mean, prior_precision : float
        The prior.

    Returns
    -------
    flux, variance : ndarray of float64, shape (n_time,)
        What the data alone say; the variance is infinite where they say nothing.
    """
    information = 1.0 / variance - prior_precision
    told = information > _NOTHING / variance
    ivar = np.where(told, information, 1.0)
    flux = np.where(told, (mean / variance - prior_precision * prior_mean) / ivar, prior_mean)
    return flux, np.where(told, 1.0 / ivar, np.inf)


def fit_dip(time: FloatArray, flux: FloatArray, variance: FloatArray, template: FloatArray, *, spacing: float) -> Dip:
    """Fit baseline and event to the light curve of one star.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Day.
    flux, variance : ndarray of float64, shape (n_time,)
        Light curve, electron / s, and the variance of each point; infinite where there are no data.
    template : ndarray of float64, shape (n_time,)
        Shape of the event, 0 outside, 1 at full depth.
    spacing : float
        Distance of the baseline's knots, day; infinite for a constant.

    Returns
    -------
    Dip

    Raises
    ------
    InputError
        If no cadence in the event, or none outside, has data.

    Notes
    -----
    F(t) = sum_k c_k B_k(t) - D template(t) + noise, with cubic B-splines B_k (one constant column for an infinite
    spacing), a wide prior on c, a flat one on D, and a white scatter beyond the errors, learned from the residuals.
    The flux B is the mean of the baseline weighted with the template.
    """
    seen = np.isfinite(variance) & (variance > 0)
    outside = seen & (template == 0)
    if not outside.any() or not (template[seen] > 0).any():
        raise InputError("event: expected cadences with data both in the event and outside, got none of one kind")
    splines = baseline_columns(time[seen], spacing).toarray()
    columns = np.concatenate([splines, -template[seen, None]], axis=1)
    level, width = float(np.median(flux[outside])), float(np.sqrt(np.median(variance[outside])))
    prior = np.append(np.full(splines.shape[1], (10.0 * (np.abs(level) + width)) ** -2.0), 0.0)
    answer = np.zeros((columns.shape[1], 2))
    answer[-1, 0], answer[:-1, 1] = 1.0, np.average(splines, axis=0, weights=template[seen])
    data = flux[seen] - level
    with one_blas_thread():
        best, covariance = _solve(columns, data, variance[seen], prior, answer)
        scatter = _extra_scatter(data - columns @ best, variance[seen], best.size)
        best, covariance = _solve(columns, data, variance[seen] + scatter**2, prior, answer)
    return Dip(answer.T @ best + np.array([0.0, level]), covariance, scatter)


def _solve(
    columns: FloatArray, data: FloatArray, variance: FloatArray, prior: FloatArray, answer: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the coefficients, and the covariance of some combinations of them."""
    factor = cho_factor(columns.T @ (columns / variance[:, None]) + np.diag(prior))
    return cho_solve(factor, columns.T @ (data / variance)), answer.T @ cho_solve(factor, answer)


def _extra_scatter(residual: FloatArray, variance: FloatArray, n_free: int) -> float:
    """Return the standard deviation that the errors leave unexplained."""
    left = max(residual.size - n_free, 1)
    return float(np.sqrt(max(np.sum(residual**2) / left - np.mean(variance), 0.0)))


def carry_flux_error(source: str, dip: Dip, leak: float) -> EventDepth:
    """Add what neighbours may give to or take from a star equally at all cadences.

    Parameters
    ----------
    source : str
        Name of the star.
    dip : Dip
        Its dip and its flux.
    leak : float
        Standard deviation of the light that neighbours give to it, electron / s.

    Returns
    -------
    EventDepth

    Raises
    ------
    InputError
        If the flux is negative beyond its error.

    Notes
    -----
    The fitted flux is (1 + a) F + b, with a from errors in the star's own light and b from those in the light of its
    neighbours; the fitted dip is (1 + a) D. Their ratio knows b alone.
    """
    dip_err, noise = float(np.sqrt(dip.covariance[0, 0])), float(dip.covariance[1, 1])
    flux_err = float(np.sqrt(noise + leak**2))
    if dip.mean[1] < _LEAST_FLUX * flux_err:
        raise InputError(
            f"source: expected a star that shines, got {source!r} with {dip.mean[1]:.3g} +- {flux_err:.2g} electron / s"
        )
    slope = np.array([1.0, -dip.mean[0] / dip.mean[1]]) / dip.mean[1]
    return EventDepth(
        source=source,
        dip=float(dip.mean[0]),
        dip_err=dip_err,
        flux=float(dip.mean[1]),
        flux_err=flux_err,
        correlation=float(dip.covariance[0, 1] / (dip_err * flux_err)),
        noise_err=float(np.sqrt(slope @ dip.covariance @ slope)),
    )


def _both_below(a: float, b: float, correlation: float) -> float:
    """Return P(X < a, Y < b) of two standard normal variables."""
    a, b = (one if one != 0.0 else 1e-300 for one in (a, b))
    rest = np.sqrt((1.0 - correlation) * (1.0 + correlation))
    with np.errstate(over="ignore", divide="ignore"):
        parts = owens_t(a, (b / a - correlation) / rest) + owens_t(b, (a / b - correlation) / rest)
    return float(0.5 * (ndtr(a) + ndtr(b)) - parts - 0.5 * (np.sign(a) != np.sign(b)))


def _check_share(value: float, name: str) -> None:
    if not 0.0 < value < 1.0:
        raise InputError(f"{name}: expected a number between 0 and 1, got {shown(value)}")
