"""Intervals of learned widths and noise contain the simulated truth at their nominal rate, over 200 simulations."""

from dataclasses import replace

import numpy as np
import pytest
from sampling_scenes import make_problem
from scipy.stats import binom, kstest

from bayesprf.sampling.grid import integrate_grid
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior

N_SIMULATION = 200
LEVELS = (0.5, 0.8, 0.95)
WIDTH = Hyperprior("half-normal", 0.5)
NOISE = {"jitter": Hyperprior("half-normal", 5.0), "noise_scale": Hyperprior("log-normal", 0.5, 1.0)}
CASES = {
    "width": {},
    "width and jitter": {"jitter": NOISE["jitter"]},
    "width and noise scale": {"noise_scale": NOISE["noise_scale"]},
}


def simulate(base, hyper, rng):
    """Draw hyperparameters from their priors, fluxes and data given them."""
    drawn = {name: float(prior.draw(1, rng)[0]) for name, prior in hyper.free.items()}
    flux = base.prior.mean + drawn["width"] * base.prior.precision**-0.5 * rng.standard_normal((1, base.design.n_coeff))
    std = drawn.get("noise_scale", 1.0) * np.sqrt(1.0 / base.ivar + drawn.get("jitter", 0.0) ** 2)
    return drawn, replace(base, data=base.predict(flux) + std * rng.standard_normal(base.data.shape))


def probability_below(grid, drawn):
    """Return the posterior probability that each hyperparameter is below its true value."""
    found = []
    for axis, (nodes, name) in enumerate(((grid.width, "width"), (grid.noise, grid.noise_name))):
        if name in drawn:
            edges = np.append(nodes - 0.5 * grid.cell[axis], nodes[-1] + 0.5 * grid.cell[axis])
            share = np.append(0.0, np.cumsum(grid.probability().sum(axis=1 - axis)))
            found.append(np.interp(drawn[name], edges, share))
    return found


def positions(case, n_simulation=N_SIMULATION, *, wrong=1.0):
    """Return where the truths lie in their posteriors, (n_simulation, n_free); claimed errors are off by `wrong`."""
    rng = np.random.default_rng(30)
    base = make_problem(10, seed=4)
    hyper = Hyperparameters(width=WIDTH, **CASES[case])
    found = []
    for _ in range(n_simulation):
        drawn, problem = simulate(base, hyper, rng)
        problem = replace(problem, ivar=problem.ivar / wrong**2)
        found.append(probability_below(integrate_grid(problem, hyper, n_width=100, n_noise=20), drawn))
    return np.array(found)


@pytest.mark.parametrize("case", CASES)
def test_intervals_contain_the_truth_at_the_nominal_rate(case):
    """5 parameters x 3 levels: a right posterior stays within bounds of 99.9 % each in 98.5 of 100 suites."""
    for place in positions(case).T:
        for level in LEVELS:
            inside = np.sum(np.abs(place - 0.5) < 0.5 * level)
            low, high = binom.ppf([5e-4, 1.0 - 5e-4], N_SIMULATION, level)
            assert low <= inside <= high, f"{level:.0%} intervals hold {inside} of {N_SIMULATION} truths"
        assert kstest(place, "uniform").pvalue > 1e-3


def test_the_rate_tells_claimed_errors_that_are_too_large():
    """Errors claimed half too large leave the jitter too little to explain: the test above would fail."""
    place = positions("width and jitter", 60, wrong=1.5)[:, 1]
    assert kstest(place, "uniform").pvalue < 1e-6
