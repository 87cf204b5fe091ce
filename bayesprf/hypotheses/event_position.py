"""Where on the sky an event happened: the evidence of a star of its own at every position, catalogue or not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from bayesprf.arrays import BoolArray, FloatArray, brief, brief_html
from bayesprf.checks import shown
from bayesprf.errors import InputError
from bayesprf.hypotheses.event_host import baseline_columns
from bayesprf.hypotheses.second_star import amplitude_log_bayes
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.scene.pairs import offsets
from bayesprf.stats import mad_sigma

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesprf.scene.sources import SourceTable

# Derived: prior scales of a dip follow each other by this factor: a mixture of half-normals that is nearly uniform in
# its logarithm.
_SCALE_STEP = 3.0
# Accuracy: cells are halved until so many of them hold 95 % of the probability, or they are so small a share of the
# first ones.
_ENOUGH_CELLS, _MAX_HALVING, _LEVEL, _KEPT = 300, 14, 0.95, 0.999
# Rounding: prior of a baseline's coefficients, in units of one over the weight of all cadences.
_RIDGE = 1e-12
# Derived: of a depth whose information a baseline leaves less than this share of, the error is 30 times what noise
# alone makes it: nothing is told.
_TOLD = 1e-3
# Derived: a scatter is known to 1 / sqrt(2 n): to a ninth from the event moved to so many other times, to a quarter
# from the fewest that count; moved events overlap, and their depths correlate, by less than this share.
_MAX_PLACEBO, _MIN_PLACEBO, _OVERLAP = 40, 8, 0.05


# Shown: stars that are named in its display.
_N_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class EventFits:
    """What several series lose in an event, and in the same event at other times, where nothing happened.

    Parameters
    ----------
    dip, variance : ndarray of float64, shape (n_series,)
        Light lost at full depth and its variance by the noise of the cadences, electron / s; the variance is infinite
        where there are no data.
    placebo, placebo_variance : ndarray of float64, shape (n_placebo, n_series)
        The same at other times.
    """

    dip: FloatArray
    variance: FloatArray
    placebo: FloatArray
    placebo_variance: FloatArray

    def select(self, series: BoolArray) -> "EventFits":
        """Return some of the series."""
        return EventFits(
            self.dip[series], self.variance[series], self.placebo[:, series], self.placebo_variance[:, series]
        )


@dataclass(frozen=True, slots=True, eq=False)
class EventPosition:
    """Posterior of the position of an event.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n_cell,)
        Centres of the square cells into which the searched sky is divided, degree.
    size : ndarray of float64, shape (n_cell,)
        Sides of the cells, arcsec.
    probability : ndarray of float64, shape (n_cell,)
        Probability that the event happened in the cell, for a star that may be anywhere: the catalogue does not enter.
    log_bayes_factor : ndarray of float64, shape (n_cell,)
        Log evidence of an event at the centre of the cell minus that of none.
    dip, dip_err : float
        Light lost at full depth at the most probable position, and its standard deviation, electron / s.
    source : tuple of str
        Names of the catalogue's stars in the searched sky.
    source_probability : ndarray of float64, shape (n_source,)
        Probability that the event is the star's.
    none_probability : float
        Probability that it is none of them.
    source_log_bayes_factor : ndarray of float64, shape (n_source,)
        Log evidence of each against no event.
    """

    ra_deg: FloatArray
    dec_deg: FloatArray
    size: FloatArray
    probability: FloatArray
    log_bayes_factor: FloatArray
    dip: float
    dip_err: float
    source: tuple[str, ...]
    source_probability: FloatArray
    none_probability: float
    source_log_bayes_factor: FloatArray

    __repr__, _repr_html_ = brief, brief_html

    def __str__(self) -> str:
        """Give the most probable position, the size of the 95 % region, and the most probable star."""
        (ra_deg, dec_deg), (east, north) = self.best, self.std
        lines = [
            f"RA {ra_deg:.5f} +- {east:.2g} arcsec, Dec {dec_deg:+.5f} +- {north:.2g} arcsec; 95 % region of"
            f" {self.area():.3g} arcsec**2, dip {self.dip:.4g} +- {self.dip_err:.2g} electron / s"
        ]
        order = np.argsort(-self.source_probability)[:_N_NAMED]
        lines += [f"  {self.source[i]}: probability {self.source_probability[i]:.3g}" for i in order]
        return "\n".join([*lines, f"  none of the catalogue: probability {self.none_probability:.3g}"])

    @property
    def best(self) -> tuple[float, float]:
        """Right ascension and declination of the most probable position, degree."""
        k = int(np.argmax(self.probability / self.size**2))
        return float(self.ra_deg[k]), float(self.dec_deg[k])

    @property
    def std(self) -> FloatArray:
        """Standard deviation of the position towards east and north, shape (2,), arcsec."""
        dx, dy = self._from_best()
        moments = [(self.probability @ one**2, self.probability @ one) for one in (dx, dy)]
        spread = np.array([square - mean**2 for square, mean in moments])
        return np.sqrt(spread + float(self.probability @ self.size**2) / 12.0)

    def region(self, level: float = 0.95) -> BoolArray:
        """Return the cells of the smallest region that holds the event with some probability.

        Parameters
        ----------
        level : float
            Probability, 0 to 1.

        Returns
        -------
        ndarray of bool, shape (n_cell,)

        Raises
        ------
        InputError
            If the level is not between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise InputError(f"level: expected a number between 0 and 1, got {shown(level)}")
        return _smallest(self.probability, self.size, level)

    def plot(self, sources: "SourceTable | None" = None, *, ax: "Axes | None" = None) -> "Figure":
        """Draw the regions that hold 68, 95 and 99.7 % of the probability of the position.

        Parameters
        ----------
        sources : SourceTable, optional
            Catalogue, such as `Machine.sources`, to mark its stars with.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.sky import plot_event_position

        return plot_event_position(self, sources, ax=ax)

    def area(self, level: float = 0.95) -> float:
        """Return the area of the smallest region that holds the event with some probability, arcsec**2."""
        return float(np.sum(self.size[self.region(level)] ** 2))

    def contains(self, ra_deg: float, dec_deg: float, level: float = 0.95) -> bool:
        """Return whether a position lies in the smallest region that holds the event with some probability.

        Parameters
        ----------
        ra_deg, dec_deg : float
            Position, degree.
        level : float
            Probability, 0 to 1.

        Returns
        -------
        bool
        """
        here = offsets(np.full(self.size.size, ra_deg), np.full(self.size.size, dec_deg), self.ra_deg, self.dec_deg)
        inside = np.maximum(np.abs(here[0]), np.abs(here[1])) <= 0.5 * self.size * (1.0 + 1e-9)
        return bool(np.any(inside & self.region(level)))

    def _from_best(self) -> tuple[FloatArray, FloatArray]:
        ra, dec = (np.full(self.size.size, one) for one in self.best)
        return offsets(self.ra_deg, self.dec_deg, ra, dec)


def quick_image(
    time: FloatArray, data: FloatArray, ivar: FloatArray, template: FloatArray, *, spacing: float
) -> tuple[FloatArray, FloatArray]:
    """Return dips and their inverse variances by one linear filter for all series: to see where it is worth looking.

    Parameters
    ----------
    time, data, ivar, template, spacing
        As for `fit_events`.

    Returns
    -------
    dip, dip_ivar : ndarray of float64, shape (n_series,)
        Missing values count as the mean of their series.
    """
    base = np.concatenate([baseline_columns(time, spacing).toarray(), -template[:, None]], axis=1)
    with one_blas_thread():
        weight = np.linalg.pinv(base)[-1]
        count = np.maximum((ivar > 0).sum(axis=0), 1)
        mean = np.where(ivar > 0, data, 0.0).sum(axis=0) / count
        dip = weight @ np.where(ivar > 0, data, mean)
    typical = ivar.sum(axis=0) / count
    return dip, typical / np.sum(weight**2)


def fit_events(
    time: FloatArray, data: FloatArray, ivar: FloatArray, template: FloatArray, *, spacing: float
) -> EventFits:
    """Fit every series, such as a pixel, by its own baseline and the event.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Day.
    data, ivar : ndarray of float64, shape (n_time, n_series)
        The series and their inverse variances, electron / s; 0 drops a value.
    template : ndarray of float64, shape (n_time,)
        Shape of the event, 0 outside, 1 at full depth.
    spacing : float
        Distance of the baselines' knots, day; larger than the event.

    Returns
    -------
    EventFits

    Notes
    -----
    y = sum_k c_k B_k(t) - dip template(t) with cubic B-splines B_k, under a flat prior: whatever is slow, in the stars
    or in the PRF, drops out of a difference image, and so do all errors of the mean model of the pixels. The same
    template moved to other times says how far dips scatter beyond the noise of the cadences.
    """
    base = np.concatenate([baseline_columns(time, spacing).toarray(), -template[:, None]], axis=1)
    moved = _placebos(template)
    n_series = data.shape[1]
    dip, variance = np.zeros((1 + len(moved), n_series)), np.full((1 + len(moved), n_series), np.inf)
    with one_blas_thread():
        for p in range(n_series):
            used = ivar[:, p] > 0
            if (template[used] > 0).any():
                dip[:, p], variance[:, p] = _fit_series(base[used], moved[:, used], data[used, p], ivar[used, p])
    return EventFits(dip[0], variance[0], dip[1:], variance[1:])


def _fit_series(
    base: FloatArray, moved: FloatArray, data: FloatArray, ivar: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return dip and variance of the event, the last column of `base`, and of each moved one beside it."""
    weighted = base * ivar[:, None]
    normal = weighted.T @ base
    normal[np.diag_indices_from(normal)] += _RIDGE * ivar.sum()
    factor = cho_factor(normal)
    best = cho_solve(factor, weighted.T @ data)
    residual = ivar * (data - base @ best)
    cross = weighted.T @ moved.T
    precision = np.sum(moved**2 * ivar, axis=1) - np.sum(cross * cho_solve(factor, cross), axis=0)
    told = precision > _TOLD * np.sum(moved**2 * ivar, axis=1)
    safe = np.where(told, precision, 1.0)
    unit = np.zeros(len(best))
    unit[-1] = 1.0
    own = float(cho_solve(factor, unit)[-1])
    dips = np.where(told, -(moved @ residual) / safe, 0.0)
    return np.append(best[-1], dips), np.append(own, np.where(told, 1.0 / safe, np.inf))


def _placebos(template: FloatArray) -> FloatArray:
    """Return the event moved to other times, (n_placebo, n_time), as far apart as it is long."""
    inside = np.flatnonzero(np.diff(np.concatenate([[0], (template > 0).astype(np.int64), [0]])))
    length = int(np.max(inside[1::2] - inside[::2]))
    shifts = np.arange(length, template.size - length + 1, length)
    moved = np.array([np.roll(template, int(one)) for one in shifts]).reshape(-1, template.size)
    apart = moved[moved @ template < _OVERLAP * (template @ template)]
    chosen = np.unique(np.linspace(0, max(len(apart) - 1, 0), _MAX_PLACEBO).round().astype(np.int64))
    return apart[chosen] if len(apart) else apart


def image_covariance(pixels: EventFits, sources: EventFits, light: FloatArray) -> FloatArray:
    """Return the covariance of a difference image: noise, and stars that vary as fast as the event.

    Parameters
    ----------
    pixels : EventFits
        Of the pixels.
    sources : EventFits
        Of the fluxes of the stars.
    light : ndarray of float64, shape (n_pixel, n_source)
        PRF of the stars, 1 / pixel.

    Returns
    -------
    ndarray of float64, shape (n_pixel, n_pixel)
        (electron / s)**2. A star's flux varies as its placebos scatter beyond their errors; a pixel that scatters more
        than both explain counts as that much noisier.
    """
    excess = np.maximum(_spread(sources.placebo, sources.placebo_variance) - 1.0, 0.0)
    star = np.where(np.isfinite(sources.variance), excess * sources.variance, 0.0)
    known = (light**2) @ star
    beyond = np.maximum(_spread(pixels.placebo, pixels.placebo_variance + known), 1.0)
    return np.diag(beyond * pixels.variance) + (light * star) @ light.T


def _spread(placebo: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the robust variance of placebos over what was expected, per series; 1 where there are too few."""
    told = np.isfinite(variance)
    scores = np.where(told, placebo / np.sqrt(np.where(told, variance, 1.0)), np.nan)
    enough = np.count_nonzero(told, axis=0) >= _MIN_PLACEBO
    answer = np.ones(placebo.shape[1])
    if enough.any():
        answer[enough] = mad_sigma(scores[:, enough], axis=0) ** 2
    return answer


@dataclass(frozen=True, slots=True, eq=False)
class PositionLikelihood:
    """A difference image ready to be compared with stars at many positions.

    Parameters
    ----------
    lower : ndarray of float64, shape (n_pixel, n_pixel)
        Cholesky factor L of its covariance.
    dip : ndarray of float64, shape (n_pixel,)
        L^-1 of the image.
    """

    lower: FloatArray
    dip: FloatArray

    @classmethod
    def of(cls, image: FloatArray, covariance: FloatArray) -> "PositionLikelihood":
        """Factorise the covariance, (n_pixel, n_pixel), of an image, (n_pixel,)."""
        lower = np.linalg.cholesky(covariance)
        return cls(lower, solve_triangular(lower, image, lower=True))

    @property
    def log_density(self) -> float:
        """Log density of the image without an event, but for a constant."""
        return -float(np.log(np.diag(self.lower)).sum()) - 0.5 * float(self.dip @ self.dip)

    def amplitudes(self, columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return precision and right-hand side of the dip of stars with PRFs `columns`, (n_position, n_pixel)."""
        half = solve_triangular(self.lower, columns.T, lower=True)
        return np.sum(half**2, axis=0), half.T @ self.dip


def dip_evidence(precision: FloatArray, rhs: FloatArray, *, least: float, most: FloatArray) -> FloatArray:
    """Return the log Bayes factor of a dip, whose prior is nearly uniform in its logarithm, against none.

    Parameters
    ----------
    precision, rhs : ndarray of float64, shape (n,)
        The log likelihood of a dip g is rhs g - precision g**2 / 2.
    least : float
        Smallest dip that matters, electron / s.
    most : ndarray of float64, shape (n,)
        Largest dip that is possible, electron / s.

    Returns
    -------
    ndarray of float64, shape (n,)
        Of the mixture of half-normal priors, cut at `most`, whose scales lie between the two and follow each other by
        a factor of three.
    """
    most = np.maximum(np.broadcast_to(most, precision.shape), 1e-300)
    count = np.maximum(np.ceil(np.log(np.maximum(most / least, 1.0)) / np.log(_SCALE_STEP)), 0.0).astype(np.int64) + 1
    total = np.full(precision.shape, -np.inf)
    for k in range(int(count.max(initial=1))):
        here = k < count
        scale = most[here] * _SCALE_STEP**-k
        one = amplitude_log_bayes(precision[here], rhs[here], scale, limit=most[here])
        total[here] = np.logaddexp(total[here], one)
    return np.asarray(total - np.log(count))


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Square cells of the sky.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n_cell,)
        Centres towards east and north of a reference, arcsec.
    size : ndarray of float64, shape (n_cell,)
        Sides, arcsec.
    value : ndarray of float64, shape (n_cell,)
        Log of the posterior density at the centre.
    """

    x: FloatArray
    y: FloatArray
    size: FloatArray
    value: FloatArray

    @property
    def probability(self) -> FloatArray:
        """Probability of each cell, shape (n_cell,)."""
        log = self.value + 2.0 * np.log(self.size)
        return np.exp(log - np.logaddexp.reduce(log))


def refine_cells(
    x: FloatArray, y: FloatArray, size: float, density: Callable[[FloatArray, FloatArray], FloatArray]
) -> Cells:
    """Divide cells where the probability lies, until many of them hold it.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n_cell,)
        Centres of the first cells, arcsec.
    size : float
        Their side, arcsec.
    density : callable
        Returns the log density at some positions.

    Returns
    -------
    Cells
    """
    cells = Cells(x, y, np.full(x.size, size), density(x, y))
    for _ in range(_MAX_HALVING):
        share = cells.probability
        if np.count_nonzero(_smallest(share, cells.size, _LEVEL)) >= _ENOUGH_CELLS:
            break
        cells = _divide(cells, _with_neighbors(cells, _smallest(share, cells.size, _KEPT)), density)
    return cells


def _smallest(probability: FloatArray, size: FloatArray, level: float) -> BoolArray:
    """Return the densest cells that hold a share of the probability."""
    order = np.argsort(-probability / size**2, kind="stable")
    chosen = np.zeros(probability.size, bool)
    chosen[order[: int(np.searchsorted(np.cumsum(probability[order]), level)) + 1]] = True
    return chosen


def _with_neighbors(cells: Cells, chosen: BoolArray) -> BoolArray:
    """Add the cells that touch the chosen ones: a peak between two centres may lie in the lower one."""
    reach = 0.5 * (cells.size[:, None] + cells.size[chosen]) * (1.0 + 1e-9)
    near = (np.abs(cells.x[:, None] - cells.x[chosen]) <= reach) & (np.abs(cells.y[:, None] - cells.y[chosen]) <= reach)
    smallest = cells.size <= cells.size[chosen].max()
    return chosen | (near.any(axis=1) & smallest)


def _divide(cells: Cells, chosen: BoolArray, density: Callable[[FloatArray, FloatArray], FloatArray]) -> Cells:
    """Replace cells by their quarters."""
    step = 0.25 * cells.size[chosen]
    x = np.concatenate([cells.x[chosen] + i * step for i in (-1, 1, -1, 1)])
    y = np.concatenate([cells.y[chosen] + j * step for j in (-1, -1, 1, 1)])
    rest = ~chosen
    return Cells(
        np.concatenate([cells.x[rest], x]),
        np.concatenate([cells.y[rest], y]),
        np.concatenate([cells.size[rest], np.tile(2.0 * step, 4)]),
        np.concatenate([cells.value[rest], density(x, y)]),
    )


def host_shares(stars: FloatArray, none: float, none_prior: float) -> tuple[FloatArray, float]:
    """Return the posterior probabilities of the stars of a catalogue, and of none of them.

    Parameters
    ----------
    stars : ndarray of float64, shape (n_source,)
        Log evidence of each; all are equally probable before.
    none : float
        Log evidence of a star that is not in the catalogue, its position integrated out.
    none_prior : float
        Prior probability of that.

    Returns
    -------
    stars : ndarray of float64, shape (n_source,)
    none : float
    """
    with np.errstate(divide="ignore"):
        weights = np.append(stars + np.log1p(-none_prior) - np.log(max(stars.size, 1)), none + np.log(none_prior))
    shares = np.exp(weights - np.logaddexp.reduce(weights))
    return shares[:-1], float(shares[-1])
