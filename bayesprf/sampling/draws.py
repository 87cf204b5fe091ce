"""Labelled draws of the linear model that need no sampler, and draws from its prior."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayesprf.arrays import FloatArray, IntArray, Named, NamedDict
from bayesprf.linalg.hyperparameters import Hyperparameters
from bayesprf.linalg.problem import LinearProblem
from bayesprf.results.posterior import GroupData, posterior_tree
from bayesprf.sampling.grid import HyperGrid
from bayesprf.sampling.hyper import Hyperprior


def draw_prior(
    problem: LinearProblem, hyper: Hyperparameters, shape: tuple[int, int], rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Draw hyperparameters and fluxes from their prior.

    Parameters
    ----------
    problem : LinearProblem
        Gives the prior of the fluxes.
    hyper : Hyperparameters
        Resolved.
    shape : tuple of int
        Chains and draws per chain.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    dict of str to ndarray of float64
        `flux`, shape (*shape, n_batch, n_coeff), and every free hyperparameter, of that shape.
    """
    n_draw = shape[0] * shape[1]
    groups = hyper.groups(problem.design.n_coeff)
    drawn = {name: prior.draw(n_draw, rng) for name, prior in hyper.free.items()}
    if "width" in drawn and hyper.has_groups:
        further = [hyper.free["width"].draw(n_draw, rng) for _ in range(groups.max())]
        drawn["width"] = np.stack([drawn["width"], *further], axis=1)
    width = drawn.get("width", np.full(n_draw, hyper.width)).reshape(n_draw, -1)
    width = width[:, None, groups if width.shape[1] > 1 else [0]]
    zero = drawn.get("zero_point", np.full(n_draw, hyper.zero_point))[:, None, None]
    prior = problem.prior
    white = rng.standard_normal((n_draw, problem.n_batch, prior.mean.size))
    flux = zero * prior.mean + width * prior.precision**-0.5 * white
    answer = {"flux": flux, **drawn}
    return {name: one.astype(np.float64).reshape(*shape, *one.shape[1:]) for name, one in answer.items()}


def log_prior(problem: LinearProblem, hyper: Hyperparameters, draws: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the log prior density of draws.

    Parameters
    ----------
    problem : LinearProblem
        Gives the prior of the fluxes.
    hyper : Hyperparameters
        Resolved.
    draws : mapping of str to ndarray of float64
        `flux`, shape (n_chain, n_draw, n_batch, n_coeff), and the free hyperparameters, shape (n_chain, n_draw).

    Returns
    -------
    dict of str to ndarray of float64
        As `draws`; that of `flux` given the hyperparameters.
    """
    found = {name: prior.log_density(draws[name]) for name, prior in hyper.free.items()}
    width = _of(draws, "width", hyper.width)
    if "width" in hyper.free and hyper.has_groups:
        width = np.asarray(draws["width"])[:, :, None, hyper.groups(problem.design.n_coeff)]
    mean, sigma = problem.prior.mean, width * problem.prior.precision**-0.5
    z = (draws["flux"] - _of(draws, "zero_point", hyper.zero_point) * mean) / sigma
    return {"flux": -0.5 * z**2 - np.log(sigma) - 0.5 * np.log(2.0 * np.pi), **found}


def _of(draws: Mapping[str, FloatArray], name: str, value: float | Hyperprior) -> FloatArray:
    return np.asarray(draws[name])[..., None, None] if isinstance(value, Hyperprior) else np.asarray(value)


# Cost: larger groups with one number per draw and pixel are left out: 160 MB.
MAX_POINTWISE = 20_000_000


def grid_tree(
    grid: HyperGrid, data: GroupData, members: IntArray, shape: tuple[int, int], *, rng: np.random.Generator
) -> xr.DataTree:
    """Draw from a grid, and label the draws.

    Parameters
    ----------
    grid : HyperGrid
        Posterior of the hyperparameters.
    data : GroupData
        Names of the axes of the answer.
    members : ndarray of int64
        Sources of the problem whose fluxes the answer shows.
    shape : tuple of int
        Chains and draws per chain; all draws are independent.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    xarray.DataTree
        Layout of `bayesprf.results.posterior`; the attribute `log_evidence` is log p(y), all else integrated out.
    """
    draws = grid.draw(shape[0] * shape[1], rng)
    values = {"width": draws.width, grid.noise_name: draws.noise, "zero_point": draws.zero_point}
    found = {"flux": draws.flux, **{name: values[name] for name in grid.hyper.free}}
    groups = draw_groups(grid.decomposer.problem, grid.hyper, found, shape, rng=rng)
    marks = {"inference_library": "bayesprf", "sampler": "grid", "log_evidence": grid.log_evidence}
    sentence = f"{draws.width.size} independent draws from a grid; nothing to converge"
    return label_draws(groups, data, members, attrs={**marks, "kind": "collapsed", "convergence": sentence})


def draw_groups(
    problem: LinearProblem,
    hyper: Hyperparameters,
    draws: Mapping[str, FloatArray],
    shape: tuple[int, int],
    *,
    rng: np.random.Generator,
) -> dict[str, NamedDict]:
    """Return draws of the linear model and what follows from them, by group.

    Parameters
    ----------
    problem : LinearProblem
        Data and prior.
    hyper : Hyperparameters
        Resolved.
    draws : mapping of str to ndarray of float64
        `flux`, shape (n_draw, n_batch, n_coeff), and the hyperparameters that are not fixed, shape (n_draw,).
    shape : tuple of int
        Chains and draws per chain, whose product is n_draw.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    dict of str to dict of str to ndarray
        `posterior`; for groups that are not too large, `log_likelihood`, `posterior_predictive`, and, where every
        hyperparameter has a Hyperprior, `log_prior` and `prior`.
    """
    posterior = {name: one.reshape(*shape, *one.shape[1:]) for name, one in draws.items()}
    groups: dict[str, NamedDict] = {"posterior": posterior}
    if shape[0] * shape[1] * problem.data.size <= MAX_POINTWISE:
        groups |= _pointwise(problem, hyper, draws, shape, rng=rng)
        if set(draws) == {"flux", *hyper.free}:
            groups["log_prior"] = log_prior(problem, hyper, posterior)
            groups["prior"] = draw_prior(problem, hyper, shape, rng)
    return groups


def label_draws(groups: dict[str, NamedDict], data: GroupData, members: IntArray, *, attrs: Named) -> xr.DataTree:
    """Label the groups of `draw_groups`.

    Parameters
    ----------
    groups : dict of str to dict of str to ndarray
        With an axis of time; changed in place.
    data : GroupData
        Names of the axes of the answer.
    members : ndarray of int64
        Sources of the problem whose fluxes the answer shows.
    attrs : mapping of str to str or number
        Attributes.

    Returns
    -------
    xarray.DataTree
    """
    for arrays in groups.values():
        if "flux" in arrays:
            arrays["flux"] = arrays["flux"][..., members]
        if not data.has_time:
            arrays.update({name: arrays[name][:, :, 0] for name in ("flux", "y") if name in arrays})
    width = groups["posterior"].get("width", np.zeros((1, 1)))
    if width.ndim < 3:
        return posterior_tree(groups, data, attrs=attrs)
    names = {"width_group": np.arange(width.shape[-1])}
    return posterior_tree(groups, data, dims={"width": ["width_group"]}, coords=names, attrs=attrs)


def _pointwise(
    problem: LinearProblem,
    hyper: Hyperparameters,
    draws: Mapping[str, FloatArray],
    shape: tuple[int, int],
    *,
    rng: np.random.Generator,
) -> dict[str, NamedDict]:
    """Return log likelihood and replicated data."""
    used = problem.ivar > 0
    variance = np.where(used, 1.0 / np.where(used, problem.ivar, 1.0), 1.0)
    scale, jitter = (
        np.reshape(draws.get(name, getattr(hyper, name)), (-1, 1, 1)) for name in ("noise_scale", "jitter")
    )
    predicted = np.stack([problem.predict(one) for one in draws["flux"]])
    std = np.broadcast_to(scale * np.sqrt(variance + jitter**2), predicted.shape)
    z = (np.where(used, problem.data, 0.0) - predicted) / std
    log = np.where(used, -0.5 * z**2 - np.log(std) - 0.5 * np.log(2.0 * np.pi), np.nan)
    replica = np.where(used, predicted + std * rng.standard_normal(std.shape), np.nan)
    return {
        "log_likelihood": {"y": log.reshape(*shape, *log.shape[1:])},
        "posterior_predictive": {"y": replica.reshape(*shape, *log.shape[1:])},
    }
