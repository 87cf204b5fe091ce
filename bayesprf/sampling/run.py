"""Run a sampler on a PyMC model, check it, and label its draws like exact ones."""

import importlib.util
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_choice
from bayesprf.errors import InputError, MissingDependencyError
from bayesprf.results.posterior import GroupData, posterior_tree
from bayesprf.sampling.convergence import check_convergence

SAMPLERS = ("nutpie", "pymc")

# Names of the sampler statistics that both samplers have, as PyMC calls them.
_STATISTICS = {
    "logp": "lp",
    "lp": "lp",
    "depth": "tree_depth",
    "tree_depth": "tree_depth",
    "maxdepth_reached": "reached_max_treedepth",
    "reached_max_treedepth": "reached_max_treedepth",
    "mean_tree_accept": "acceptance_rate",
    "acceptance_rate": "acceptance_rate",
    **{name: name for name in ("diverging", "energy", "n_steps", "step_size")},
}
# Coordinates of the sampler that mean nothing outside it.
_INTERNAL = ("xi", "log_noise")
# How PyTensor warns that it calls the package's solver from Python, which is meant.
OBJECT_MODE = "Numba will use object mode"
# Larger groups of log likelihoods or replicated data are left out unless asked for: 160 MB.
_MAX_POINTWISE = 20_000_000


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """How to sample.

    Parameters
    ----------
    draws, tune, chains : int
        Draws kept and tuning steps per chain, and chains.
    cores : int, optional
        Chains run at the same time; the sampler's choice by default.
    sampler : {"nutpie", "pymc"}, optional
        nutpie where it is installed, else PyMC's NUTS.
    target_accept : float
        Acceptance rate that sets the step size.
    random_seed : int, optional
        The same seed gives the same draws; by default a new one.
    quiet : bool
        No progress bar.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int | None = None
    sampler: str | None = None
    target_accept: float = 0.8
    random_seed: int | None = None
    quiet: bool = True

    def __post_init__(self) -> None:
        for name in ("draws", "tune", "chains"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if not 0 < self.target_accept < 1:
            raise InputError(f"target_accept: expected a number between 0 and 1, got {self.target_accept}")
        check_choice(self.sampler, (None, *SAMPLERS), "sampler")

    @property
    def chosen_sampler(self) -> str:
        """The sampler that runs: the one asked for, or nutpie where installed."""
        installed = importlib.util.find_spec("nutpie") is not None
        if self.sampler == "nutpie" and not installed:
            raise MissingDependencyError("sampler: nutpie is not installed; run pip install nutpie, or use 'pymc'")
        return self.sampler or ("nutpie" if installed else "pymc")


def sample_model(model: pm.Model, options: SamplerOptions, start: Mapping[str, Any] | None = None) -> xr.DataTree:
    """Sample a model; what PyMC returns, unchecked.

    Parameters
    ----------
    model : pymc.Model
        Any model.
    options : SamplerOptions
        How.
    start : mapping of str to ndarray, optional
        Where the chains start, give or take.

    Returns
    -------
    xarray.DataTree
    """
    with model, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", OBJECT_MODE, UserWarning)
        return pm.sample(
            draws=options.draws,
            tune=options.tune,
            chains=options.chains,
            cores=options.cores,
            random_seed=options.random_seed,
            nuts_sampler=options.chosen_sampler,
            target_accept=options.target_accept,
            progressbar=not options.quiet,
            quiet=options.quiet,
            compute_convergence_checks=False,
            initvals=None if start is None else dict(start),
        )


def sample_checked(model: pm.Model, options: SamplerOptions) -> xr.DataTree:
    """Sample any model, check the draws, and leave the sampler's own coordinates out.

    Parameters
    ----------
    model : pymc.Model
        Any model.
    options : SamplerOptions
        How.

    Returns
    -------
    xarray.DataTree
        What PyMC returns, with the attribute `convergence`.

    Warns
    -----
    ConvergenceWarning
        If the draws cannot be trusted.
    """
    raw = sample_model(model, options)
    posterior = raw["posterior"].to_dataset().drop_vars(_INTERNAL, errors="ignore")
    raw["posterior"] = xr.DataTree(posterior)
    raw.attrs["convergence"] = check_convergence(raw).sentence
    return raw


def sample_posterior(
    model: pm.Model,
    data: GroupData,
    options: SamplerOptions | None = None,
    *,
    members: IntArray | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Sample a model of `build_linear` or `build_joint`, check the draws, and label them like exact ones.

    Parameters
    ----------
    model : pymc.Model
        With variables `flux` and `y`.
    data : GroupData
        Names of the axes of the answer.
    options : SamplerOptions, optional
        How to sample.
    members : ndarray of int64, optional
        Sources of the model whose fluxes the answer shows, those of `data`; all by default.
    attrs : mapping of str to str or number, optional
        Attributes to add.

    Returns
    -------
    xarray.DataTree
        The layout of `bayesprf.results.posterior`, with the free hyperparameters beside `flux`. The attribute
        `convergence` says in words what the diagnostics found.

    Warns
    -----
    ConvergenceWarning
        If the draws cannot be trusted.
    """
    options = options or SamplerOptions()
    start = time.perf_counter()
    raw = sample_model(model, options)
    seconds = time.perf_counter() - start
    posterior = raw["posterior"].to_dataset()
    kept = [str(name) for name in posterior.data_vars if name not in _INTERNAL]
    convergence = check_convergence(raw, names=kept)
    shown = posterior if members is None else posterior.isel(source=members)
    draws = {name: shown[name].to_numpy() for name in kept}
    groups = {"posterior": draws, "sample_stats": sampler_statistics(raw), **_pointwise(model, raw, data, options)}
    dims = {name: posterior[name].dims[2:] for name in kept if name != "flux"}
    named = {str(dim) for one in dims.values() for dim in one} & set(posterior.coords) - {"source", "time", "pixel"}
    marks = {
        "inference_library": options.chosen_sampler,
        "sampler": "NUTS",
        "sampling_time": seconds,
        "tuning_steps": options.tune,
        "convergence": convergence.sentence,
        **(attrs or {}),
    }
    return posterior_tree(
        groups, data, dims=dims, coords={dim: posterior[dim].to_numpy() for dim in sorted(named)}, attrs=marks
    )


def sampler_statistics(raw: xr.DataTree) -> dict[str, np.ndarray[Any, Any]]:
    """Return the statistics that both samplers have, by PyMC's names.

    Parameters
    ----------
    raw : xarray.DataTree
        What `sample_model` returns.

    Returns
    -------
    dict of str to ndarray
    """
    stats = raw["sample_stats"].to_dataset()
    return {_STATISTICS[str(name)]: stats[name].to_numpy() for name in stats.data_vars if name in _STATISTICS}


def _pointwise(model: pm.Model, raw: xr.DataTree, data: GroupData, options: SamplerOptions) -> dict[str, Any]:
    """Return log likelihood and replicated data of every pixel, unless there is no pixel or they are too many."""
    if not model.observed_RVs or data.y.size * options.draws * options.chains > _MAX_POINTWISE:
        return {}
    with model, _silent():
        likelihood = pm.compute_log_likelihood(raw, extend_inferencedata=False, progressbar=False, var_names=["y"])
        replica = pm.sample_posterior_predictive(
            raw, var_names=["y"], random_seed=options.random_seed, progressbar=False, extend_inferencedata=False
        )
    return {
        "log_likelihood": {"y": _spread(likelihood["y"], data)},
        "posterior_predictive": {"y": _spread(replica["posterior_predictive"]["y"], data)},
    }


def _spread(found: xr.DataArray, data: GroupData) -> FloatArray:
    """Return values of the data that exist in the shape of all data, (time, pixel), NaN elsewhere."""
    if data.used.all():
        return found.transpose("chain", "draw", ..., "pixel").to_numpy()
    values = found.to_numpy()
    full = np.full((*values.shape[:2], *data.used.shape), np.nan)
    full[:, :, data.used] = values
    return full


@contextmanager
def _silent() -> Iterator[None]:
    """Keep PyMC from announcing what it draws, and from warning of potentials, which these draws do not depend on."""
    logger = logging.getLogger("pymc")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
