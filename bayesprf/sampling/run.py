"""Run a sampler on a PyMC model, check it, and label its draws like exact ones."""

import importlib.util
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pymc as pm
import xarray as xr

from bayesprf.arrays import AnyArray, FloatArray, IntArray, Named, NamedDict
from bayesprf.checks import check_choice, check_integer
from bayesprf.errors import ConvergenceWarning, InputError, MissingDependencyError, warn
from bayesprf.results.posterior import GroupData, posterior_tree
from bayesprf.sampling.draws import MAX_POINTWISE

# Vehtari et al. (2021): R-hat below 1.01, and 100 effective draws per chain.
MAX_R_HAT, MIN_ESS_PER_CHAIN = 1.01, 100.0
# Betancourt (2016): the energy's steps against its spread, below which a sampler does not reach the tails.
MIN_BFMI = 0.3
# Definition: share of transitions that may stop because their path had the greatest length allowed.
MAX_LONGEST = 0.01
# Names of these statistics: PyMC's, and nutpie's.
_DIVERGING = ("diverging",)
_LONGEST = ("reached_max_treedepth", "maxdepth_reached")


@dataclass(frozen=True, slots=True)
class Convergence:
    """What the diagnostics say.

    Parameters
    ----------
    n_chain, n_draw : int
        Number of chains, and of draws in each.
    n_divergent : int
        Transitions that diverged.
    r_hat : float
        Largest R-hat; NaN for one chain of constant draws.
    ess_bulk, ess_tail : float
        Smallest effective sample sizes.
    worst : str
        Name of the variable with the smallest `ess_bulk`.
    n_longest : int
        Transitions that stopped because their path had the greatest length allowed.
    bfmi : float
        Smallest energy Bayesian fraction of missing information (E-BFMI) of the chains; NaN without energies.
    problems : tuple of str
        One sentence each, empty if there is none.
    """

    n_chain: int
    n_draw: int
    n_divergent: int
    r_hat: float
    ess_bulk: float
    ess_tail: float
    worst: str
    n_longest: int
    bfmi: float
    problems: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        found = (
            f"{self.n_chain} chains of {self.n_draw} draws: {self.n_divergent} divergences, R-hat at most"
            f" {self.r_hat:.4f}, at least {self.ess_bulk:.0f} (bulk) and {self.ess_tail:.0f} (tail) effective draws"
        )
        found += "" if np.isnan(self.bfmi) else f", {self.n_longest} paths cut short, E-BFMI at least {self.bfmi:.2f}"
        return found + ("; no problem found" if not self.problems else "; " + "; ".join(self.problems))


def check_convergence(tree: xr.DataTree) -> Convergence:
    """Check the draws of a sampler; exact draws pass by construction.

    Parameters
    ----------
    tree : xarray.DataTree
        With a group `posterior`, and `sample_stats` if there may be divergences.

    Returns
    -------
    Convergence

    Warns
    -----
    ConvergenceWarning
        If a diagnostic is out of bounds, saying which, and what to do.
    """
    import arviz as az

    posterior = tree["posterior"].to_dataset()
    n_chain, n_draw = posterior.sizes["chain"], posterior.sizes["draw"]
    varying = posterior[[name for name in posterior.data_vars if _varies(posterior[name])]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        bulk, tail = az.ess(varying, method="bulk"), az.ess(varying, method="tail")
        r_hat = _extreme(az.rhat(varying), np.nanmax)[1] if n_chain > 1 else np.nan
    worst, ess_bulk = _extreme(bulk, np.nanmin)
    ess_tail = _extreme(tail, np.nanmin)[1]
    stats = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else xr.Dataset()
    counts = [sum(int(stats[name].sum()) for name in names if name in stats) for names in (_DIVERGING, _LONGEST)]
    found = Convergence(
        n_chain, n_draw, counts[0], r_hat, ess_bulk, ess_tail, worst, counts[1],
        _smallest_bfmi(np.asarray(stats["energy"])) if "energy" in stats else np.nan, (),
    )  # fmt: skip
    answer = replace(found, problems=_problems(found))
    if answer.problems:
        warn(answer.sentence, ConvergenceWarning)
    return answer


def _smallest_bfmi(energy: FloatArray) -> float:
    """Return the smallest E-BFMI of the chains, energies (n_chain, n_draw)."""
    if energy.shape[1] < 2 or not np.all(np.var(energy, axis=1) > 0):
        return np.nan
    return float(np.min(np.mean(np.diff(energy, axis=1) ** 2, axis=1) / np.var(energy, axis=1)))


def _problems(found: Convergence) -> tuple[str, ...]:
    sentences = []
    if found.n_divergent:
        sentences.append(
            f"{found.n_divergent} transitions diverged: parts of the posterior may be missing; use form='adaptive',"
            " narrower hyperpriors or target_accept=0.95"
        )
    if found.r_hat > MAX_R_HAT:
        sentences.append(
            f"the chains disagree (R-hat {found.r_hat:.3f} > {MAX_R_HAT}): take more tuning steps and draws"
        )
    if min(found.ess_bulk, found.ess_tail) < MIN_ESS_PER_CHAIN * found.n_chain:
        sentences.append(
            f"{found.worst} has {found.ess_bulk:.0f} (bulk) and the tails {found.ess_tail:.0f} effective draws, less"
            f" than {MIN_ESS_PER_CHAIN * found.n_chain:.0f}: take more draws"
        )
    if found.n_longest > MAX_LONGEST * found.n_chain * found.n_draw:
        sentences.append(
            f"{found.n_longest} paths reached the greatest length: the draws are slow, not wrong; take more tuning"
            " steps, or use form='adaptive'"
        )
    if found.bfmi < MIN_BFMI:
        sentences.append(
            f"E-BFMI {found.bfmi:.2f} < {MIN_BFMI}: the tails are hardly reached; narrow the hyperpriors or fix one"
        )
    return tuple(sentences)


def _varies(array: xr.DataArray) -> bool:
    return array.dtype.kind == "f" and bool(np.ptp(np.asarray(array)) > 0)


def _extreme(values: xr.Dataset, choose: object) -> tuple[str, float]:
    """Return the variable with the most extreme value, and the value."""
    found = {str(name): float(choose(values[name])) for name in values.data_vars}  # type: ignore[operator]
    if not found:
        return "", np.nan
    name = max(found, key=found.__getitem__) if choose is np.nanmax else min(found, key=found.__getitem__)
    return name, found[name]


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
            check_integer(getattr(self, name), name, low=1)
        if self.random_seed is not None:
            check_integer(self.random_seed, "random_seed", low=0)
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


def sample_model(model: pm.Model, options: SamplerOptions, start: Mapping[str, object] | None = None) -> xr.DataTree:
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
    """Sample any model, check the draws, and draw from its prior.

    Parameters
    ----------
    model : pymc.Model
        Any model.
    options : SamplerOptions
        How.

    Returns
    -------
    xarray.DataTree
        What PyMC returns, with the group `prior` and the attribute `convergence`.

    Warns
    -----
    ConvergenceWarning
        If the draws cannot be trusted.
    """
    raw = sample_model(model, options)
    raw.attrs["convergence"] = check_convergence(raw).sentence
    names = [str(name) for name in raw["posterior"].data_vars]
    raw["prior"] = xr.DataTree(_draw_prior(model, names, options)["prior"].to_dataset())
    return raw


def sample_posterior(
    model: pm.Model,
    data: GroupData,
    options: SamplerOptions | None = None,
    *,
    members: IntArray | None = None,
    attrs: Named | None = None,
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
    kept = [str(name) for name in posterior.data_vars]
    convergence = check_convergence(raw)
    prior = _draw_prior(model, kept, options, data)
    drawn = {"posterior": posterior, "prior": prior["prior"].to_dataset()}
    shown = {name: one if members is None else one.isel(source=members) for name, one in drawn.items()}
    groups: dict[str, NamedDict] = {name: {key: one[key].to_numpy() for key in kept} for name, one in shown.items()}
    groups |= {"sample_stats": sampler_statistics(raw), **_pointwise(model, raw, data, options)}
    if "prior_predictive" in prior.children:
        groups["prior_predictive"] = {"y": _spread(prior["prior_predictive"].to_dataset()["y"], data)}
    dims = {name: [str(dim) for dim in posterior[name].dims[2:]] for name in kept if name != "flux"}
    named = {dim for one in dims.values() for dim in one} & set(posterior.coords) - {"source", "time", "pixel"}
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


def sampler_statistics(raw: xr.DataTree) -> dict[str, AnyArray]:
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


def _draw_prior(
    model: pm.Model, names: Sequence[str], options: SamplerOptions, data: GroupData | None = None
) -> xr.DataTree:
    """Return as many draws from the prior as from the posterior, with data unless they are too many."""
    n_draw = options.chains * options.draws
    many = data is None or not model.observed_RVs or data.y.size * n_draw > MAX_POINTWISE
    with _silent():
        found = pm.sample_prior_predictive(
            n_draw, model, var_names=[*names, *([] if many else ["y"])], random_seed=options.random_seed,
            compile_kwargs={"mode": "FAST_COMPILE"},
        )  # fmt: skip
    return found.map_over_datasets(lambda group: _in_chains(group, options) if "draw" in group.sizes else group)


def _in_chains(draws: xr.Dataset, options: SamplerOptions) -> xr.Dataset:
    """Return draws of one chain as those of several."""
    split = {
        name: (one.dims, one.to_numpy().reshape(options.chains, options.draws, *one.shape[2:]))
        for name, one in draws.items()
    }
    axes = {name: one for name, one in draws.coords.items() if name not in ("chain", "draw")}
    return xr.Dataset(split, {"chain": np.arange(options.chains), "draw": np.arange(options.draws), **axes})


def _pointwise(model: pm.Model, raw: xr.DataTree, data: GroupData, options: SamplerOptions) -> NamedDict:
    """Return log likelihood and replicated data of every pixel, unless there is no pixel or they are too many."""
    if not model.observed_RVs or data.y.size * options.draws * options.chains > MAX_POINTWISE:
        return {}
    with model, _silent():
        likelihood = pm.compute_log_likelihood(raw, extend_inferencedata=False, progressbar=False, var_names=["y"])
        replica = pm.sample_posterior_predictive(
            raw, var_names=["y"], random_seed=options.random_seed, progressbar=False, extend_inferencedata=False
        )
    return {
        "log_likelihood": {"y": _spread(likelihood["y"], data)},
        "posterior_predictive": {"y": _spread(replica["posterior_predictive"].to_dataset()["y"], data)},
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
