"""Closed form and sampler on the same problem: log densities in all sizes, and (slow) means and standard deviations."""

import warnings

import arviz as az
import numpy as np
import pytest
from sampling_scenes import group_data, make_problem
from scipy.stats import norm

from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.sampling.draws import grid_tree
from bayesprf.sampling.grid import integrate_grid
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior
from bayesprf.sampling.linear import build_linear
from bayesprf.sampling.run import SamplerOptions, sample_model

SIZES = [(5, 1), (50, 1), (300, 1), (5, 100), (50, 100), (300, 100)]
# Four runs of two chains, so that no more than 2 GB of draws are kept at a time.
N_RUN, N_CHAIN, N_DRAW = 4, 2, 2000


def largest_deviate(n_parameter):
    """Return the bound of the largest of n standard normal numbers: 4, or what one of 100 right runs exceeds.

    The smallest of n p-values is below 0.01 / n in at most one of 100 runs, dependent or not (Bonferroni): 4.0 for up
    to 150 parameters, 4.3 for 500, 4.8 for 5000, 5.1 for 30,000.
    """
    return max(4.0, norm.isf(0.005 / n_parameter))


@pytest.mark.parametrize(("n_source", "n_time"), SIZES)
@pytest.mark.parametrize("likelihood", ["normal", "statistics"])
def test_log_density_is_that_of_the_closed_form(n_source, n_time, likelihood):
    """In whitened coordinates: log p(y, xi) = log evidence + log N(xi; 0, 1), everywhere."""
    problem = make_problem(n_source, n_time)
    model = build_linear(problem, group_data(problem), likelihood=likelihood)
    function = model.logp_dlogp_function(mode="FAST_COMPILE", ravel_inputs=True)
    function.set_extra_values({})
    xi = np.random.default_rng(0).standard_normal(n_source * n_time)
    expected = BlockSolver().solve(problem).log_evidence.sum() + norm.logpdf(xi).sum()
    assert function(xi)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
@pytest.mark.pymc
@pytest.mark.parametrize(("n_source", "n_time"), SIZES)
def test_moments_are_those_of_the_closed_form(n_source, n_time):
    """Means within 4 Monte Carlo standard errors (more for many parameters, see above), standard deviations within 5 %.

    The error of a standard deviation is 1 / sqrt(2 n) for n effective draws of the square, and the largest of 30,000 is
    below 5.1 errors in 99 of 100 runs: 5 % from n = 5200 on. NUTS on a round posterior gives one effective square for
    three draws (and one effective mean for one) with these steps, so 16,000 draws suffice.
    """
    problem = make_problem(n_source, n_time)
    model = build_linear(problem, group_data(problem), likelihood="statistics")
    mean, square, variance = 0.0, 0.0, 0.0
    exact = BlockSolver().solve(problem)
    for run in range(N_RUN):
        options = SamplerOptions(
            draws=N_DRAW, tune=500, chains=N_CHAIN, cores=2, random_seed=5 + run, target_accept=0.65
        )
        tree = sample_model(model, options)
        z = (tree["posterior/flux"] - exact.mean) / exact.std
        mean = mean + z.mean(("chain", "draw")).to_numpy() / N_RUN
        square = square + (z**2).mean(("chain", "draw")).to_numpy() / N_RUN
        variance = variance + az.mcse(z).to_numpy() ** 2 / N_RUN**2
        assert int(tree["sample_stats"]["diverging"].sum()) == 0
    deviate = np.abs(mean) / np.sqrt(variance)
    assert deviate.max() < largest_deviate(deviate.size)
    assert np.mean(deviate > 4.0) < 5e-4
    assert np.abs(np.sqrt(square - mean**2) - 1.0).max() < 0.05


@pytest.mark.slow
@pytest.mark.pymc
@pytest.mark.parametrize(("n_source", "n_time"), [(5, 1), (50, 1), (300, 1), (5, 100)])
def test_full_model_agrees_with_the_collapsed_one(n_source, n_time):
    """Width and jitter sampled with the fluxes, and on a grid without them: means within 4 Monte Carlo errors."""
    problem = make_problem(n_source, n_time)
    data = group_data(problem)
    hyper = Hyperparameters(width=Hyperprior("half-normal", 0.5), jitter=Hyperprior("half-normal", 5.0))
    full = sample_model(
        build_linear(problem, data, hyper), SamplerOptions(draws=1500, tune=1000, chains=4, cores=2, random_seed=3)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        grid = grid_tree(
            integrate_grid(problem, hyper), data, np.arange(n_source), (4, 5000), rng=np.random.default_rng(0)
        )
    for name in ("width", "jitter"):
        sampled, exact = full[f"posterior/{name}"], grid[f"posterior/{name}"]
        error = np.hypot(float(az.mcse(sampled)), float(az.mcse(exact)))
        assert abs(float(sampled.mean() - exact.mean())) < 4.0 * error
        assert float(sampled.std() / exact.std()) == pytest.approx(1.0, abs=0.1)
