"""The exact posterior of a group of sources as a DataTree in ArviZ's layout."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesprf.arrays import FloatArray, IntArray, NamedDict, shape_of
from bayesprf.checks import check_types
from bayesprf.errors import InputError
from bayesprf.fit_record import Fit
from bayesprf.linalg.loo import leave_one_out
from bayesprf.linalg.problem import GaussianPosterior
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.photometry.groups import SourceGroup
from bayesprf.results.posterior import GroupData, posterior_tree
from bayesprf.uncertainty.draws import draw_fluxes, log_likelihood, predict_draws, prior_log_density
from bayesprf.uncertainty.questions import select_group

N_CHAIN = 4
"""Format: independent draws come as four chains, so that diagnostics of chains have something to compare."""


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """How many draws, and how much of what belongs to them.

    Parameters
    ----------
    draws : int
        Number of draws in all; a multiple of four.
    max_pointwise : int
        Groups with one number per draw and pixel (`log_likelihood`, `posterior_predictive`) and those that only
        make sense beside them (`prior`, `log_prior`) are left out if draws x cadences x pixels exceeds this; exact
        leave-one-out densities if cadences x pixels does.

    Raises
    ------
    InputError
        If `draws` is not a positive multiple of four.
    """

    draws: int = 1000
    max_pointwise: int = 4_000_000

    def __post_init__(self) -> None:
        check_types(self)
        if self.draws < N_CHAIN or self.draws % N_CHAIN:
            raise InputError(f"draws: expected a multiple of {N_CHAIN}, one share per chain, got {self.draws}")


def draw_posterior(
    fit: Fit, sources: object, cadences: object, options: DrawOptions, rng: np.random.Generator
) -> xr.DataTree:
    """Draw the fluxes of some sources at some cadences from their exact joint posterior: see `Machine.posterior`."""
    group, members = select_group(fit, sources, cadences)
    time: FloatArray | float = fit.pixels.time[group.cadence]
    if cadences is not None and shape_of(cadences) == ():
        time = float(fit.pixels.time[group.cadence[0]])
    places = np.stack([fit.pixels.row[group.pixel], fit.pixels.column[group.pixel]], axis=1)
    data = group_data(group, members, fit.coefficient_names, time, places=places)
    return exact_tree(group, data, members, rng, options=options)


def group_data(
    group: SourceGroup, members: IntArray, names: tuple[str, ...], time: FloatArray | float, *, places: FloatArray
) -> GroupData:
    """Return what was observed of a group, for the tree.

    Parameters
    ----------
    group : SourceGroup
        The group.
    members : ndarray of int64
        Sources of the group (places in it) whose fluxes the tree shows.
    names : tuple of str
        Names of all sources of the catalogue.
    time : ndarray of float64, shape (n_time,), or float
        Times of the group's cadences, day; one number leaves the axis of time away.
    places : ndarray of float64, shape (n_pixel, 2)
        Row and column of each pixel of the group.

    Returns
    -------
    GroupData
    """
    problem = group.problem
    used = problem.ivar > 0
    with np.errstate(divide="ignore"):
        error, width = problem.noise_ivar**-0.5, problem.prior.precision[members] ** -0.5
    y = np.where(used, problem.data, np.nan)
    shape = (*np.shape(time), group.pixel.size)
    return GroupData(
        y=y.reshape(shape),
        y_err=error.reshape(shape),
        known=problem.known,
        prior_mean=problem.prior.mean[members],
        prior_sigma=width,
        source=[names[one] for one in group.source[members]],
        time=time,
        pixel=group.pixel,
        row=places[:, 0],
        column=places[:, 1],
        overlapping=[names[one] for one in np.delete(group.source, members)],
    )


def exact_tree(
    group: SourceGroup, data: GroupData, members: IntArray, rng: np.random.Generator, *, options: DrawOptions
) -> xr.DataTree:
    """Draw from the exact posterior of some sources of a group, and label what comes.

    Parameters
    ----------
    group : SourceGroup
        The group.
    data : GroupData
        What was observed, as `group_data` gives it.
    members : ndarray of int64, shape (n_source,)
        Sources of the group whose fluxes are given.
    rng : numpy.random.Generator
        Source of randomness.
    options : DrawOptions
        How much.

    Returns
    -------
    xarray.DataTree
        Layout of `posterior_tree`.
    """
    problem = group.problem
    posterior = choose_solver(problem).solve(problem)
    pointwise = options.draws * problem.data.size <= options.max_pointwise
    others = np.delete(np.arange(group.source.size), members) if pointwise else np.empty(0, np.int64)
    drawn = np.concatenate([members, others]).astype(np.int64)
    draws = draw_fluxes(posterior, drawn, options.draws, rng, n_scored=members.size)
    flux = draws.flux[:, :, : members.size]
    groups: dict[str, NamedDict] = {
        "posterior": {"flux": flux},
        "sample_stats": {"lp": draws.log_density},
    }
    if pointwise:
        groups |= _pointwise(group, members, draws.flux[:, :, np.argsort(drawn)], rng)
    one_cadence = not data.has_time
    chains = {
        name: {key: _in_chains(values, one_cadence=one_cadence) for key, values in arrays.items()}
        for name, arrays in groups.items()
    }
    exact = _gaussian(group, posterior, members, loo=problem.data.size <= options.max_pointwise)
    chains["gaussian"] = {key: values[0] if one_cadence else values for key, values in exact.items()}
    return posterior_tree(chains, data, attrs={"inference_library": "bayesprf", "sampler": "exact Gaussian draws"})


def _pointwise(group: SourceGroup, members: IntArray, flux: FloatArray, rng: np.random.Generator) -> NamedDict:
    """Return the groups with one number per draw and pixel, and the prior; `flux` is that of the whole group."""
    predicted = predict_draws(group, flux)
    found: NamedDict = {"log_likelihood": {"y": log_likelihood(group, predicted)}}
    with np.errstate(divide="ignore"):
        error = np.where(group.problem.ivar > 0, group.problem.noise_ivar**-0.5, 0.0)
    predicted += error * rng.standard_normal(predicted.shape)
    found["posterior_predictive"] = {"y": predicted}
    prior, shown = group.problem.prior, flux[:, :, members]
    if prior.is_proper:
        width = prior.precision[members] ** -0.5
        found["log_prior"] = {"flux": prior_log_density(group, members, shown)}
        found["prior"] = {"flux": prior.mean[members] + width * rng.standard_normal(shown.shape)}
    return found


def _gaussian(group: SourceGroup, posterior: GaussianPosterior, members: IntArray, *, loo: bool) -> NamedDict:
    """Return what is exact: moments, evidence and leave-one-out densities."""
    exact = {
        "flux_mean": posterior.mean[:, members],
        "flux_sd": posterior.std[:, members],
        "flux_cov": posterior.covariances(np.arange(posterior.mean.shape[0]), members),
        "log_evidence": posterior.log_evidence,
    }
    if loo:
        out = leave_one_out(group.problem, posterior)
        used = group.problem.ivar > 0
        exact |= {
            "leverage": np.where(used, out.leverage, np.nan),
            "elpd_loo": np.where(used, out.log_density, np.nan),
        }
    return exact


def _in_chains(values: FloatArray, *, one_cadence: bool) -> FloatArray:
    """Split the draws into chains, and drop the axis of time if asked."""
    values = values[:, 0] if one_cadence and values.ndim > 1 else values
    return values.reshape(N_CHAIN, -1, *values.shape[1:])
