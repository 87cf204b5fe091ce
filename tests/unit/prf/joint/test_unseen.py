"""Light where no pixel tells of it: it wanders on as the wing did, or may end with the mission's tables."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.instruments import TESS
from bayesprf.machine import Machine
from bayesprf.prf.joint.objective import JointOptions, fit_joint
from bayesprf.prf.joint.problem import LN10, look
from bayesprf.prf.joint.trust import MAX_POWER
from bayesprf.prf.joint.unseen import _cells_about, _gradient, _moments, extrapolated_variance, unseen_light
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def fit():
    """The joint fit of one star on a TESS stamp, about the instrument's record."""
    field = make_field(
        rng=np.random.default_rng(5), n_source=1, n_time=4, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0,
        mag_range=(9.5, 11.0), instrument=TESS,
    )  # fmt: skip
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint", prf="instrument")
    return machine.fit.need("prf").joint


def _with_tables(fit, half):
    problem = replace(fit.problem, prior=replace(fit.problem.prior, table_half=half))
    return problem, look(problem, fit.state)


def _unseen(fit, half):
    problem, view = _with_tables(fit, half)
    return unseen_light(problem, fit.state, view, fit.hyper, fit.posterior, weight=fit.weight)


def test_light_beyond_the_tables_is_there_or_not(fit):
    """Half of it is expected; its error is that of a product with a Bernoulli number; the parameters' is in it."""
    assert fit.problem.prior.table_half == TESS.prf_widths.table_half
    found, without = _unseen(fit, 6.5), _unseen(fit, np.inf)
    assert without.absent == 0.0
    assert not without.gradient.any()
    cells = _cells_about(fit.problem, fit.state, look(fit.problem, fit.state), fit.weight)
    out = cells.silent & (cells.radius > 6.5 * np.sqrt(fit.problem.pixel_area))
    mean, square = _moments(fit.problem, fit.state, fit.posterior, cells, out)
    assert found.absent == pytest.approx(cells.share[out].sum() - 0.5 * mean)
    # What is silent within the tables keeps its own error.
    assert found.std >= np.sqrt(0.5 * square - 0.25 * mean**2) > 0.5 * mean
    # The fit counts it: beside one that knows of no tables fluxes are fainter by what is absent.
    plain = fit_joint(_with_tables(fit, np.inf)[0], fit.state, fit.hyper, JointOptions(), near=True)
    again = fit_joint(fit.problem, fit.state, fit.hyper, JointOptions(), near=True)
    lost = (plain.flux - again.flux) / plain.flux
    np.testing.assert_allclose(lost, _unseen(again, 6.5).absent, rtol=0.05)
    assert again.unseen_err == pytest.approx(_unseen(again, 6.5).std)


def test_pixels_that_tell_of_light_beyond_any_table_decide(fit):
    """With tables that end at 3 pixels the corners of the stamp lie beyond."""
    found, without = _unseen(fit, 3.0), _unseen(fit, np.inf)
    assert found.absent == 0.0
    assert found.std == without.std


def test_pixels_just_inside_the_corners_of_the_tables_tell_of_nothing_beyond(fit):
    """A cell from 8 pixels to 11.3 holds the corners of 6.5 pixels, at 9.2, and pixels at 8.1, which spoke for it."""
    problem, view = _with_tables(fit, 6.5)
    side, loud = np.sqrt(problem.pixel_area), 1e9 * fit.weight
    for farthest, absent in ((9.0, True), (9.5, False)):
        seen = replace(view, place=view.place * farthest * side / np.hypot(*view.place.T).max())
        cells = _cells_about(problem, fit.state, seen, loud)
        assert not cells.silent[cells.radius > 8.0 * side].all()
        found = unseen_light(problem, fit.state, seen, fit.hyper, fit.posterior, weight=loud)
        assert (found.absent > 0.0) == absent


def test_moments_are_those_of_draws(fit):
    """Draws of the splines' weights and of the wing's power, cut where light falls as slowly as it may."""
    cells = _cells_about(fit.problem, fit.state, look(fit.problem, fit.state), fit.weight)
    out, rng, n = (
        cells.silent & (cells.radius > 6.5 * np.sqrt(fit.problem.pixel_area)),
        np.random.default_rng(3),
        40_000,
    )
    rmax, factor = fit.problem.basis.rmax, fit.posterior.global_factor
    columns = fit.problem.basis.matrix(np.minimum(cells.radius[out], rmax), cells.angle[out])
    level = columns @ (factor[: fit.problem.basis.n_basis] @ rng.standard_normal((factor.shape[1], n)))
    power, sigma = fit.state.wing[0], np.linalg.norm(factor[fit.problem.n_weight])
    draws = rng.normal(power, sigma, 2 * n)
    draws = draws[draws < MAX_POWER][:n]
    log = level + np.outer(np.log10(np.maximum(cells.radius[out] / rmax, 1.0)), draws - power)
    light = cells.share[out] @ np.exp(LN10 * log)
    mean, square = _moments(fit.problem, fit.state, fit.posterior, cells, out)
    assert mean == pytest.approx(light.mean(), rel=0.02)
    assert square == pytest.approx(np.mean(light**2), rel=0.06)


def test_gradient_is_that_of_the_light(fit):
    """Steps of weights and powers of the wing."""
    cells = _cells_about(fit.problem, fit.state, look(fit.problem, fit.state), fit.weight)
    out = cells.silent & (cells.radius > 6.5 * np.sqrt(fit.problem.pixel_area))
    gradient, n_weight = _gradient(fit.problem, cells, out), fit.problem.n_weight
    rng, size = np.random.default_rng(4), 1e-6
    step = np.zeros(fit.problem.n_global)
    step[: n_weight + fit.problem.n_wing] = rng.standard_normal(n_weight + fit.problem.n_wing)
    light = []
    for sign in (-1.0, 1.0):
        state = fit.state.moved(sign * size * step, np.zeros((fit.problem.n_source, 3)))
        # Not normalised anew: the area changes, and what `_cells_about` divides by it is undone.
        area = fit.problem.rule.areas(state.weights, state.wing)[0]
        moved = _cells_about(fit.problem, state, look(fit.problem, state), fit.weight)
        light.append(moved.share[out].sum() * area)
    assert (light[1] - light[0]) / (2.0 * size) == pytest.approx(gradient @ step, rel=1e-4)


def test_extrapolated_light_errs_as_the_slope_wanders():
    # A slope that changes by a normal number of variance w step at each of many small steps of ln r.
    rng = np.random.default_rng(5)
    wander, step, n_step = 0.04, 0.01, 100
    slope = np.cumsum(rng.normal(0.0, np.sqrt(wander * step), (4000, n_step)), axis=1)
    expected = np.var(np.sum(slope, axis=1) * step)
    radius = np.array([8.0, 8.0 * np.e])
    found = extrapolated_variance(np.array([[True], [False]]), radius, wander)
    # The variance of 4000 draws is known to 2.2 %.
    np.testing.assert_allclose(found[:, 0], [0.0, expected], rtol=0.08)


def test_no_more_than_a_uniform_number_is_claimed():
    radius = np.array([8.0, 16.0, 32.0])
    told = np.array([[True, False], [False, False], [False, False]])
    found = extrapolated_variance(told, radius, 1e9)
    np.testing.assert_allclose(found, np.where(told, 0.0, 1.0 / 3.0))


def test_a_wing_that_ends_and_may_yet_not_has_moments(fit):
    """Beyond splines that end in nothing slopes are as steep as -200, and as uncertain: products of 0 and infinity."""
    state = replace(fit.state, wing=np.append(-200.0, np.zeros(fit.problem.n_wing - 1)))
    factor = fit.posterior.global_factor.copy()
    factor[fit.problem.n_weight] *= 100.0 / np.linalg.norm(factor[fit.problem.n_weight])
    problem, view = replace(fit.problem, prior=replace(fit.problem.prior, table_half=6.5)), look(fit.problem, state)
    posterior = replace(fit.posterior, global_factor=factor)
    found = unseen_light(problem, state, view, fit.hyper, posterior, weight=fit.weight)
    assert 0.0 <= found.absent < 1e-3
    assert 0.0 < found.std < 0.1
