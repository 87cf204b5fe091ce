"""A cosmic ray in the target: the Student-t model hardly moves, the Gaussian one is carried away."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sampling_scenes import group_data, make_problem

from bayesprf.errors import ConvergenceWarning
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.sampling.linear import build_linear
from bayesprf.sampling.run import SamplerOptions, sample_model


@pytest.fixture(scope="module")
def scenes():
    """One star, without and with a hit of 30 sigma in a pixel that moves the Gaussian flux by ten of its sd."""
    problem = make_problem(1, jitter=0.0, seed=5)
    hit = problem.data.copy()
    signal = problem.design.matrix()[:, [0]].toarray()[:, 0] * np.sqrt(problem.ivar[0])
    pixel = np.argmin(np.abs(signal / np.linalg.norm(signal) - 0.3))
    hit[0, pixel] += 30.0 / np.sqrt(problem.ivar[0, pixel])
    return problem, replace(problem, data=hit)


def robust_flux(problem):
    model = build_linear(problem, group_data(problem, with_time=False), likelihood="student-t")
    options = SamplerOptions(draws=1000, tune=400, chains=2, cores=1, sampler="pymc", random_seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        flux = sample_model(model, options)["posterior"]["flux"].to_numpy()
    return flux.mean(), flux.std()


def test_cosmic_ray(scenes):
    clean, hit = scenes
    exact = [BlockSolver().solve(one) for one in scenes]
    assert abs(exact[1].mean - exact[0].mean)[0, 0] > 5.0 * exact[0].std[0, 0]
    (mean, std), (hit_mean, _) = robust_flux(clean), robust_flux(hit)
    assert abs(hit_mean - mean) < 0.5 * std
    ivar = clean.ivar * (clean.data == hit.data)
    dropped = BlockSolver().solve(replace(clean, ivar=ivar)).mean[0, 0]
    assert abs(hit_mean - dropped) < 0.3 * std
    assert std == pytest.approx(exact[0].std[0, 0], rel=0.25)
