"""Simulation-based calibration of samplers: truths drawn from the prior, ranked among the draws of grid and NUTS."""

import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import MissingDependencyError
from bayesprf.linalg.hyperparameters import Hyperparameters
from bayesprf.linalg.problem import LinearProblem
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.grid import integrate_grid
from bayesprf.sampling.hyper import Hyperprior
from bayesprf.sampling.linear import build_linear

N_RANKED = 99
"""Draws among which a truth is ranked."""

_TUNE, _THIN = 500, 10


@dataclass(frozen=True, slots=True, eq=False)
class SamplerTrials:
    """Where the truths lie among the draws of two samplers given the same data (Talts et al. 2018).

    Parameters
    ----------
    names : tuple of str
        What is ranked: "width", "jitter", "flux 1" ... (of the first cadence), and "log likelihood", which depends on
        all parameters and on the data (Modrak et al. 2023).
    rank : dict of str to ndarray of float64, shape (n_trial, n_name)
        By sampler, "grid" and "NUTS": (rank of the truth among 99 draws + a uniform number) / 100, uniform if the
        posterior is right.
    correlation : float
        Of one of the 99 draws of NUTS with the next, mean over the trials, of the quantity with the largest: near 0 if
        they are independent, as ranks ask for.
    n_divergent : int
        Transitions of NUTS that diverged, in all trials together.
    """

    names: tuple[str, ...]
    rank: dict[str, FloatArray]
    correlation: float
    n_divergent: int


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """Truth or draws: width and jitter (n_draw,), fluxes (n_draw, n_batch, n_coeff)."""

    width: FloatArray
    jitter: FloatArray
    flux: FloatArray

    def ranked(self, problem: LinearProblem) -> FloatArray:
        """Return what is ranked, shape (n_draw, n_name)."""
        variance = 1.0 / problem.ivar + self.jitter[:, None, None] ** 2
        miss = problem.data - np.stack([problem.predict(one) for one in self.flux])
        log = -0.5 * (miss**2 / variance + np.log(variance)).sum(axis=(1, 2))
        return np.column_stack([self.width, self.jitter, self.flux[:, 0], log])


def sampler_trials(
    problem: LinearProblem, width: Hyperprior, jitter: Hyperprior, n_trial: int, rng: np.random.Generator
) -> SamplerTrials:
    """Draw width, jitter and fluxes from their prior and data from these; rank the truth among draws given the data.

    Parameters
    ----------
    problem : LinearProblem
        Design, errors and prior; no pixel may be missing. Its data only set where the model's whitening is made.
    width, jitter : Hyperprior
        Priors of the two hyperparameters.
    n_trial : int
        Number of trials.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    SamplerTrials

    Raises
    ------
    MissingDependencyError
        If nutpie, which takes new data without compiling again, is not installed.
    """
    hyper = Hyperparameters(width=width, jitter=jitter)
    nuts = _Nuts(problem, hyper)
    ranks: dict[str, list[FloatArray]] = {"grid": [], "NUTS": []}
    correlations = []
    for truth, simulated in _simulate(problem, hyper, n_trial, rng):
        exact = integrate_grid(simulated, hyper).draw(N_RANKED, rng)
        sampled = nuts.draw(simulated, rng).ranked(simulated)
        found = {"grid": _Draws(exact.width, exact.noise, exact.flux).ranked(simulated), "NUTS": sampled}
        for name, draws in found.items():
            ranks[name].append(((draws < truth).sum(axis=0) + rng.uniform(size=truth.size)) / (N_RANKED + 1))
        correlations.append(_neighbour_correlation(sampled))
    fluxes = tuple(f"flux {i + 1}" for i in range(problem.design.n_coeff))
    return SamplerTrials(
        ("width", "jitter", *fluxes, "log likelihood"),
        {name: np.array(one) for name, one in ranks.items()},
        float(np.mean(correlations, axis=0).max()),
        nuts.n_divergent,
    )


def _simulate(
    problem: LinearProblem, hyper: Hyperparameters, n_trial: int, rng: np.random.Generator
) -> Iterator[tuple[FloatArray, LinearProblem]]:
    """Yield what is ranked of the truth, shape (n_name,), and the problem with data made from it."""
    prior = problem.prior
    for _ in range(n_trial):
        width, jitter = hyper.width.draw(1, rng), hyper.jitter.draw(1, rng)
        white = rng.standard_normal((1, problem.n_batch, prior.mean.size))
        truth = _Draws(width, jitter, prior.mean + width * prior.precision**-0.5 * white)
        noise = np.sqrt(1.0 / problem.ivar + jitter**2) * rng.standard_normal(problem.data.shape)
        simulated = replace(problem, data=problem.predict(truth.flux[0]) + noise)
        yield truth.ranked(simulated)[0], simulated


class _Nuts:
    """NUTS of nutpie on the model of `build_linear`, compiled once."""

    def __init__(self, problem: LinearProblem, hyper: Hyperparameters) -> None:
        if importlib.util.find_spec("nutpie") is None:
            raise MissingDependencyError("n_sampler: nutpie is not installed; run pip install nutpie, or ask for 0")
        import nutpie

        self.n_divergent = 0
        model = build_linear(problem, _named(problem), hyper)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._compiled = nutpie.compile_pymc_model(model)

    def draw(self, problem: LinearProblem, rng: np.random.Generator) -> _Draws:
        """Return 99 draws, one of ten, which have forgotten each other."""
        import nutpie

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = nutpie.sample(
                self._compiled.with_data(y_observed=problem.data), draws=_THIN * N_RANKED, tune=_TUNE,
                chains=1, cores=1, seed=int(rng.integers(2**31)), progress_bar=False,
            )  # fmt: skip
        self.n_divergent += int(tree["sample_stats"]["diverging"].sum())
        found = tree["posterior"].to_dataset().isel(chain=0, draw=slice(_THIN - 1, None, _THIN))
        return _Draws(*(found[name].to_numpy() for name in ("width", "jitter", "flux")))


def _named(problem: LinearProblem) -> GroupData:
    """Give the axes of a problem plain numbers for names."""
    n_batch, n_obs = problem.data.shape
    pixel = np.arange(n_obs)
    return GroupData(
        y=problem.data, y_err=problem.ivar**-0.5, known=problem.known, prior_mean=problem.prior.mean,
        prior_sigma=problem.prior.precision**-0.5, source=[str(i + 1) for i in range(problem.prior.mean.size)],
        time=np.arange(n_batch, dtype=np.float64), pixel=pixel, row=np.zeros(n_obs), column=pixel.astype(np.float64),
    )  # fmt: skip


def _neighbour_correlation(draws: FloatArray) -> FloatArray:
    """Return the correlation of each draw with the next, shape (n_name,)."""
    white = (draws - draws.mean(axis=0)) / draws.std(axis=0)
    return (white[1:] * white[:-1]).mean(axis=0)
