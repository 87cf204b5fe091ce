"""`fit_model(pixel_errors=...)`: equal where errors are constant, steady where they follow the image, honest always."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.machine import Machine
from bayesprf.results.recipes import read_recipes
from bayesprf.scene.pixel_errors import PIXEL_ERRORS
from bayesprf.simulation.fields import make_field

N_TIME = 60


def with_errors_of_counts(field):
    """Return the pixels with errors made from the measured counts, as missions make them."""
    settings, pixels = field.settings, field.pixels
    variance = np.maximum(pixels.flux, 0.0) / settings.exposure + settings.noise_floor**2
    return replace(pixels, flux_err=np.sqrt(variance))


@pytest.fixture(scope="module")
def shaking():
    """Bright stars whose image jitters by 0.02 pixel; the first loses half of its light for a while."""
    rng = np.random.default_rng(8)
    jitter = 0.02 * rng.standard_normal((N_TIME, 2))
    fading = np.ones((N_TIME, 10))
    fading[20:30, 0] = 0.5
    return make_field(
        rng=rng, n_source=10, n_stamp=10, n_time=N_TIME, stamp_sides=(9,), mag_range=(10.0, 12.5), drift=jitter,
        variability=fading,
    )  # fmt: skip


@pytest.fixture(scope="module")
def machine(shaking):
    built = Machine.from_pixels(with_errors_of_counts(shaking), shaking.sources, quiet=True)
    built.build_shape_model(method="joint")
    return built


@pytest.fixture(scope="module")
def fits(machine):
    found = {}
    for name in PIXEL_ERRORS:
        machine.fit_model(pixel_errors=name, follow_jitter=False)  # weights alone: with "given" no motion is followed
        found[name] = machine.fit
    return found


def test_constant_errors_give_the_same_bits():
    field = make_field(rng=np.random.default_rng(1), n_source=8, n_time=12)
    built = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    built.build_shape_model(method="joint")
    answers = []
    for name in PIXEL_ERRORS:
        built.fit_model(pixel_errors=name)
        answers.append((built.ws, built.werrs, built.fit.flux.log_evidence))
    for answer in answers[1:]:
        for one, given in zip(answer, answers[0], strict=True):
            np.testing.assert_array_equal(one, given)


def test_light_curves_of_a_shaking_image_scatter_less(shaking, fits):
    steady = np.arange(1, 10)
    scatter = {
        name: np.median(np.std(fit.flux.flux[:, steady], axis=0) / shaking.cramer_rao()[steady])
        for name, fit in fits.items()
    }
    assert scatter["model"] < 0.6 * scatter["given"]
    assert scatter["time-mean"] < 0.6 * scatter["given"]


def test_an_eclipse_keeps_its_depth_and_its_errors(shaking, fits):
    faded = np.arange(20, 30)
    bound = np.array([shaking.cramer_rao(time)[0] for time in faded])
    for name in ("model", "time-mean"):
        flux = fits[name].flux
        depth = flux.flux[faded, 0].mean() / flux.flux[30:, 0].mean()
        assert depth == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_allclose(fits["model"].flux.flux_err[faded, 0], bound, rtol=0.02)
    np.testing.assert_allclose(fits["given"].flux.flux_err[faded, 0], bound, rtol=0.03)
    assert np.all(fits["time-mean"].flux.flux_err[faded, 0] > 0.99 * bound)


def test_every_answer_quotes_the_same_errors(machine, fits):
    for name, fit in fits.items():
        kept = Machine.from_fit(fit, quiet=True)
        tree = kept.posterior(sources=[0, 3], draws=400, random_seed=1)
        err = fit.flux.flux_err[:, [0, 3]]
        np.testing.assert_allclose(tree["gaussian/flux_sd"].values, err, rtol=1e-10, err_msg=name)
        drawn = tree["posterior/flux"].values.reshape(400, N_TIME, 2).std(axis=0)
        np.testing.assert_allclose(np.mean(drawn / err), 1.0, atol=0.01, err_msg=name)
        np.testing.assert_allclose(np.diag(kept.covariance([0, 3], 25)), err[25] ** 2, rtol=1e-10, err_msg=name)


def test_evidence_is_that_of_the_noise_behind_the_weights(fits):
    evidence = {name: fit.flux.log_evidence for name, fit in fits.items()}
    np.testing.assert_allclose(evidence["time-mean"], evidence["given"], rtol=1e-12)
    assert np.all(np.isfinite(evidence["model"]))


def test_leave_one_out_scores_of_all_options(fits):
    for name, fit in fits.items():
        kept = Machine.from_fit(fit, quiet=True)
        kept.loo()
        assert np.all(np.isfinite(kept.fit.need("score").elpd_time)), name


@pytest.mark.parametrize("name", PIXEL_ERRORS)
def test_robust_fits_and_time_models_take_the_option(name):
    field = make_field(rng=np.random.default_rng(3), n_source=8, n_stamp=8, n_time=30)
    built = Machine.from_pixels(with_errors_of_counts(field), field.sources, quiet=True)
    built.build_shape_model(method="joint")
    built.build_time_model(poly_order=1)
    built.fit_model(fit_va=True, robust=True, pixel_errors=name)
    np.testing.assert_allclose(np.median(built.werrs_va / field.cramer_rao(), axis=0), 1.03, atol=0.05)
    assert built.fit.flux_recipe.pixel_errors == name


def test_the_option_is_kept_in_a_tree(fits):
    tree = Machine.from_fit(fits["model"], quiet=True).to_datatree()
    assert read_recipes(tree).flux.pixel_errors == "model"


def test_unknown_options_are_named(machine):
    with pytest.raises(InputError, match=r"^pixel_errors: expected one of 'model', 'time-mean', 'given', got 'mean'"):
        machine.fit_model(pixel_errors="mean")
