"""NUTS on the hyperparameters alone, then exact draws of the coefficients given each of its draws."""

import time
from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.problem import LinearProblem
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.conditional import Conditional, HyperValues
from bayesprf.sampling.convergence import check_convergence
from bayesprf.sampling.exact import draw_groups, label_draws
from bayesprf.sampling.hyper import HYPER_NAMES, Hyperparameters
from bayesprf.sampling.hyper_model import build_collapsed, find_start
from bayesprf.sampling.hyper_variables import Priors
from bayesprf.sampling.run import SamplerOptions, sample_model, sampler_statistics


def sample_collapsed(
    problem: LinearProblem,
    hyper: Hyperparameters,
    data: GroupData,
    members: IntArray,
    options: SamplerOptions | None = None,
    *,
    priors: Priors | None = None,
) -> xr.DataTree:
    """Sample the hyperparameters with NUTS, then draw the coefficients from their exact conditional.

    Parameters
    ----------
    problem : LinearProblem
        With a DesignStack and a proper prior.
    hyper : Hyperparameters
        What is free; any number of them.
    data : GroupData
        Names of the axes of the answer.
    members : ndarray of int64
        Sources of the problem whose fluxes the answer shows.
    options : SamplerOptions, optional
        How to sample.
    priors : mapping of str to callable, optional
        As for `build_linear`.

    Returns
    -------
    xarray.DataTree
        The layout of `bayesprf.results.posterior`. The attribute `convergence` speaks of the hyperparameters; given
        these, the fluxes are independent.

    Warns
    -----
    ConvergenceWarning
        If the draws cannot be trusted.
    """
    options = options or SamplerOptions()
    resolved = hyper.resolve(problem)
    start = time.perf_counter()
    model = build_collapsed(problem, resolved, priors=priors)
    raw = sample_model(model, options, find_start(model))
    sentence = check_convergence(raw).sentence
    shape = (raw["posterior"].sizes["chain"], raw["posterior"].sizes["draw"])
    drawn = {str(name): one.to_numpy() for name, one in raw["posterior"].data_vars.items()}
    drawn = {name: drawn[name].reshape(-1, *drawn[name].shape[2:]) for name in HYPER_NAMES if name in drawn}
    rng = np.random.default_rng(options.random_seed)
    flux = draw_coefficients(Conditional.of(problem, resolved), drawn, rng)
    seconds = time.perf_counter() - start
    groups = draw_groups(problem, resolved, {"flux": flux, **drawn}, shape, rng=rng)
    groups["sample_stats"] = sampler_statistics(raw)
    marks = {
        "inference_library": options.chosen_sampler, "sampler": "NUTS, coefficients integrated out",
        "sampling_time": seconds, "tuning_steps": options.tune, "kind": "collapsed", "convergence": sentence,
    }  # fmt: skip
    return label_draws(groups, data, members, attrs=marks)


def draw_coefficients(
    conditional: Conditional, draws: Mapping[str, FloatArray], rng: np.random.Generator
) -> FloatArray:
    """Draw the coefficients given each draw of the hyperparameters.

    Parameters
    ----------
    conditional : Conditional
        The problem, with the numbers of all that is fixed.
    draws : mapping of str to ndarray of float64
        Draws of what is not fixed, shape (n_draw,), or (n_draw, n_width) for several widths.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float64, shape (n_draw, n_batch, n_coeff)
    """
    n_draw = len(next(iter(draws.values())))
    n_width = int(conditional.group.max()) + 1
    columns = []
    for name in HYPER_NAMES:
        given = draws[name] if name in draws else np.full(n_draw, getattr(conditional.hyper, name))
        column = np.asarray(given, np.float64).reshape(n_draw, -1)
        columns.append(np.broadcast_to(column, (n_draw, n_width)) if name == "width" else column)
    return np.stack([conditional.draw(HyperValues.split(one), rng) for one in np.hstack(columns)])
