"""Sampling models of a Machine that fits a background: it is sampled along, or known."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.machine import Machine
from bayesprf.photometry.background import Background
from bayesprf.simulation.fields import make_field

SKY = -50.0


@pytest.fixture(scope="module")
def machine():
    field = make_field(n_source=30, n_stamp=15, n_time=6, mag_range=(12.0, 15.0), rng=np.random.default_rng(3))
    pixels = replace(field.pixels, flux=field.pixels.flux + SKY)
    found = Machine.from_pixels(pixels, field.sources, quiet=True, background=Background("stamp"))
    found.build_shape_model()
    found.fit_model()
    return found


def test_problem_without_background_has_the_same_best_fluxes(machine):
    """With the sky at its posterior mean, the mean of the fluxes is the same, and their errors are smaller."""
    from bayesprf.linalg.solvers.blocks import BlockSolver

    fit = machine.fit.flux
    alone = BlockSolver(1).solve(fit.without_background())
    np.testing.assert_allclose(alone.mean, fit.flux, rtol=1e-9)
    assert np.all(alone.std <= fit.flux_err * (1 + 1e-12))


@pytest.mark.parametrize(("settings", "sampled"), [({}, True), ({"width": "learn"}, False)])
def test_linear_model_holds_the_sky_unless_the_prior_is_learned(machine, settings, sampled):
    model = machine.pymc_model("linear", sources=[0], cadences=0, **settings)
    names = [str(one) for one in model.coords["source"]]
    assert any(one.startswith("background") for one in names) is sampled


def test_joint_model_takes_the_sky_as_known(machine):
    model = machine.pymc_model("joint", sources=[0])
    assert not any(str(one).startswith("background") for one in model.coords["source"])
    assert np.isfinite(model.compile_logp()(model.initial_point()))


def test_grid_draws_are_those_of_the_closed_form(machine):
    tree = machine.sample(sources=[0], cadences=0, kind="collapsed", draws=1000, random_seed=1, width=1.0)
    draws = tree["posterior/flux"].to_numpy().ravel()
    assert draws.mean() == pytest.approx(machine.ws[0, 0], abs=4.0 * machine.werrs[0, 0] / np.sqrt(draws.size))
    assert draws.std() < machine.werrs[0, 0] * 1.1
