"""Learned widths as a user meets them: Machine, DataTree, command line."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import bayesprf as bp
from bayesprf.cli import app, format_summary
from bayesprf.errors import DataWarning, InputError, ShapeError, StageError
from bayesprf.io.save import load_tree, save_tree
from bayesprf.io.simulated import write_field
from bayesprf.pipeline import restore
from bayesprf.results.gather import widths_from_group
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.simulation.fields import make_case, make_field

TOO_SMALL = 1.4


@pytest.fixture(scope="module")
def field():
    """Errors of the pixels in every second cutout are too small by 1.4."""
    field = make_case("demo", np.random.default_rng(3), n_time=150)
    factor = np.where(field.pixels.stamp % 2 == 0, TOO_SMALL, 1.0)
    return replace(field, pixels=replace(field.pixels, flux_err=field.pixels.flux_err / factor))


def build(field):
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint", field_variation=0)
    machine.fit_model()
    return machine


def again(machine):
    return bp.Machine.from_fit(machine.fit, quiet=True)


@pytest.fixture(scope="module")
def channel(field):
    return np.where(field.pixels.stamp % 2 == 0, "even", "odd")


@pytest.fixture(scope="module")
def plain(field):
    return build(field)


@pytest.fixture(scope="module")
def missing(plain):
    """The PRF is off by a thousandth in each pixel, which is ten times as much as the fit leaves."""
    machine, prf = again(plain), plain.fit.prf
    off = prf.values * (1.0 + 1e-3 * np.random.default_rng(0).standard_normal(prf.values.size))
    machine.fit = machine.fit.with_stage("prf", replace(prf, matrix=PrfMatrix.constant(prf.pairs, off)))
    machine.fit_model()
    return machine


@pytest.fixture(scope="module")
def widths(plain, channel):
    return plain.learn_widths(noise_groups=channel)


@pytest.fixture(scope="module")
def fitted(plain, widths):
    machine = again(plain)
    machine.fit_model(widths=widths)
    return machine


def test_errors_understated_in_one_channel_are_found(widths):
    assert widths.noise_labels == ("even", "odd")
    assert np.all(np.abs(widths.noise_scale - [TOO_SMALL, 1.0]) < 3.5 * widths.noise_scale_err)
    assert widths.noise_scale_err.max() < 0.01
    assert widths.converged


def test_the_next_fit_uses_them(plain, fitted, widths, field):
    np.testing.assert_array_equal(fitted.fit.latest_flux.prior.mean, widths.prior.mean)
    np.testing.assert_array_equal(fitted.fit.latest_flux.prior.precision, widths.prior.precision)
    wanted = field.pixels.ivar / widths.noise_factor**2
    given = again(plain)
    given.fit_model(widths=widths, pixel_errors="given")
    np.testing.assert_allclose(given.fit.latest_flux.problem.ivar, wanted, rtol=1e-12)
    # The model's errors follow the fitted light, and those given were made of the true: they differ by its noise.
    np.testing.assert_allclose(fitted.fit.latest_flux.problem.ivar, wanted, rtol=2e-3)
    assert fitted.widths is widths
    assert plain.widths is None
    ratio = np.nanmedian(fitted.werrs / plain.werrs, axis=0)
    assert ratio.min() > 0.95
    assert ratio.max() == pytest.approx(TOO_SMALL, abs=0.02)


def test_errors_of_light_curves_agree_with_their_scatter(plain, fitted):
    """Differences of neighbouring cadences, over the error that both quote: nothing but noise is left in them."""

    def pull(machine):
        step = np.diff(machine.ws, axis=0)[::2]
        return step / np.hypot(machine.werrs[:-1:2], machine.werrs[1::2])

    bright = np.nanmedian(plain.ws, axis=0) > 1000.0
    stretched = np.nanmedian(fitted.werrs / plain.werrs, axis=0) > 1.35
    chosen = bright & stretched
    assert chosen.sum() > 3
    scatter = 1.48 * np.nanmedian(np.abs(pull(plain)[:, chosen]))
    corrected = 1.48 * np.nanmedian(np.abs(pull(fitted)[:, chosen]))
    assert scatter == pytest.approx(TOO_SMALL, abs=0.12)
    assert corrected == pytest.approx(1.0, abs=0.09)


def test_learning_and_fitting_again_changes_nothing(fitted, plain, widths, channel):
    again = fitted.learn_widths(noise_groups=channel)
    for name in ("prior_width", "variability", "noise_scale", "zero_point", "model_error", "log_evidence"):
        np.testing.assert_array_equal(getattr(again, name), getattr(widths, name))
    before = fitted.ws.copy(), fitted.werrs.copy()
    fitted.fit_model(widths=again)
    np.testing.assert_array_equal(fitted.ws, before[0])
    np.testing.assert_array_equal(fitted.werrs, before[1])


def test_a_fit_without_them_forgets_them(widths, plain):
    machine = again(plain)
    machine.fit_model(widths=widths)
    machine.fit_model()
    assert machine.widths is None
    np.testing.assert_array_equal(machine.ws, plain.ws)
    assert "widths" not in machine.to_datatree().children


def test_time_model_and_robust_fit_take_them(plain, channel):
    machine = again(plain)
    machine.build_time_model()
    machine.fit_model(fit_va=True)
    widths = machine.learn_widths(noise_groups=channel)
    assert np.all(np.abs(widths.noise_scale - [TOO_SMALL, 1.0]) < 4.0 * widths.noise_scale_err)
    machine.fit_model(fit_va=True, widths=widths)
    assert machine.widths is widths
    assert np.isfinite(machine.fit.latest_flux.log_evidence).all()
    machine.fit_model(robust=True, widths=widths)
    assert np.isfinite(machine.ws).any()


def test_a_model_error_in_the_fit_is_not_counted_twice(field, channel, plain, missing):
    machine = again(missing)
    widths = machine.learn_widths(noise_groups=channel, model_in_fit=True)
    machine.fit_model(widths=widths, pixel_errors="given")  # whose variances the model error adds to, to the last digit
    assert widths.model_error == pytest.approx(1e-3, rel=0.3)
    assert machine.common_errors.widths.model == 0.0
    assert plain.common_errors.widths.model > 0.0
    extra = 1.0 / machine.fit.latest_flux.problem.ivar - widths.noise_factor**2 / field.pixels.ivar
    np.testing.assert_allclose(extra, np.broadcast_to(widths.model_variance, extra.shape), rtol=1e-6, atol=1e-9)
    bright = np.nanargmax(np.nanmedian(plain.ws, axis=0))
    assert np.median(machine.werrs[:, bright]) > 2.0 * np.median(plain.werrs[:, bright])


def test_evidence_prefers_the_learned_widths(plain, fitted):
    assert fitted.fit.latest_flux.log_evidence.sum() > plain.fit.latest_flux.log_evidence.sum() + 1000.0


def test_expected_fluxes_of_another_scale_move_the_zero_point(missing, channel, field):
    widths = missing.learn_widths(noise_groups=channel)
    other = missing.learn_widths(noise_groups=channel, expected=field.sources.flux * missing.fit.prf.scale / 2.0)
    assert other.zero_point == pytest.approx(2.0 * widths.zero_point, rel=1e-6)
    np.testing.assert_allclose(other.prior.mean, widths.prior.mean, rtol=1e-6)


def test_the_tree_keeps_them(fitted, widths, tmp_path):
    tree = fitted.to_datatree()
    group = tree["widths"]
    assert float(group["zero_point"]) == widths.zero_point
    assert all({"units", "long_name"} <= set(one.attrs) for one in group.data_vars.values())
    file = tmp_path / "field.nc"
    save_tree(tree, file)
    saved = load_tree(file)
    assert saved.equals(tree)
    back = widths_from_group(saved["widths"])
    assert (back.prior_labels, back.noise_labels) == (widths.prior_labels, widths.noise_labels)
    assert (back.model_error, back.converged, back.n_cadence) == (widths.model_error, True, 150)
    np.testing.assert_array_equal(back.noise_factor, widths.noise_factor)
    np.testing.assert_allclose(back.prior.precision, widths.prior.precision, rtol=1e-14)


def test_the_summary_names_them(fitted, plain, widths):
    text = format_summary(fitted.to_datatree())
    assert f"noise x {widths.noise_scale[0]:.4g} +- {widths.noise_scale_err[0]:.2g} (even)" in text
    assert f"prior width {widths.prior_width[0]:.4g} +- {widths.prior_width_err[0]:.2g}" in text
    assert f"zero point {widths.zero_point:.4g}" in text
    assert f"model error {widths.model_error:.4g}" in text
    assert "zero point" not in format_summary(plain.to_datatree())


def test_command_line_learns_them(tmp_path):
    field = make_case("demo", np.random.default_rng(4), n_time=40)
    files, catalog = write_field(tmp_path, field)
    out = tmp_path / "out.nc"
    names = [str(one) for one in files]
    done = CliRunner().invoke(app, ["fit", *names, "--catalog", str(catalog), "--output", str(out), "--learn-widths"])
    assert done.exit_code == 0, done.output
    assert "noise x " in done.output
    tree = load_tree(out)
    assert float(tree["widths/noise_scale"][0]) == pytest.approx(1.0, abs=0.05)
    report = CliRunner().invoke(app, ["report", str(out)])
    assert "noise x " in report.output
    machine = restore(tree, (tmp_path,))
    np.testing.assert_allclose(machine.werrs, tree["photometry/flux_err"].to_numpy(), rtol=1e-9)


def test_bad_arguments_are_refused(plain, field, widths):
    with pytest.raises(StageError, match="no flux result yet"):
        bp.Machine.from_pixels(field.pixels, field.sources, quiet=True).learn_widths()
    with pytest.raises(InputError, match="prior_width: expected 'learn' or a finite number above 0, got -1"):
        plain.learn_widths(prior_width=-1)
    with pytest.raises(ShapeError, match=r"expected: expected shape \(28,\)"):
        plain.learn_widths(expected=np.ones(3))
    with pytest.raises(InputError, match="noise_groups: expected None, 'flux', 'stamp' or a label for each of 400"):
        plain.learn_widths(noise_groups="channel")
    with pytest.raises(ShapeError, match=r"prior_groups: expected shape \(28,\)"):
        plain.learn_widths(prior_groups=[1, 2])
    with pytest.raises(
        InputError, match=r"widths: expected a FluxWidths or None, got .*; Machine.learn_widths makes one"
    ):
        plain.fit_model(widths=0.1)
    with pytest.raises(InputError, match="prior_mu, prior_sigma: expected neither beside widths"):
        plain.fit_model(widths=widths, prior_sigma=1.0)
    other = make_case("demo", np.random.default_rng(5), n_source=20, n_time=5)
    with pytest.raises(ShapeError, match=r"widths: expected shape \(28,\) \(n_source"):
        plain.fit_model(widths=build(other).learn_widths())


def test_a_value_that_no_star_can_have_made_does_not_set_the_errors_of_all_cadences():
    rng = np.random.default_rng(1)
    field = make_field(rng=rng, n_source=4, n_time=20, n_stamp=4, mag_range=(11.0, 12.5), stamp_fill=0.02)
    errors = {}
    for name, value in {"clean": field.pixels.flux[3, 10], "bright": 1e9, "beyond squares": 1e160}.items():
        flux = field.pixels.flux.copy()
        flux[3, 10] = value
        machine = bp.Machine.from_pixels(replace(field.pixels, flux=flux), field.sources, quiet=True)
        said = nullcontext() if name == "clean" else pytest.warns(DataWarning, match="without 1 of 2540 values of flux")
        with said:
            machine.build_shape_model(method="joint", field_variation=0)
        machine.fit_model()
        machine.fit_common_errors()
        errors[name] = np.delete(machine.werrs_total, 3, axis=0)
    for name in ("bright", "beyond squares"):  # one of twenty cadences less
        np.testing.assert_allclose(errors[name], errors["clean"], rtol=0.05)


def test_fluxes_whose_squares_are_no_numbers_are_refused(field):
    absurd = replace(field.pixels, flux=np.full_like(field.pixels.flux, 1e160))
    machine = bp.Machine.from_pixels(absurd, field.sources, quiet=True)
    with pytest.raises(InputError, match=r"^flux: expected a mean image in electron / s, got pixels of up to 1e\+160"):
        machine.build_shape_model()
