"""Draws from the grid, labelled like all others."""

from typing import Any

import numpy as np
import xarray as xr

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.results.posterior import GroupData, posterior_tree
from bayesprf.sampling.collapsed import HyperDraws, HyperGrid
from bayesprf.sampling.prior import draw_prior, log_prior

# Larger groups with one number per draw and pixel are left out: 160 MB.
_MAX_POINTWISE = 20_000_000


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
    free = grid.hyper.free
    values = {"width": draws.width, grid.noise_name: draws.noise, "zero_point": draws.zero_point}
    found: dict[str, FloatArray] = {"flux": draws.flux, **{name: values[name] for name in free}}
    posterior = {name: one.reshape(*shape, *one.shape[1:]) for name, one in found.items()}
    problem = grid.decomposer.problem
    groups: dict[str, dict[str, Any]] = {"posterior": posterior}
    if draws.width.size * problem.data.size <= _MAX_POINTWISE:
        groups |= _pointwise(grid, draws, shape, rng)
        groups["log_prior"] = log_prior(problem, grid.hyper, posterior)
        groups["prior"] = draw_prior(problem, grid.hyper, shape, rng)
    for arrays in groups.values():
        if "flux" in arrays:
            arrays["flux"] = arrays["flux"][..., members]
    if not data.has_time:
        for arrays in groups.values():
            arrays.update({name: arrays[name][:, :, 0] for name in ("flux", "y") if name in arrays})
    marks = {"inference_library": "bayesprf", "sampler": "grid", "log_evidence": grid.log_evidence}
    sentence = f"{draws.width.size} independent draws from a grid; nothing to converge"
    return posterior_tree(groups, data, attrs={**marks, "kind": "collapsed", "convergence": sentence})


def _pointwise(
    grid: HyperGrid, draws: HyperDraws, shape: tuple[int, int], rng: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """Return log likelihood and replicated data."""
    problem = grid.decomposer.problem
    used = problem.ivar > 0
    scale = draws.noise if grid.noise_name == "noise_scale" else np.full(draws.noise.size, grid.hyper.noise_scale)
    jitter = draws.noise if grid.noise_name == "jitter" else np.full(draws.noise.size, grid.hyper.jitter)
    std = scale[:, None, None] * np.sqrt(grid.decomposer.variance + jitter[:, None, None] ** 2)
    predicted = np.stack([problem.predict(one) for one in draws.flux])
    z = (np.where(used, problem.data, 0.0) - predicted) / std
    log = np.where(used, -0.5 * z**2 - np.log(std) - 0.5 * np.log(2.0 * np.pi), np.nan)
    replica = np.where(used, predicted + std * rng.standard_normal(std.shape), np.nan)
    return {
        "log_likelihood": {"y": log.reshape(*shape, *log.shape[1:])},
        "posterior_predictive": {"y": replica.reshape(*shape, *log.shape[1:])},
    }
