"""Sampled: the light curve's posterior with all else integrated out is that of the model in which all is sampled."""

import sys
import time as clock
from pathlib import Path

import numpy as np
import pymc as pm
import pytest

import bayesprf as bp
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.photometry.processes import flux_information
from bayesprf.sampling.pixel_likelihood import light_curve_likelihood
from bayesprf.sampling.run import SamplerOptions, sample_model
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.settings import Transit

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "sampling"))
from transit_scenes import make_light, make_transit_fit, transit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.pymc,
    pytest.mark.filterwarnings("ignore:Numba will use object mode:UserWarning"),
]
LEAK = 400.0


def priors():
    return pm.Uniform("depth", 0.0, 0.3), pm.Normal("middle", 0.5, 0.03)


def sample(model, draws=2000):
    options = SamplerOptions(draws=draws, tune=1000, chains=4, cores=1, random_seed=1)
    return sample_model(model, options)["posterior"].to_dataset()


def test_equals_the_model_in_which_every_flux_is_sampled(record_property):
    n_time = 24
    fit, time, data = make_transit_fit(n_time=n_time, depth=0.08, seed=3, leak=LEAK)
    with pm.Model() as collapsed:
        depth, middle = priors()
        prior = GaussianPrior(fit.prior.mean[1:], fit.prior.precision[1:])
        seen = flux_information(fit, np.array([1]))
        light = 1.0 - depth * transit(time, middle)
        pm.Potential("pixels", light_curve_likelihood(seen, light, prior, leak=np.array([[LEAK]])))
    with pm.Model() as full:
        depth, middle = priors()
        sigma = fit.prior.precision**-0.5
        level = fit.prior.mean[1] + sigma[1] * pm.Normal("level")
        leak = np.sqrt(LEAK) * pm.Normal("leak")
        neighbor = fit.prior.mean[0] + sigma[0] * pm.Normal("neighbor", shape=n_time)
        star = level * (1.0 - depth * transit(time, middle)) + leak
        matrix = make_light()
        pm.Normal("y", neighbor[:, None] * matrix[:, 0] + star[:, None] * matrix[:, 1], 1.0, observed=data)
    short, long = sample(collapsed), sample(full)
    import arviz as az

    for name in ("depth", "middle"):
        error = np.hypot(*(float(az.mcse(one[name], method="mean").values) for one in (short, long)))
        distance = (float(short[name].mean()) - float(long[name].mean())) / error
        spread = float(short[name].std() / long[name].std())
        record_property(
            name, f"means differ by {distance:.2f} Monte Carlo errors, deviations by {100 * (spread - 1):.1f} %"
        )
        assert abs(distance) < 4.0
        assert spread == pytest.approx(1.0, abs=0.08)


def test_a_transit_on_the_fainter_star_of_a_blend_takes_less_than_a_minute(record_property):
    """From a fitted machine to a posterior that holds the truth."""
    field = make_field(
        n_source=24, n_stamp=12, n_time=400, rng=np.random.default_rng(2), companion_distance=(1.4, 1.8),
        magnitudes=np.concatenate([np.full(12, 13.0), np.full(12, 14.5)]),
        transits=(Transit(source=12, depth=0.03, period=50.0, epoch=124.0, duration=0.5, flank=0.2),),
    )  # fmt: skip
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    start = clock.perf_counter()
    with pm.Model() as model:
        depth, middle = pm.Uniform("depth", 0.0, 0.3), pm.Normal("middle", 124.0, 0.2)
        duration = pm.Uniform("duration", 0.2, 1.0)
        light = 1.0 - depth * transit(machine.time, middle, duration, 0.02)
        pm.Potential("pixels", bp.pixel_likelihood(machine, 12, light))
    found = sample(model)
    seconds = clock.perf_counter() - start
    mean, std = float(found["depth"].mean()), float(found["depth"].std())
    record_property("seconds", f"{seconds:.1f}")
    record_property("depth", f"{mean:.4f} +- {std:.4f}, truth 0.03")
    assert seconds < 60.0
    assert abs(mean - 0.03) < 3.0 * std
    assert std < 0.005
    assert float(found["middle"].mean()) == pytest.approx(124.0, abs=4.0 * float(found["middle"].std()) + 1e-3)
