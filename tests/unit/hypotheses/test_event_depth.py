"""Depth of an event: the dip against dense least squares, the posterior of the ratio against draws, a blend's leak."""

import numpy as np
import pytest
from scipy.stats import norm

import bayesprf as bp
from bayesprf.errors import InputError, StageError
from bayesprf.hypotheses.event_depth import Dip, EventDepth, carry_flux_error, fit_dip, without_prior
from bayesprf.hypotheses.event_host import baseline_columns
from bayesprf.simulation.fields import make_field, redraw_noise
from bayesprf.simulation.settings import FieldSettings, Transit

N_TIME = 240


def light_curve(rng, *, slope=0.0, noise=0.5):
    time = np.linspace(0.0, 4.0, N_TIME)
    template = (np.abs(np.mod(time, 1.3) - 0.65) < 0.1).astype(np.float64)
    flux = 100.0 + slope * (time - 2.0) - 3.0 * template
    return time, template, flux + noise * rng.standard_normal(N_TIME), np.full(N_TIME, noise**2)


# ------------------------------------------------------------------ dip and flux


@pytest.mark.parametrize("spacing", [np.inf, 1.0])
def test_the_dip_is_that_of_least_squares(spacing):
    time, template, flux, variance = light_curve(np.random.default_rng(1))
    dip = fit_dip(time, flux, variance, template, spacing=spacing)
    splines = np.ones((N_TIME, 1)) if np.isinf(spacing) else baseline_columns(time, spacing).toarray()
    columns = np.concatenate([splines, -template[:, None]], axis=1)
    best = np.linalg.lstsq(columns, flux, rcond=None)[0]
    cov = np.linalg.inv(columns.T @ columns) * (variance[0] + dip.scatter**2)
    under = template @ splines / template.sum()
    np.testing.assert_allclose(dip.mean, [best[-1], under @ best[:-1]], rtol=1e-5)
    assert dip.covariance[0, 0] == pytest.approx(cov[-1, -1], rel=1e-5)
    assert dip.covariance[1, 1] == pytest.approx(under @ cov[:-1, :-1] @ under, rel=1e-5)
    assert dip.covariance[0, 1] == pytest.approx(under @ cov[:-1, -1], rel=1e-5)


def test_a_baseline_follows_slow_changes_and_a_constant_does_not():
    time, template, flux, variance = light_curve(np.random.default_rng(2), slope=5.0)
    curved, constant = (fit_dip(time, flux, variance, template, spacing=one) for one in (1.0, np.inf))
    assert abs(curved.mean[0] - 3.0) < 4.0 * np.sqrt(curved.covariance[0, 0])
    assert curved.scatter < 0.2
    assert constant.scatter == pytest.approx(5.0 * np.std(time), rel=0.05)


def test_scatter_beyond_the_errors_is_learned():
    time, template, flux, variance = light_curve(np.random.default_rng(3), noise=2.0)
    honest, told = (fit_dip(time, flux, one, template, spacing=np.inf) for one in (variance, variance / 16.0))
    assert told.scatter == pytest.approx(np.sqrt(15.0 / 16.0) * 2.0, rel=0.12)
    np.testing.assert_allclose(told.covariance, honest.covariance, rtol=0.12)


def test_cadences_without_data_do_not_count():
    time, template, flux, variance = light_curve(np.random.default_rng(4))
    gone = np.arange(N_TIME) % 7 == 0
    spoiled = fit_dip(time, np.where(gone, -1e9, flux), np.where(gone, np.inf, variance), template, spacing=np.inf)
    clean = fit_dip(time[~gone], flux[~gone], variance[~gone], template[~gone], spacing=np.inf)
    np.testing.assert_array_equal(spoiled.mean, clean.mean)
    np.testing.assert_array_equal(spoiled.covariance, clean.covariance)


@pytest.mark.parametrize("kind", [0.0, 1.0])
def test_an_event_needs_data_in_it_and_outside(kind):
    time, template, flux, variance = light_curve(np.random.default_rng(4))
    gone = np.where(template == kind, np.inf, variance)
    with pytest.raises(InputError, match="event: expected cadences with data both in the event and outside"):
        fit_dip(time, flux, gone, template, spacing=np.inf)


def test_the_prior_is_taken_out():
    data, error = np.array([90.0, 120.0, 3.0]), np.array([2.0, 50.0, 1.0])
    prior_mean, prior_precision = 70.0, 30.0**-2
    ivar = np.array([error[0] ** -2, error[1] ** -2, 0.0])
    variance = 1.0 / (ivar + prior_precision)
    mean = variance * (ivar * data + prior_precision * prior_mean)
    flux, told = without_prior(mean, variance, prior_mean=prior_mean, prior_precision=prior_precision)
    np.testing.assert_allclose(flux[:2], data[:2], rtol=1e-12)
    np.testing.assert_allclose(told, [*error[:2] ** 2, np.inf], rtol=1e-12)


# ------------------------------------------------------------------ ratio


@pytest.mark.parametrize(("flux", "dip", "correlation"), [(10.0, 3.0, 0.5), (3.0, 1.0, -0.4), (1.0, 2.0, 0.0)])
def test_quantiles_are_those_of_draws(flux, dip, correlation):
    found = EventDepth("star", dip, 0.5, flux, 1.0, correlation, 0.0)
    cov = np.array([[0.25, 0.5 * correlation], [0.5 * correlation, 1.0]])
    draws = np.random.default_rng(5).multivariate_normal([dip, flux], cov, 400_000)
    ratio = draws[:, 0][draws[:, 1] > 0] / draws[:, 1][draws[:, 1] > 0]
    for share in (0.025, 0.16, 0.5, 0.84, 0.975):
        below = np.mean(ratio < found.quantile(share))
        assert below == pytest.approx(share, abs=4.0 * np.sqrt(share * (1.0 - share) / ratio.size))


def test_a_well_measured_flux_gives_the_interval_of_fieller():
    found = EventDepth("star", 1.0, 0.02, 100.0, 3.0, 0.3, 0.0)
    for share in (0.16, 0.5, 0.84):
        depth = found.quantile(share)
        std = np.sqrt(0.02**2 + (depth * 3.0) ** 2 - 2.0 * depth * 0.3 * 0.02 * 3.0)
        assert (depth * 100.0 - 1.0) / std == pytest.approx(norm.ppf(share), abs=1e-6)
    slope = np.array([1.0, -0.01]) / 100.0
    cov = np.array([[0.02**2, 0.3 * 0.06], [0.3 * 0.06, 9.0]])
    assert found.depth_err == pytest.approx(np.sqrt(slope @ cov @ slope), rel=5e-3)
    assert found.depth == pytest.approx(0.01, rel=1e-6)


def test_the_leak_widens_the_depth_as_the_flux_it_moves():
    dip = Dip(np.array([1.0, 100.0]), np.array([[1e-6, 1e-5], [1e-5, 1e-2]]), 0.0)
    without, with_leak = (carry_flux_error("star", dip, leak) for leak in (0.0, 5.0))
    assert without.depth_err == pytest.approx(without.noise_err, rel=1e-3)
    assert with_leak.noise_err == without.noise_err
    assert with_leak.depth_err == pytest.approx(np.hypot(without.noise_err, 0.05 * 0.01), rel=0.01)


def test_levels_are_checked():
    found = EventDepth("star", 1.0, 0.02, 100.0, 3.0, 0.3, 0.0)
    with pytest.raises(InputError, match="level: expected a number between 0 and 1, got 68"):
        found.interval(68)
    with pytest.raises(InputError, match="share: expected a number between 0 and 1, got 0"):
        found.quantile(0.0)


# ------------------------------------------------------------------ a machine


@pytest.fixture(scope="module")
def field():
    """Return 24 stars with a cutout each, the first with a companion 1.7 pixels away that is 3 mag fainter."""
    mag = np.concatenate([[12.0, 12.0], np.linspace(11.5, 15.0, 22), [15.0]])
    transits = tuple(Transit(one, 0.01, 1.0, 120.5, 0.3) for one in (1, 24))
    settings = FieldSettings(
        n_source=25, n_stamp=24, n_time=150, magnitudes=mag, companion_distance=(1.7, 1.7), transits=transits
    )
    return make_field(settings, rng=np.random.default_rng(8))


@pytest.fixture(scope="module")
def machine(field):
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.refine_scene()
    machine.fit_model()
    return machine


def test_the_depth_is_found(field, machine):
    template = (1.0 - field.settings.transits[0].factor(machine.time)) / 0.01
    lone, blended = (machine.event_depth(one, template) for one in (1, "star-00024"))
    for one in (lone, blended):
        assert abs(one.depth - 0.01) < 3.0 * one.depth_err
        assert one.noise_err <= one.depth_err
    assert lone.depth_err < 3e-4
    constant = machine.event_depth(1, template, baseline=np.inf)
    assert constant.depth == pytest.approx(lone.depth, abs=3.0 * lone.depth_err)


def test_only_light_of_neighbours_makes_the_flux_of_a_depth_uncertain(field, machine):
    template = (1.0 - field.settings.transits[0].factor(machine.time)) / 0.01
    lone, blended = (machine.event_depth(one, template) for one in (1, 24))
    common = machine.common_errors.std
    assert lone.flux_err < 0.2 * common[1]
    assert 0.3 * common[24] < blended.flux_err < 1.1 * common[24]


def test_wider_positions_make_a_wider_depth(field, machine):
    machine = bp.Machine.from_fit(machine.fit, quiet=True)
    template = (1.0 - field.settings.transits[1].factor(machine.time)) / 0.01
    errors = []
    for width in (0.0, 0.2, 0.4):
        machine.fit_common_errors(position=width)
        errors.append(machine.event_depth(24, template).flux_err)
    extra = np.sqrt(np.array(errors[1:]) ** 2 - errors[0] ** 2)
    assert extra[0] > errors[0]
    assert extra[1] == pytest.approx(2.0 * extra[0], rel=1e-6)


def test_a_dip_is_the_difference_of_means(field, machine):
    """With a constant baseline the dip is the difference of weighted means."""
    inside = field.settings.transits[1].factor(machine.time) < 1.0
    found = machine.event_depth(24, inside, baseline=np.inf)
    flux, err = machine.ws[:, 24], machine.werrs[:, 24]
    mean = [np.average(flux[one], weights=err[one] ** -2.0) for one in (inside, ~inside)]
    assert found.dip == pytest.approx(mean[1] - mean[0], rel=1e-3)
    assert found.flux == pytest.approx(mean[1], rel=1e-3)


def test_arguments_are_checked(machine):
    with pytest.raises(InputError, match="event: expected a mask or 150 numbers"):
        machine.event_depth(0, np.ones(150))
    with pytest.raises(InputError, match="baseline: expected a number above 0, got -1"):
        machine.event_depth(0, np.eye(1, 150)[0], baseline=-1.0)


def test_fluxes_come_first(machine):
    machine = bp.Machine.from_fit(machine.fit.without("flux"), quiet=True)
    with pytest.raises(StageError, match=r"call fit_model\(\) first"):
        machine.event_depth(0, np.eye(1, 150)[0])


# ------------------------------------------------------------------ the simulator's part


def test_companions_lie_where_they_are_asked_for(field):
    assert np.hypot(field.column[24] - field.column[0], field.row[24] - field.row[0]) == pytest.approx(1.7)
    assert field.mean_flux[0] / field.mean_flux[2] == pytest.approx(10.0 ** (0.4 * (11.5 - 12.0)), rel=1e-12)


def test_noise_is_redrawn_and_nothing_else(field):
    again = redraw_noise(field, np.random.default_rng(1))
    np.testing.assert_array_equal(again.pixels.flux_err, field.pixels.flux_err)
    score = (again.pixels.flux - field.expected()) / field.pixels.flux_err
    assert abs(score.mean()) < 4.0 / np.sqrt(score.size)
    assert score.std() == pytest.approx(1.0, abs=0.01)
    assert abs(np.corrcoef(score.ravel(), (field.pixels.flux - field.expected()).ravel())[0, 1]) < 0.02
