"""Light curves as processes: beside the dense twin of the pixels, learned kernels, events, gaps, draws, trees."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from scipy.sparse import csr_matrix

import bayesprf as bp
from bayesprf.errors import InputError, StageError
from bayesprf.io.lightcurves import to_lightkurve
from bayesprf.linalg.kalman import draw_prior, solve_processes
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.linalg.state_space import ProcessKernel
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.photometry.process_kernels import SearchRange
from bayesprf.photometry.processes import fit_light_curves, flux_information, split_by_correlation
from bayesprf.simulation.fields import make_field
from bayesprf.testing import dense_processes

SCRIPTS = Path(__file__).parents[3] / "docs" / "scripts"
CALIBRATION = SimpleNamespace(**runpy.run_path(str(SCRIPTS / "calibrate_processes.py")))


def make_fit(time, kernels, *, seed=0, side=7, gap=None, template=None, prior_width=10.0):
    """Return the fluxes of Gaussian stars on one stamp, drawn from their kernels, and the truth."""
    rng = np.random.default_rng(seed)
    level = 10.0 ** rng.uniform(2.8, 3.6, len(kernels))
    truth = level + draw_prior(kernels, time, n_draw=1, rng=rng)[0]
    if template is not None:
        truth[:, 0] -= template
    axis = np.arange(side, dtype=np.float64)
    pixel = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    place = rng.uniform(1.5, side - 2.5, (len(kernels), 2))
    light = np.exp(-0.5 * np.sum((pixel[:, None] - place) ** 2, axis=2) / 0.64) / (2 * np.pi * 0.64)
    ivar = np.ones((time.size, len(pixel)))
    ivar[rng.uniform(size=ivar.shape) < 0.02] = 0.0
    if gap is not None:
        ivar[gap] = 0.0
    data = np.where(ivar > 0, truth @ light.T + rng.normal(size=ivar.shape), np.nan)
    prior = GaussianPrior.from_sigma(level, prior_width * level)
    problem = LinearProblem(DesignStack.from_sparse(csr_matrix(light)), data, ivar, prior)
    posterior = choose_solver(problem).solve(problem)
    return FluxFit(posterior.mean, posterior.std, np.zeros(truth.shape, np.int64), problem, posterior), truth


KERNELS = (
    ProcessKernel("matern32", sigma=15.0, scale=0.5),
    ProcessKernel("matern12", sigma=20.0, scale=1.0, white=2.0),
    ProcessKernel("matern52", sigma=25.0, scale=0.3),
)


def test_equals_the_dense_twin_of_the_pixels():
    """From the fluxes and their covariances alone, the answer is that of all pixels of all cadences."""
    time = np.sort(np.random.default_rng(3).uniform(0.0, 2.0, 12))
    fit, _ = make_fit(time, KERNELS, gap=slice(5, 7), prior_width=0.1)
    curves = fit_light_curves(fit, time, dict(enumerate(KERNELS)))
    group = curves.groups[0]
    twin = dense_processes(fit.problem, KERNELS, time, group.columns)
    std = np.sqrt(np.einsum("titi->ti", twin.covariance))
    np.testing.assert_allclose((curves.flux - twin.mean) / std, 0.0, atol=1e-9)
    np.testing.assert_allclose(curves.flux_err, std, rtol=1e-9)
    assert group.posterior.log_evidence.sum() == pytest.approx(twin.log_evidence.sum(), rel=1e-9)
    np.testing.assert_allclose(group.posterior.log_loo, twin.log_loo, atol=1e-6)


def test_stars_that_are_not_named_keep_a_free_flux():
    """Integrated out under the prior of the fit: white noise of that width in the twin."""
    time = np.linspace(0.0, 2.0, 15)
    fit, _ = make_fit(time, KERNELS, prior_width=0.1)
    curves = fit_light_curves(fit, time, {0: KERNELS[0]})
    prior, group = fit.prior, curves.groups[0]
    free = tuple(ProcessKernel("constant", white=float(one)) for one in prior.precision[1:] ** -0.5)
    values = np.zeros((15, 3, 3))
    values[:, np.arange(3), np.arange(3)] = 1.0
    precision = np.diag(np.concatenate([prior.precision[:1], [1e12, 1e12]]))
    columns = replace(group.columns, values=values, mean=prior.mean, precision=precision)
    twin = dense_processes(fit.problem, (KERNELS[0], *free), time, columns)
    np.testing.assert_allclose(curves.flux[:, 0], twin.mean[:, 0], rtol=1e-9)
    np.testing.assert_allclose(curves.flux_err[:, 0], np.sqrt(np.einsum("titi->ti", twin.covariance))[:, 0], rtol=1e-6)
    assert np.isnan(curves.flux[:, 1:]).all()


TIME = np.arange(600) * 0.0204


@pytest.fixture(scope="module")
def learned():
    gap = slice(250, 290)
    fit, truth = make_fit(TIME, KERNELS, seed=4, gap=gap)
    return fit, truth, gap, fit_light_curves(fit, TIME, dict.fromkeys(range(3), "learn"))


def test_learned_kernels_are_near_the_truth(learned):
    _, _, _, curves = learned
    for source, true in enumerate(KERNELS):
        found = curves.kernel(source)
        assert found.sigma == pytest.approx(true.sigma, rel=0.6)
        group, place = curves.find(source)
        assert group.log_bayes_factor[place] > 50.0


def test_learned_kernels_have_the_highest_evidence(learned):
    fit, _, _, curves = learned
    best = sum(group.posterior.log_evidence.sum() for group in curves.groups)
    true = fit_light_curves(fit, TIME, dict(enumerate(KERNELS)))
    assert best > sum(group.posterior.log_evidence.sum() for group in true.groups)
    for source in range(3):
        for factor in (0.7, 1.4):
            moved = {s: curves.kernel(s) for s in range(3)}
            moved[source] = replace(moved[source], sigma=factor * moved[source].sigma)
            other = fit_light_curves(fit, TIME, moved)
            assert sum(group.posterior.log_evidence.sum() for group in other.groups) < best


def test_errors_cover_the_truth_and_are_smaller_than_those_of_free_fluxes(learned):
    fit, truth, gap, curves = learned
    score = (curves.flux - truth) / curves.flux_err
    assert np.sqrt(np.mean(score**2)) == pytest.approx(1.0, abs=0.15)
    outside = np.ones(TIME.size, bool)
    outside[gap] = False
    assert np.median(fit.flux_err[outside] / curves.flux_err[outside], axis=0).min() > 1.2
    assert np.all(curves.flux_err[260:280].mean(axis=0) > 2.0 * np.median(curves.flux_err[outside], axis=0))


def test_errors_hold_that_of_learned_kernels(learned):
    """None for kernels that are given; for learned ones less than the rest of the error, and none at the few cadences
    where the numbers around those found give smaller errors."""
    fit, _, _, curves = learned
    given = fit_light_curves(fit, TIME, {0: KERNELS[0], 1: "learn"})
    (group, place), (other, known) = given.find(1), given.find(0)
    assert np.all(other.kernel_err[:, known] == 0.0)
    assert np.mean(group.kernel_err[:, place] > 0.0) > 0.8
    for one in curves.groups:
        np.testing.assert_allclose(
            curves.flux_err[:, one.source] ** 2, one.posterior.std**2 + one.kernel_err**2, rtol=1e-12
        )
        assert np.median(one.kernel_err / one.posterior.std) < 0.5


@pytest.mark.parametrize("white", [0.0, 3.0], ids=["at a bound", "inside"])
def test_error_of_learning_agrees_with_the_posterior_of_the_numbers(white):
    """Within 5 % of an error of importance sampling over all numbers at once, from their prior between their bounds."""
    time = np.arange(120) * 0.02
    fit, _ = make_fit(time, [ProcessKernel("matern32", sigma=15.0, scale=0.2, white=white)], seed=4)
    curves = fit_light_curves(fit, time, {0: "matern32"})
    group, search = curves.groups[0], SearchRange.of(flux_information(fit, np.array([0])), time)
    center, (low, high) = search.numbers(group.kernels[0]), search.bounds("matern32")
    rng, spread = np.random.default_rng(0), np.array([0.3, 0.4, 0.3])
    moments = np.zeros((3, time.size))
    for _ in range(600):
        away = rng.standard_normal(3)
        at = center + spread * away
        if np.any((at < low) | (at > high)):
            continue
        one = solve_processes(group.information, (search.kernel("matern32", at),), time, group.columns)
        gain = float(one.log_evidence.sum() - group.posterior.log_evidence.sum())
        gain += search.log_prior(search.kernel("matern32", at))[0] - search.log_prior(group.kernels[0])[0]
        mean, variance = one.mean[:, 0] - curves.flux[:, 0], one.std[:, 0] ** 2
        moments += np.exp(gain + 0.5 * away @ away) * np.array([np.ones(time.size), mean, mean**2 + variance])
    expected = moments[2] / moments[0]
    assert np.median(curves.flux_err[:, 0] / np.sqrt(expected)) == pytest.approx(1.0, abs=0.05)
    assert np.median(expected / group.posterior.std[:, 0] ** 2) > 1.0


@pytest.mark.parametrize("family", ["matern12", "oscillator", "constant"])
def test_slopes_of_the_prior_are_its_derivatives(family):
    search = SearchRange(error=2.0, scatter=5.0, step=0.02, length=10.0)
    numbers = search.numbers(ProcessKernel(family, sigma=3.0, scale=0.7, white=1.0, quality=2.0))
    steps = 1e-5 * np.eye(numbers.size)
    ahead, behind = ([search.log_prior(search.kernel(family, numbers + s * one))[0] for one in steps] for s in (1, -1))
    slopes = search.log_prior(search.kernel(family, numbers))[1]
    np.testing.assert_allclose(slopes, (np.array(ahead) - behind) / 2e-5, atol=1e-8)


def test_a_process_that_is_hidden_in_the_noise_is_not_taken_for_none():
    """A field of docs/scripts/calibrate_processes.py: by the evidence alone the star had sigma 0.12 for 3.5, and light
    that was wrong by 5 errors (rms)."""
    rng, time = np.random.default_rng([3, 2040]), np.arange(300) * CALIBRATION.CADENCE
    kernels = CALIBRATION.draw_kernels(4, rng)
    fit, truth = CALIBRATION.make_fit(time, kernels, rng)
    curves = fit_light_curves(fit, time, dict.fromkeys(range(4), "learn"))
    assert kernels[3].sigma == pytest.approx(3.5, abs=0.05)
    assert 1.0 < curves.kernel(3).sigma < 5.0
    assert np.sqrt(np.mean(((curves.flux - truth) / curves.flux_err)[:, 3] ** 2)) < 2.0


def test_draws_agree_with_mean_and_errors(learned):
    _, _, _, curves = learned
    draws = curves.draws(np.array([2, 0]), 400, np.random.default_rng(1))
    assert draws.shape == (400, TIME.size, 2)
    for k, source in enumerate((2, 0)):
        group, place = curves.find(source)  # draws take the learned kernels as known
        score = (draws[:, :, k] - curves.flux[:, source]) / group.posterior.std[:, place]
        assert abs(score.mean()) < 0.02
        assert score.std() == pytest.approx(1.0, abs=0.02)


def test_predictions_between_cadences_lie_between_them(learned):
    _, _, _, curves = learned
    flux, error = curves.at(TIME[100:200] + 1e-6)
    np.testing.assert_allclose(flux[:, 0], curves.flux[100:200, 0], atol=0.05)
    group, place = curves.find(0)
    np.testing.assert_allclose(error[:, 0], group.posterior.std[100:200, place], rtol=0.02)
    far, far_err = curves.at(np.array([TIME[-1] + 100.0]))
    level, spread = curves.groups[0].level[0], curves.kernel(0).sigma
    assert far[0, 0] == pytest.approx(level, abs=1e-6)
    assert far_err[0, 0] == pytest.approx(np.hypot(spread, curves.groups[0].level_err[0]), rel=0.05)
    with pytest.raises(InputError, match="time: expected times that are not those of the data"):
        curves.at(TIME[:2])


def test_a_star_of_constant_light_is_told_from_one_that_varies():
    still, moving = ProcessKernel("constant"), ProcessKernel("matern32", sigma=10.0, scale=0.5)
    fit, truth = make_fit(TIME, (still, moving), seed=1)
    curves = fit_light_curves(fit, TIME, {0: "learn", 1: "learn"})
    verdict = [curves.find(s)[0].log_bayes_factor[curves.find(s)[1]] for s in range(2)]
    assert verdict[0] < 1.0
    assert verdict[1] > 50.0
    assert curves.flux_err[:, 0].max() < 0.3 * fit.flux_err[:, 0].min()
    assert abs(curves.flux[:, 0] - truth[:, 0]).max() < 4.0 * curves.flux_err[:, 0].max()


def test_an_oscillators_period_is_found():
    kernel = ProcessKernel("oscillator", sigma=20.0, scale=1.7, quality=4.0)
    fit, _ = make_fit(np.arange(900) * 0.0204, (kernel,), seed=2)
    curves = fit_light_curves(fit, np.arange(900) * 0.0204, {0: "oscillator"})
    assert curves.kernel(0).scale == pytest.approx(1.7, rel=0.15)


def test_a_process_eats_a_transit_that_is_not_named():
    phase = np.abs(TIME - 6.0)
    shape = np.clip((0.25 - phase) / 0.05, 0.0, 1.0)
    kernel = ProcessKernel("matern32", sigma=20.0, scale=0.5)
    fit, _ = make_fit(TIME, (kernel,), seed=5, template=30.0 * shape)
    named = fit_light_curves(fit, TIME, {0: kernel}, templates={0: shape})
    group = named.groups[0]
    assert abs(group.dip[0] - 30.0) < 3.0 * group.dip_err[0]
    quiet, _ = make_fit(TIME, (kernel,), seed=5)
    eaten = (fit_light_curves(quiet, TIME, {0: kernel}).flux - fit_light_curves(fit, TIME, {0: kernel}).flux)[:, 0]
    assert eaten[shape == 1.0].mean() > 0.8 * 30.0


def test_groups_stay_small_and_keep_the_most_correlated():
    fit, _ = make_fit(np.arange(4) * 0.1, KERNELS * 3, seed=7)
    row = fit.posterior.covariance(0)
    std = np.sqrt(np.diag(row))
    correlation = np.abs(row / np.outer(std, std)) - np.eye(9)
    groups = split_by_correlation(fit, np.arange(9), 4)
    assert sorted(np.concatenate(groups).tolist()) == list(range(9))
    assert max(group.size for group in groups) <= 4
    closest = np.unravel_index(np.argmax(correlation), correlation.shape)
    assert any(set(closest) <= set(group.tolist()) for group in groups)


def test_refuses_what_makes_no_sense():
    fit, _ = make_fit(TIME[:30], KERNELS)
    with pytest.raises(InputError, match="time: expected times that ascend"):
        fit_light_curves(fit, TIME[:30][::-1], {0: KERNELS[0]})
    with pytest.raises(InputError, match="template: expected stars that are solved as processes, got source 2"):
        fit_light_curves(fit, TIME[:30], {0: KERNELS[0]}, templates={2: np.ones(30)})
    flat = replace(fit, problem=replace(fit.problem, prior=GaussianPrior(np.ones(3), np.zeros(3))))
    with pytest.raises(InputError, match="fit: expected a prior of finite width"):
        fit_light_curves(flat, TIME[:30], {0: KERNELS[0]})


# From pixels to trees


@pytest.fixture(scope="module")
def machine():
    field = make_field(n_source=3, n_time=60, n_stamp=2, rng=np.random.default_rng(0), mag_range=(12.0, 14.0))
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint")
    return machine


def test_machine_needs_fluxes_first(machine):
    with pytest.raises(StageError, match="fit_model"):
        machine.fit_light_curves()


def test_machine_keeps_and_writes_processes(machine):
    machine.fit_model()
    kernel = bp.ProcessKernel("matern32", sigma=5.0, scale=1.0)
    event = (np.arange(60) > 40) & (np.arange(60) < 44)
    curves = machine.fit_light_curves([0, 2], kernel, template={0: event})
    assert machine.fit.process is curves
    tree = machine.to_datatree()
    group = tree["process"].to_dataset()
    assert list(group["kernel"].values) == ["matern32", "", "matern32"]
    xr.testing.assert_equal(group["flux"][:, 0].reset_coords(drop=True), xr.DataArray(
        curves.flux[:, 0], dims="time", coords={"time": machine.time}, name="flux"
    ))  # fmt: skip
    assert np.isfinite(group["dip"].values[0])
    assert np.isnan(group["dip"].values[1:]).all()
    curve = to_lightkurve(tree, machine.sources.source_id[2], process=True)
    np.testing.assert_array_equal(curve.flux.value, curves.flux[:, 2])
    assert "cadence_flux_err" in curve.columns
    machine.fit_model()
    assert machine.fit.process is None


def test_machine_names_what_it_cannot_use(machine):
    machine.fit_model()
    with pytest.raises(InputError, match="kernel: expected one of 'learn', 'matern12'"):
        machine.fit_light_curves(kernel="wiggly")
    with pytest.raises(InputError, match="template: expected a mapping from star to event"):
        machine.fit_light_curves([0, 1], "constant", template=np.ones(60))
    with pytest.raises(InputError, match="tree: expected a group process, got none"):
        to_lightkurve(machine.to_datatree(), machine.sources.source_id[0], process=True)
