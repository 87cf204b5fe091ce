"""Light curves as Gaussian processes in time: all stars of a blend together, from the fluxes of every cadence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bayesprf.arrays import FloatArray, IntArray, brief, brief_html
from bayesprf.checks import check_shape
from bayesprf.errors import InputError
from bayesprf.linalg.kalman import FixedColumns, ProcessPosterior, RowInformation, draw_processes, solve_processes
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.state_space import ProcessKernel
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.photometry.process_kernels import (
    LEARNED_FAMILIES,
    LearnedKernel,
    kernel_variance,
    learn_kernel,
    learn_together,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_GROUP = 20
"""Cost: stars that are solved together by default: the cost grows as the cube."""

# Derived: pairs whose flux errors correlate less than this are not worth one solution: both errors change by half its
# square.
_LEAST_CORRELATION = 0.01
# Cost: stars that are solved together to see what a kernel's error does to one of them: each solution costs the cube.
_N_NEAREST = 6
# Shown: stars that are named in its display.
_N_NAMED = 5


@dataclass(frozen=True, slots=True, eq=False)
class ProcessGroup:
    """Stars whose processes were solved together; all other stars had a free flux at every cadence.

    Parameters
    ----------
    source : ndarray of int64, shape (n,)
        Index of each star.
    kernels : tuple of ProcessKernel
        How each varies.
    log_bayes_factor : ndarray of float64, shape (n,)
        See `LearnedKernel`; NaN where the kernel was given.
    information : RowInformation
        What each cadence says about their fluxes.
    columns : FixedColumns
        Levels of all stars, then events.
    event_of : ndarray of int64, shape (n_event,)
        Place in `source` of the star of each event.
    posterior : ProcessPosterior
        The answer, given the kernels.
    kernel_err : ndarray of float64, shape (n_time, n)
        Part of the errors of the fluxes by kernels that were learned, electron / s; 0 for those that were given.
    """

    source: IntArray
    kernels: tuple[ProcessKernel, ...]
    log_bayes_factor: FloatArray
    information: RowInformation
    columns: FixedColumns
    event_of: IntArray
    posterior: ProcessPosterior
    kernel_err: FloatArray

    @property
    def level(self) -> FloatArray:
        """Flux about which each star varies, shape (n,), electron / s."""
        return self.posterior.coefficients[: self.source.size]

    @property
    def level_err(self) -> FloatArray:
        """Its standard deviation, shape (n,), electron / s."""
        return np.sqrt(np.diag(self.posterior.coefficients_cov)[: self.source.size])

    @property
    def dip(self) -> FloatArray:
        """Light lost at full depth in the event of each star, shape (n,), electron / s; NaN without one."""
        return self._of_events(self.posterior.coefficients)

    @property
    def dip_err(self) -> FloatArray:
        """Its standard deviation, shape (n,), electron / s."""
        return self._of_events(np.sqrt(np.diag(self.posterior.coefficients_cov)))

    @property
    def templates(self) -> dict[int, FloatArray]:
        """Shape of the event of each star that has one, shape (n_time,) each, by the index of the star."""
        n, shapes = self.source.size, self.columns.values
        return {int(self.source[at]): -shapes[:, at, n + k] for k, at in enumerate(self.event_of)}

    def _of_events(self, values: FloatArray) -> FloatArray:
        answer = np.full(self.source.size, np.nan)
        answer[self.event_of] = values[self.source.size :]
        return answer


@dataclass(frozen=True, slots=True, eq=False)
class LightCurves:
    """Light curves that are smooth in time as far as the data want them to be, with errors at every cadence.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Times, day.
    flux, flux_err : ndarray of float64, shape (n_time, n_source)
        Posterior mean and standard deviation given all cadences, electron / s, where there are no data too; NaN for
        stars that were not asked for or have no pixels. The errors hold that of learned kernels; draws, predictions,
        levels and dips are those of the kernels found.
    groups : tuple of ProcessGroup
        What was solved.
    """

    time: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    groups: tuple[ProcessGroup, ...]

    __repr__, _repr_html_ = brief, brief_html

    def __str__(self) -> str:
        """Give the number of stars and cadences, and how the first stars vary."""
        n_star = sum(one.source.size for one in self.groups)
        lines = [f"{n_star} stars in {len(self.groups)} groups, {self.time.size} cadences"]
        told = [(star, kernel) for one in self.groups for star, kernel in zip(one.source, one.kernels, strict=True)]
        lines += [f"  source {star}: {kernel.family}, sigma {kernel.sigma:.3g}" for star, kernel in told[:_N_NAMED]]
        return "\n".join(lines + ([f"  and {n_star - _N_NAMED} more"] if n_star > _N_NAMED else []))

    def find(self, source: int) -> tuple[ProcessGroup, int]:
        """Return the group of a star, and its place in it.

        Parameters
        ----------
        source : int
            Index of the star.

        Returns
        -------
        group : ProcessGroup
        place : int

        Raises
        ------
        InputError
            If it is in none.
        """
        for group in self.groups:
            if source in group.source:
                return group, int(np.flatnonzero(group.source == source)[0])
        raise InputError(f"source: expected a star that was solved as a process, got {source}")

    def kernel(self, source: int) -> ProcessKernel:
        """Return how a star varies."""
        group, place = self.find(source)
        return group.kernels[place]

    def plot(
        self,
        sources: int | Sequence[int],
        *,
        names: Sequence[str] | None = None,
        time_zero_jd: float = 0.0,
        ax: "Axes | Sequence[Axes] | None" = None,
    ) -> "Figure":
        """Draw light curves with the bands that hold 68 and 95 %.

        Parameters
        ----------
        sources : int or sequence of int
            Stars.
        names : sequence of str, optional
            Names of all stars, for the titles.
        time_zero_jd : float
            Julian date of time 0, day, for the label of the axis.
        ax : matplotlib.axes.Axes or sequence of them, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.answers import plot_processes

        return plot_processes(self, sources, names=names, time_zero_jd=time_zero_jd, ax=ax)

    def draws(self, sources: IntArray, n_draw: int, rng: np.random.Generator) -> FloatArray:
        """Draw whole light curves from their joint posterior.

        Parameters
        ----------
        sources : ndarray of int64
            Stars.
        n_draw : int
            Number of independent draws.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of float64, shape (n_draw, n_time, n_sources), electron / s
            Stars of one group are drawn together.
        """
        answer = np.empty((n_draw, self.time.size, len(sources)))
        places = [self.find(int(one)) for one in sources]
        for group in {id(one): one for one, _ in places}.values():
            drawn = draw_processes(group.information, group.kernels, self.time, group.columns, n_draw=n_draw, rng=rng)
            for k, (own, place) in enumerate(places):
                if own is group:
                    answer[:, :, k] = drawn[:, :, place]
        return answer

    def at(self, time: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Predict the light at any times: in gaps, between cadences, before and after.

        Parameters
        ----------
        time : ndarray of float64, shape (n,)
            Times, day; none of those of the data.

        Returns
        -------
        flux, flux_err : ndarray of float64, shape (n, n_source)
            Light without the events of `template`, electron / s.

        Raises
        ------
        InputError
            If a time is that of a cadence, or given twice.
        """
        wanted = np.asarray(time, np.float64)
        both = np.concatenate([self.time, wanted])
        if np.unique(both).size != both.size:
            raise InputError("time: expected times that are not those of the data, each once; drop those that are")
        order = np.argsort(both)
        new = order >= self.time.size
        flux, error = (np.full((wanted.size, self.flux.shape[1]), np.nan) for _ in range(2))
        for group in self.groups:
            found = solve_processes(*_stretch(group, order, new), both[order], _stretch_columns(group, order, new))
            flux[np.ix_(order[new] - self.time.size, group.source)] = found.mean[new]
            error[np.ix_(order[new] - self.time.size, group.source)] = found.std[new]
        return flux, error


def fit_light_curves(
    fit: FluxFit,
    time: FloatArray,
    kernels: Mapping[int, ProcessKernel | str],
    *,
    templates: Mapping[int, FloatArray] | None = None,
    max_group: int = MAX_GROUP,
) -> LightCurves:
    """Solve the fluxes of some stars as processes in time.

    Parameters
    ----------
    fit : FluxFit
        Fluxes of every cadence with a proper prior, which becomes that of the stars' levels.
    time : ndarray of float64, shape (n_time,)
        Times, ascending, day.
    kernels : mapping of int to ProcessKernel or str
        Per star how it varies: a kernel, the name of a family whose numbers are to be learned, or "learn" for the best
        of the Matern families. Stars that are not named have a free flux at every cadence, as in `fit`.
    templates : mapping of int to ndarray of float64, shape (n_time,), optional
        Shape of an event per star, 0 outside and 1 at full depth: light that the star loses apart from its process.
    max_group : int
        Stars that are solved together at most. Where more overlap, those are kept together whose errors correlate most;
        for each group all others have a free flux at every cadence, which is exact and only wider.

    Returns
    -------
    LightCurves

    Raises
    ------
    InputError
        If the times do not ascend, a prior is flat, or a template belongs to no star.

    Notes
    -----
    F_s(t) = level_s + process_s(t) + white_s(t) - dip_s template_s(t). The pixels enter through the fluxes and their
    covariance at every cadence, the prior taken out: these are sufficient. A process follows whatever the star does: an
    event that matters belongs into `templates`.
    """
    templates = templates or {}
    members = np.array(sorted(kernels), np.int64)
    _check(fit, time, members, templates)
    lit = members[(fit.posterior.std[:, members] ** 2 * fit.prior.precision[members] < 1.0 - 1e-9).any(axis=0)]
    groups = []
    for source in split_by_correlation(fit, lit, max_group):
        wanted = {int(one): kernels[int(one)] for one in source}
        groups.append(_fit_group(fit, time, source, wanted, {k: v for k, v in templates.items() if k in wanted}))
    return _gather(fit, time, groups)


@dataclass(frozen=True, slots=True, eq=False)
class KnownProcesses:
    """Stars that are solved together, and how they vary: a `ProcessGroup` before it is solved.

    Parameters
    ----------
    source : ndarray of int64, shape (n,)
        Index of each star.
    kernels : tuple of ProcessKernel
        How each varies.
    log_bayes_factor : ndarray of float64, shape (n,)
        As in `ProcessGroup`.
    templates : mapping of int to ndarray of float64, shape (n_time,)
        Shapes of the events of some of the stars.
    kernel_err : ndarray of float64, shape (n_time, n)
        As in `ProcessGroup`.
    """

    source: IntArray
    kernels: tuple[ProcessKernel, ...]
    log_bayes_factor: FloatArray
    templates: Mapping[int, FloatArray]
    kernel_err: FloatArray


def solve_light_curves(fit: FluxFit, time: FloatArray, groups: Sequence[KnownProcesses]) -> LightCurves:
    """Solve fluxes as processes with known kernels, as `fit_light_curves` does once it has learned them.

    Parameters
    ----------
    fit : FluxFit
        Fluxes of every cadence with a proper prior.
    time : ndarray of float64, shape (n_time,)
        Times, ascending, day.
    groups : sequence of KnownProcesses
        Stars that are solved together.

    Returns
    -------
    LightCurves
    """
    return _gather(fit, time, [_solve_group(fit, time, one) for one in groups])


def _gather(fit: FluxFit, time: FloatArray, groups: Sequence[ProcessGroup]) -> LightCurves:
    """Return the light curves of all groups, NaN for stars of none."""
    flux, error = (np.full(fit.flux.shape, np.nan) for _ in range(2))
    for group in groups:
        flux[:, group.source] = group.posterior.mean
        error[:, group.source] = np.hypot(group.posterior.std, group.kernel_err)
    return LightCurves(time, flux, error, tuple(groups))


def _solve_group(fit: FluxFit, time: FloatArray, known: KnownProcesses) -> ProcessGroup:
    """Solve one group."""
    source = known.source
    information, columns = flux_information(fit, source), _columns(fit, time, source, known.templates)
    posterior = solve_processes(information, known.kernels, time, columns)
    event_of = np.searchsorted(source, np.array(sorted(known.templates), np.int64))
    return ProcessGroup(
        source, known.kernels, known.log_bayes_factor, information, columns, event_of, posterior, known.kernel_err
    )


def flux_information(fit: FluxFit, sources: IntArray) -> RowInformation:
    """Return what the pixels of each cadence say about the fluxes of some stars, all others integrated out.

    Parameters
    ----------
    fit : FluxFit
        Fluxes of every cadence.
    sources : ndarray of int64, shape (n,)
        The stars.

    Returns
    -------
    RowInformation
        Of the posterior N(mean, C) under the prior N(m, P^-1): J = C^-1 - P, z = C^-1 mean - P m. Its constant makes
        evidences those of all pixels of the fit; NaN where the fit has none.
    """
    rows = np.arange(fit.flux.shape[0])
    mean, covariance = fit.posterior.mean[:, sources], fit.posterior.covariances(rows, sources)
    prior = GaussianPrior(fit.prior.mean[sources], fit.prior.precision[sources])
    precision = np.linalg.inv(covariance)
    precision = 0.5 * (precision + precision.transpose(0, 2, 1))
    pulled = np.einsum("tij,tj->ti", precision, mean)
    log_det = np.linalg.slogdet(precision)[1] - np.sum(np.log(prior.precision))
    squares = np.einsum("ti,ti->t", mean, pulled) - prior.mean**2 @ prior.precision
    return RowInformation(
        precision - np.diag(prior.precision),
        pulled - prior.precision * prior.mean,
        fit.log_evidence + 0.5 * (log_det - squares),
    )


def split_by_correlation(fit: FluxFit, sources: IntArray, max_group: int) -> list[IntArray]:
    """Split stars into groups whose flux errors depend on each other.

    Parameters
    ----------
    fit : FluxFit
        Gives the correlations, at the cadence with the most data.
    sources : ndarray of int64
        Stars.
    max_group : int
        Largest group.

    Returns
    -------
    list of ndarray of int64
        Pairs are joined in the order of their correlation, as long as the group stays small enough.
    """
    from bayesprf.linalg.solvers.blocks import pair_covariance

    row = int(np.argmax((fit.problem.ivar > 0).sum(axis=1)))
    first, second, covariance = pair_covariance(fit.posterior, np.array([row]))
    std = fit.posterior.std[row]
    correlation = np.abs(covariance[0]) / (std[first] * std[second])
    chosen = np.isin(first, sources) & np.isin(second, sources) & (correlation > _LEAST_CORRELATION)
    group_of = {int(one): [int(one)] for one in sources}
    for k in np.argsort(-correlation[chosen], kind="stable"):
        one, other = group_of[int(first[chosen][k])], group_of[int(second[chosen][k])]
        if one is not other and len(one) + len(other) <= max_group:
            one.extend(other)
            group_of.update(dict.fromkeys(other, one))
    return [np.array(sorted(one), np.int64) for one in {id(one): one for one in group_of.values()}.values()]


def _check(fit: FluxFit, time: FloatArray, members: IntArray, templates: Mapping[int, FloatArray]) -> None:
    check_shape(time, (fit.flux.shape[0],), "time", "n_time")
    if not np.all(np.diff(time) > 0):
        raise InputError("time: expected times that ascend, got some that do not; sort the cadences")
    if not np.all(fit.prior.precision[members] > 0):
        raise InputError("fit: expected a prior of finite width, got a flat one; give fit_model a finite prior_sigma")
    for source, shape in templates.items():
        if source not in members:
            raise InputError(f"template: expected stars that are solved as processes, got source {source}")
        check_shape(shape, time.shape, "template", "n_time")


def _fit_group(
    fit: FluxFit,
    time: FloatArray,
    source: IntArray,
    wanted: Mapping[int, ProcessKernel | str],
    templates: Mapping[int, FloatArray],
) -> ProcessGroup:
    """Learn what is to be learned, star by star and then together, and solve."""
    information, columns = flux_information(fit, source), _columns(fit, time, source, templates)
    alone = {int(one): _alone(fit, time, int(one), templates) for one in source}
    kernels: list[ProcessKernel | LearnedKernel] = []
    for one in source.tolist():
        asked = wanted[one]
        kernels.append(learn_kernel(*alone[one], _families(asked)) if isinstance(asked, str) else asked)
    learned = any(isinstance(one, LearnedKernel) for one in kernels)
    if learned and source.size > 1:
        found = learn_together(information, time, columns, tuple(kernels))
    else:
        found = tuple(one.kernel if isinstance(one, LearnedKernel) else one for one in kernels)
    verdicts = [one.log_bayes_factor if isinstance(one, LearnedKernel) else np.nan for one in kernels]
    known = KnownProcesses(source, found, np.array(verdicts), templates, np.zeros((time.size, source.size)))
    for k, one in enumerate(kernels):
        if isinstance(one, LearnedKernel):
            known.kernel_err[:, k] = _kernel_error(fit, time, known, one, k)
    return _solve_group(fit, time, known)


def _kernel_error(fit: FluxFit, time: FloatArray, known: KnownProcesses, learned: LearnedKernel, k: int) -> FloatArray:
    """Return the part of the errors of a group's star k by its learned kernel, shape (n_time,)."""
    near = _nearest(fit, known.source, k)
    source = known.source[near]
    seen, columns = flux_information(fit, source), _columns(fit, time, source, _of(known.templates, source))
    kernels, place = tuple(known.kernels[i] for i in near), int(np.searchsorted(near, k))
    return np.sqrt(kernel_variance(seen, time, columns, learned, kernels, place=place))


def _nearest(fit: FluxFit, source: IntArray, k: int) -> IntArray:
    """Return the places of a star and of those of its group whose flux errors correlate most with its own."""
    row = int(np.argmax((fit.problem.ivar > 0).sum(axis=1)))
    covariance = fit.posterior.covariances(np.array([row]), source)[0]
    correlation = np.abs(covariance[k]) / np.sqrt(np.diag(covariance))
    return np.sort(np.argsort(-correlation, kind="stable")[:_N_NEAREST])


def _of(templates: Mapping[int, FloatArray], source: IntArray) -> dict[int, FloatArray]:
    """Return the templates of some stars."""
    return {one: shape for one, shape in templates.items() if one in source}


def _alone(
    fit: FluxFit, time: FloatArray, source: int, templates: Mapping[int, FloatArray]
) -> tuple[RowInformation, FloatArray, FixedColumns]:
    """Return what `learn_kernel` wants to know of a single star."""
    own = np.array([source])
    return _single(fit, source), time, _columns(fit, time, own, _of(templates, own))


def _families(asked: str) -> tuple[str, ...]:
    return LEARNED_FAMILIES if asked == "learn" else (asked,)


def _columns(fit: FluxFit, time: FloatArray, source: IntArray, templates: Mapping[int, FloatArray]) -> FixedColumns:
    """Return levels under the prior of the fluxes, and events, each as wide about zero as its star's level."""
    n, events = source.size, sorted(templates)
    values = np.zeros((time.size, n, n + len(events)))
    values[:, np.arange(n), np.arange(n)] = 1.0
    precision = fit.prior.precision[source]
    of = np.searchsorted(source, np.array(events, np.int64))
    for k, (event, place) in enumerate(zip(events, of, strict=True)):
        values[:, place, n + k] = -templates[event]
    mean = np.concatenate([fit.prior.mean[source], np.zeros(len(events))])
    return FixedColumns(values, mean, np.diag(np.concatenate([precision, precision[of]])))


def _single(fit: FluxFit, source: int) -> RowInformation:
    """Return what each cadence says about one star, as if its flux alone had been measured."""
    precision, prior = fit.posterior.std[:, source] ** -2.0, fit.prior.precision[source]
    ivar = precision - prior
    told = ivar > 1e-9 * precision
    ivar = np.where(told, ivar, 0.0)
    rhs = np.where(told, precision * fit.posterior.mean[:, source] - prior * fit.prior.mean[source], 0.0)
    safe = np.where(told, ivar, 1.0)
    constant = np.where(told, 0.5 * np.log(safe / (2.0 * np.pi)) - 0.5 * rhs**2 / safe, 0.0)
    return RowInformation(ivar[:, None, None], rhs[:, None], constant)


def _stretch(
    group: ProcessGroup, order: IntArray, new: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[RowInformation, tuple[ProcessKernel, ...]]:
    """Return the information of a group with rows that say nothing where times are new."""
    old = np.where(new, 0, order)
    seen = group.information
    return (
        RowInformation(
            np.where(new[:, None, None], 0.0, seen.matrix[old]),
            np.where(new[:, None], 0.0, seen.rhs[old]),
            np.where(new, 0.0, seen.constant[old]),
        ),
        group.kernels,
    )


def _stretch_columns(
    group: ProcessGroup, order: IntArray, new: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> FixedColumns:
    """Return the columns of a group at more times: levels go on, events are over."""
    n = group.source.size
    values = np.where(new[:, None, None], 0.0, group.columns.values[np.where(new, 0, order)])
    values[np.ix_(new, np.arange(n), np.arange(n))] = np.eye(n)
    return replace(group.columns, values=values)
