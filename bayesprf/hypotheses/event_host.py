"""Which of several blended sources dims: the evidence for each, from fluxes and their covariance at every cadence."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, brief, brief_html
from bayesprf.design.splines import CUBIC, open_knots, open_splines
from bayesprf.errors import InputError
from bayesprf.hypotheses.second_star import amplitude_log_bayes
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.stats import mad_sigma

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Cost: coefficients of all baselines of a group, at most: 300 MB.
_MAX_COEFFICIENTS = 6000
# Shown: candidates that the text of an answer names.
_N_NAMED = 4


@dataclass(frozen=True, slots=True, eq=False)
class FluxSeries:
    """What the pixels say about the fluxes of a group of sources, prior aside.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Day.
    information : ndarray of float64, shape (n_time, n_source, n_source)
        Inverse covariance of the fluxes at each cadence, (electron / s)**-2.
    rhs : ndarray of float64, shape (n_time, n_source)
        That times the best fluxes.
    flux : ndarray of float64, shape (n_source,)
        Median flux of each source outside the event, electron / s.
    scale : ndarray of float64, shape (n_source,)
        What a dip can take away: the same, zero at least, plus its total error.
    scatter : ndarray of float64, shape (n_source,)
        Standard deviation of each source's flux from cadence to cadence beyond its error, electron / s.
    """

    time: FloatArray
    information: FloatArray
    rhs: FloatArray
    flux: FloatArray
    scale: FloatArray
    scatter: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class EventHost:
    """Which source an event belongs to.

    Parameters
    ----------
    source : tuple of str
        Names of the candidates.
    probability : ndarray of float64, shape (n_source,)
        Posterior probability that the event is the candidate's, given that it is one candidate's alone.
    log_bayes_factor : ndarray of float64, shape (n_source,)
        Log evidence of "this source dims" minus that of "none dims".
    dip, dip_err : ndarray of float64, shape (n_source,)
        Light that is lost at full depth if the candidate is the one, and its standard deviation, electron / s; from
        the data and a flat prior.
    flux : ndarray of float64, shape (n_source,)
        Light that the candidate can lose, electron / s: its flux, zero at least, plus its total error.
    """

    source: tuple[str, ...]
    probability: FloatArray
    log_bayes_factor: FloatArray
    dip: FloatArray
    dip_err: FloatArray
    flux: FloatArray

    __repr__, _repr_html_ = brief, brief_html

    @property
    def depth(self) -> FloatArray:
        """Share of its light that each candidate would lose, shape (n_source,)."""
        return self.dip / self.flux

    @property
    def best(self) -> str:
        """Name of the most probable source."""
        return self.source[int(np.argmax(self.probability))]

    def plot(self, *, ax: "Axes | None" = None) -> "Figure":
        """Draw the probability of each source to host the event, the most probable twelve.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.answers import plot_event_host

        return plot_event_host(self, ax=ax)

    def __str__(self) -> str:
        """Name the most probable sources, with what each would have to lose."""
        order = np.argsort(-self.probability)[:_N_NAMED]
        lines = [f"most probable host: {self.best} ({self.probability.max():.3g})"]
        lines += [
            f"  {self.source[i]}: probability {self.probability[i]:.3g},"
            f" ln Bayes factor {self.log_bayes_factor[i]:+.1f}, depth {self.depth[i]:.3g}"
            for i in order
        ]
        rest = len(self.source) - order.size
        return "\n".join(lines + ([f"  and {rest} less probable"] if rest else []))


def flux_series(
    time: FloatArray,
    mean: FloatArray,
    covariance: FloatArray,
    *,
    prior_mean: FloatArray,
    prior_precision: FloatArray,
    common_error: FloatArray,
    outside: BoolArray,
) -> FluxSeries:
    """Take the prior out of posterior fluxes, and measure how much each source scatters beyond its errors.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Day.
    mean : ndarray of float64, shape (n_time, n_source)
        Posterior means, electron / s.
    covariance : ndarray of float64, shape (n_time, n_source, n_source)
        Posterior covariances, all other sources marginalised.
    prior_mean, prior_precision : ndarray of float64, shape (n_source,)
        The prior they were found with.
    common_error : ndarray of float64, shape (n_source,)
        Error of each flux that all cadences share, electron / s.
    outside : ndarray of bool, shape (n_time,)
        Cadences outside the event.

    Returns
    -------
    FluxSeries
    """
    precision = np.linalg.inv(covariance)
    rhs = np.einsum("tij,tj->ti", precision, mean) - prior_precision * prior_mean
    information = precision - np.diag(prior_precision)
    error = np.sqrt(np.einsum("tii->ti", covariance))
    flux = np.median(mean[outside], axis=0)
    scale = np.maximum(flux, 0.0) + np.hypot(np.median(error[outside], axis=0), common_error)
    return FluxSeries(time, information, rhs, flux, scale, _extra_scatter(mean[outside], error[outside]))


def _extra_scatter(flux: FloatArray, error: FloatArray) -> FloatArray:
    """Return the robust scatter of second differences beyond what the errors explain."""
    if flux.shape[0] < 5:
        return np.zeros(flux.shape[1])
    bend = flux[1:-1] - 0.5 * (flux[:-2] + flux[2:])
    seen = mad_sigma(bend - np.median(bend, axis=0), axis=0)
    return np.sqrt(np.maximum(seen**2 / 1.5 - np.median(error, axis=0) ** 2, 0.0))


def event_evidence(
    series: FluxSeries, template: FloatArray, *, spacing: float, depth_sigma: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return log Bayes factor, dip and its error for each source of a group being the one that dims.

    Parameters
    ----------
    series : FluxSeries
        The group.
    template : ndarray of float64, shape (n_time,)
        Shape of the event, 0 outside, 1 at full depth.
    spacing : float
        Distance of the baselines' knots, day; larger than the event.
    depth_sigma : float
        Scale of the prior of the depth, a Gaussian around zero cut to 0 ... 1.

    Returns
    -------
    log_bayes_factor, dip, dip_err : ndarray of float64, shape (n_source,)
        The last two in electron / s.

    Raises
    ------
    InputError
        If there are too many knots for so many sources.

    Notes
    -----
    Flux of source j: F_j = flux_j + scale_j (baseline_j(t) - [j = k] depth template(t)) + scatter. Baselines are cubic
    B-splines whose coefficients have the prior N(0, w_j^2), w_j = max(1, |flux_j| / scale_j); scatter is white,
    N(0, scatter_j^2). With L the information of the fluxes, white scatter Q makes it (1 + L Q)^-1 L. The baselines are
    eliminated as a Schur complement, and what is left is a Gaussian in each source's depth.
    """
    n_source = series.flux.size
    splines = baseline_columns(series.time, spacing)
    if splines.shape[1] * n_source > _MAX_COEFFICIENTS:
        raise InputError(
            f"baseline: expected at most {_MAX_COEFFICIENTS} baseline coefficients, got {splines.shape[1]} knots for"
            f" {n_source} overlapping sources; widen the baseline or name fewer sources"
        )
    information, rhs = _scaled(series)
    dimming = -template[:, None, None] * information
    with one_blas_thread():
        width = np.maximum(1.0, np.abs(series.flux) / series.scale)
        factor = cho_factor(_baseline_precision(splines, information, width))
        cross = np.stack([splines.T @ dimming[:, j] for j in range(n_source)], axis=1).reshape(-1, n_source)
        solved = cho_solve(factor, cross)
        start = np.stack([splines.T @ rhs[:, j] for j in range(n_source)], axis=1).ravel()
    precision = np.einsum("t,tjj->j", template**2, information) - np.einsum("cj,cj->j", cross, solved)
    score = -(template @ rhs) - solved.T @ start
    gains = [
        float(amplitude_log_bayes(a, b, depth_sigma, limit=1.0)) if a > 0 else 0.0
        for a, b in zip(precision, score, strict=True)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array(gains), series.scale * score / precision, series.scale * precision**-0.5


def host_probabilities(log_bayes_factor: FloatArray) -> FloatArray:
    """Return the posterior probability of each candidate, all equally probable before.

    Parameters
    ----------
    log_bayes_factor : ndarray of float64, shape (n_source,)
        Against no event.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        They add up to one.
    """
    return np.exp(log_bayes_factor - np.logaddexp.reduce(log_bayes_factor))


def event_length(time: FloatArray, template: FloatArray) -> float:
    """Return the longest time that the event lasts without a break, day.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Day.
    template : ndarray of float64, shape (n_time,)
        Shape of the event.

    Returns
    -------
    float
        At least one cadence.
    """
    step = float(np.median(np.diff(time))) if time.size > 1 else 0.0
    inside = np.concatenate([[False], template > 0, [False]])
    edges = np.flatnonzero(np.diff(inside))
    starts, stops = edges[::2], edges[1::2] - 1
    return float((time[stops] - time[starts]).max()) + step


def baseline_columns(time: FloatArray, spacing: float) -> csr_matrix:
    """Return what the slow changes of a star are made of.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Day.
    spacing : float
        Distance of the knots, day; infinite for a constant.

    Returns
    -------
    csr_matrix of float64, shape (n_time, n_column)
        Cubic B-splines, or a single column of ones.
    """
    low, high = float(time.min()), float(time.max())
    if high <= low or np.isinf(spacing):
        return csr_matrix(np.ones((time.size, 1)))
    n_break = (high - low) / spacing + 1.0
    if n_break > _MAX_COEFFICIENTS:
        raise InputError(
            f"baseline: expected at most {_MAX_COEFFICIENTS} baseline coefficients, got {n_break:.3g} knots; widen the"
            " baseline"
        )
    breaks = np.linspace(low, high, max(2, round(n_break)))
    return open_splines(time, open_knots(breaks, CUBIC), CUBIC)


def _scaled(series: FluxSeries) -> tuple[FloatArray, FloatArray]:
    """Return information and right-hand side of (F - flux) / scale, white scatter included."""
    scale = series.scale
    information = series.information * scale[:, None] * scale
    rhs = (series.rhs - series.information @ series.flux) * scale
    inner = np.eye(scale.size) + information * (series.scatter / scale) ** 2
    both = np.linalg.solve(inner, np.concatenate([information, rhs[:, :, None]], axis=2))
    kept = both[:, :, :-1]
    return 0.5 * (kept + kept.transpose(0, 2, 1)), both[:, :, -1]


def _baseline_precision(splines: csr_matrix, information: FloatArray, width: FloatArray) -> FloatArray:
    """Return sum_t (v_t v_t') x L_t plus the prior, shape (n_knot n_source, n_knot n_source)."""
    n_knot, n_source = splines.shape[1], information.shape[1]
    answer = np.zeros((n_knot, n_source, n_knot, n_source))
    for i in range(n_source):
        for j in range(i + 1):
            block = (splines.T @ splines.multiply(information[:, i, j][:, None])).toarray()
            answer[:, i, :, j] = answer[:, j, :, i] = block
    precision = answer.reshape(n_knot * n_source, -1)
    return precision + np.diag(np.tile(width**-2.0, n_knot))
