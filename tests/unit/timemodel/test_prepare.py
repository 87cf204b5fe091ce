"""What the time model is trained on: sky that changes, stars that vary in front of others, errors made from counts."""

from dataclasses import replace

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.simulation.fields import make_field
from bayesprf.timemodel.prepare import pixels_without_sky, prepare_pixels, steady_neighbors
from bayesprf.timemodel.training import choose_training

# Crowded enough that most stars have light of others in their pixels.
N_TIME, N_SOURCE = 80, 14


def simulate(factor=None):
    """Return stars on one image that drifts by 0.1 pixel to either side."""
    ramp = np.linspace(-1.0, 1.0, N_TIME)
    return make_field(
        n_source=N_SOURCE, n_time=N_TIME, layout="image", image_shape=(26, 26), mag_range=(11.0, 14.0),
        rng=np.random.default_rng(6), drift=0.1 * np.stack([ramp, 0.5 * ramp**2], axis=1), variability=factor,
    )  # fmt: skip


def scatter(field, pixels, **settings):
    """Return a Machine and the scatter of its light curves with the time model over the Cramer-Rao bound."""
    machine = bp.Machine.from_pixels(pixels, field.sources, quiet=True, **settings)
    machine.build_shape_model()
    machine.build_time_model()
    machine.fit_model(fit_va=True)
    bound = np.mean([field.cramer_rao(time) for time in range(0, N_TIME, 10)], axis=0)
    left = machine.ws_va / field.flux
    return machine, left.std(axis=0) / left.mean(axis=0) * field.mean_flux / bound


# Values of the ramp pass for cosmic rays where they are many times what a pixel usually has.
@pytest.mark.filterwarnings("ignore:the PRF is fitted without:bayesprf.errors.DataWarning")
def test_sky_that_changes_is_no_change_of_the_prf():
    """A ramp of scattered light moves no light curve; it was 20 to 40 bounds when the mean sky was subtracted."""
    field = simulate()
    ramp = 200.0 * np.exp(-np.arange(N_TIME) / 8.0)
    pixels = replace(field.pixels, flux=field.pixels.flux + ramp[:, None])
    _, still = scatter(field, field.pixels, background="stamp")
    machine, found = scatter(field, pixels, background="stamp")
    left = np.mean(pixels.flux - pixels_without_sky(machine.fit).flux, axis=1)
    assert np.std(left - ramp) < 0.02 * ramp.max()
    assert np.median(found) < 1.1 * np.median(still)


@pytest.fixture(scope="module")
def varying():
    """The brightest star varies by a factor of three within hours, and errors are made from the counts."""
    factor = np.ones((N_TIME, N_SOURCE))
    star = int(np.argmax(simulate().mean_flux))
    factor[:, star] += 0.5 * np.sign(np.sin(np.arange(N_TIME) / 3.0))
    field = simulate(factor)
    variance = np.maximum(field.pixels.flux, 0.0) / field.settings.exposure + field.settings.noise_floor**2
    pixels = replace(field.pixels, flux_err=np.sqrt(variance))
    return field, star, pixels, *scatter(field, pixels)


def test_a_star_that_varies_disturbs_no_other(varying):
    """The median star had 4.5 bounds, the one that varies 265."""
    _, star, pixels, machine, found = varying
    assert np.median(found) < 1.3
    assert found[star] < 6.0
    assert np.ptp(prepare_pixels(machine.fit).ivar, axis=0).max() == 0.0
    assert np.ptp(pixels.ivar, axis=0).max() > 0.0


def test_neighbours_vary_in_step_with_the_star_that_is_trained_on(varying):
    """Where the true PRF is known, what is left of a training pixel is its star's light curve times a constant."""
    field, star, pixels, machine, _ = varying
    fit = machine.fit
    prf, gain = fit.need("prf"), fit.need("time_model").gain
    options = replace(fit.time_recipe.options, min_share=0.7)
    training = choose_training(pixels, prf.matrix, prf.flux, prf.star_prf, options=options)
    again = steady_neighbors(pixels, prf, training, gain)
    chosen = training.source == star
    other = 1.0 - training.light[training.chosen] / prf.matrix.image(prf.flux)[training.pixel]
    mixed = training.pixel[chosen & (other > 0.02)]
    assert mixed.size > 0
    curve = field.flux[:, star] / field.flux[:, star].mean()
    for pixel in mixed:
        before, after = (one.flux[:, pixel] / one.flux[:, pixel].mean() for one in (pixels, again))
        slope = [np.polyfit(curve, one, 1)[0] for one in (before, after)]
        assert abs(slope[1] - 1.0) < 0.3 * abs(slope[0] - 1.0) + 0.01
