"""What the joint fit leaves open, in the fluxes."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_matrix, diags

from bayesprf.instruments import TESS
from bayesprf.machine import Machine
from bayesprf.prf.joint.discrepancy import RingPairs, _ring_variances, error_sizes, ring_response, wing_errors
from bayesprf.prf.joint.problem import WING_RINGS, global_columns, look, peaks, star_columns
from bayesprf.prf.joint.step import solve_step
from bayesprf.simulation.fields import make_field
from bayesprf.uncertainty.joint_errors import _position_gain, masked_share_error, star_factor, star_response


@pytest.fixture(scope="module")
def fit():
    """The joint fit of 16 stars, some of them blended."""
    field = make_field(rng=np.random.default_rng(4), n_source=16, n_stamp=6, n_time=4, mag_range=(11.0, 14.0))
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint", field_variation=0)
    return machine.fit.prf.joint


def test_positions_follow_the_errors_of_rings_as_in_a_step_of_the_fit(fit, monkeypatch):
    """Light added to one side of a star: the step of the stars' parameters at the same PRF."""
    monkeypatch.setattr("bayesprf.prf.joint.elimination._LEAST", 0.0)
    state, problem = fit.state, fit.problem
    view = look(problem, state)
    star = int(np.argmax(state.flux))
    rings, pairs = RingPairs.of(problem, state, view, fit.hyper), problem.pairs
    half = (pairs.source == star) & (rings.ring == 0) & (rings.direction[:, 1] > 0.0)
    light = 1e-3 * np.bincount(pairs.pixel[half], weights=rings.light[half], minlength=pairs.n_pixel)
    found = (_position_gain(fit, view) @ light).reshape(-1, 2)
    steps = []
    for extra in (0.0, light):
        aimed = replace(problem, flux=view.image + extra)
        solution = solve_step(aimed, state, view, fit.hyper, weight=fit.weight, error=1.0)
        own = solution.own.ravel() + fit.posterior.response @ solution.common  # at known global parameters
        steps.append(own.reshape(-1, 3)[:, 1:])
    expected = steps[1] - steps[0]
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_one_more_star_follows_what_all_share_as_those_of_the_fit():
    """A star alone on its pixels: the derivatives of its light, at a flux of one."""
    field = make_field(
        rng=np.random.default_rng(1), n_source=1, n_stamp=1, n_time=4, stamp_sides=(11,), stamp_fill=1.0,
        mag_range=(9.5, 11.5), instrument=TESS,
    )  # fmt: skip
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint", prf="instrument")
    fit = machine.fit.prf.joint
    problem, view = fit.problem, look(fit.problem, fit.state)
    light = np.bincount(problem.pairs.pixel, view.values, problem.flux.size)
    columns = global_columns(problem, fit.state, view) / fit.state.flux[0]
    expected = ((columns - light[:, None] * fit.sums.gradient[0]) / fit.sums.total[0])[problem.pairs.pixel]
    found = star_response(fit, machine.fit.prf.prf, *view.offset.T)
    largest = np.abs(expected).max(axis=0)
    # The sum over pixels differs from the integral by less than this.
    assert np.all(np.abs(found - expected).max(axis=0) <= 0.01 * largest)
    assert np.count_nonzero(largest) > problem.basis.n_basis
    factor = star_factor(fit, machine.fit.prf.prf, *view.offset.T)
    covariance = expected @ fit.posterior.global_factor
    np.testing.assert_allclose(
        np.linalg.norm(factor[:, :-2], axis=1), np.linalg.norm(covariance, axis=1), rtol=0.02, atol=1e-6
    )


def wing_of(fit, star, view):
    """Return light of a star, electron / s, and radius, pixel, in the pixels of its pairs."""
    pairs, side = fit.problem.pairs, np.sqrt(fit.problem.pixel_area)
    own = pairs.source == star
    light = fit.state.flux[star] * view.values[own]
    return pairs.pixel[own], light, np.hypot(*view.offset[own].T) / side


def test_wings_of_others_err_as_one_under_a_star(fit):
    """What single pixels of a ring err by, of the model and of its own, adds up; no star's own, nor more than any."""
    view = look(fit.problem, fit.state)
    gain = _position_gain(fit, view)[::2]
    hyper = replace(fit.hyper, eps=1e-3, eps_field=0.0, wings=(0.01, 0.02, 1e5))
    found = wing_errors(gain, fit.problem, fit.state, view, hyper).toarray()
    n, peak = fit.problem.n_source, peaks(fit.problem, fit.state)
    for star in np.argsort(-fit.state.flux)[:3]:
        pixel, light, radius = wing_of(fit, star, view)
        for k, (low, high) in enumerate(pairwise((*WING_RINGS, np.inf))):
            error = np.sqrt(1e-6 * peak[star] * light + (hyper.wings[k] * light) ** 2)
            error = np.where((radius >= low) & (radius < high), np.minimum(error, 3**-0.5 * light), 0.0)
            expected = -(gain[:, pixel] @ error)
            expected[star] = 0.0
            np.testing.assert_allclose(found[:, k * n + star], expected, rtol=1e-9, atol=1e-12)
            assert k == 2 or np.any(expected)


@pytest.mark.parametrize(("n_order", "all_pixels"), [(0, True), (1, True), (2, True), (3, True), (3, False)])
def test_errors_of_fluxes_by_rings_are_those_of_sparse_products(fit, monkeypatch, n_order, all_pixels):
    """The compiled sums equal `ring_response` and `wing_errors` to the fluxes' own answer."""
    if all_pixels:
        monkeypatch.setattr("bayesprf.prf.joint.discrepancy._LEAST", 0.0)
    problem, state, rng = fit.problem, fit.state, np.random.default_rng(2)
    view, weight, first = look(problem, state), fit.weight, fit.posterior.flux_rows
    answer = first @ star_columns(problem, state, view).T @ diags(weight)
    factors, hyper = 0.01 * rng.standard_normal((3, 6, 6)), replace(fit.hyper, wings=(0.01, 0.02, 1e5))
    factors *= (np.arange(3) < n_order)[:, None, None]
    own = state.flux[:, None] * fit.sums.rings
    rings = ring_response(answer.tocsr(), problem, state, view, hyper, used=weight > 0, own=own, factors=factors)
    others = wing_errors(answer.tocsr(), problem, state, view, hyper)
    expected = sum(np.asarray(one.multiply(one).sum(axis=1)).ravel() for one in (rings, others))
    found = _ring_variances(problem, state, view, first, weight=weight, own=own, factors=factors, hyper=hyper)
    # Pixels that hardly count for a star are left out.
    np.testing.assert_allclose(found, expected, rtol=1e-9 if all_pixels else 1e-3)


def test_harmonics_have_the_mean_square_one_around_a_ring():
    angle = 2.0 * np.pi / 24 * np.arange(24)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rings = RingPairs(np.full(24, 3.0), np.zeros(24, np.int64), direction)
    parts = np.stack([rings.part(part) for part in range(5)])
    np.testing.assert_allclose(parts @ parts.T / 24, 9.0 * np.eye(5), atol=1e-12)
    waves = [np.cos(angle), np.sin(angle), np.cos(2.0 * angle), np.sin(2.0 * angle)]
    np.testing.assert_allclose(parts[1:], 3.0 * np.sqrt(2.0) * np.array(waves), atol=1e-12)


def test_a_flux_that_weighs_all_pixels_alike_answers_to_light_that_is_not_seen_alone(fit):
    """Of dipoles and ellipses to none; of rings as a whole to those beyond the pixels that count."""
    problem, state = fit.problem, fit.state
    view, used, n = look(problem, state), fit.problem.used, fit.problem.n_source
    answer = csr_matrix(np.tile(used.astype(np.float64), (n, 1)))
    factors, own = np.tile(np.eye(6), (3, 1, 1)), state.flux[:, None] * fit.sums.rings
    found = ring_response(answer, problem, state, view, fit.hyper, used=used, own=own, factors=factors).toarray()
    found = found.reshape(n, 5, n, 6)[np.arange(n), :, np.arange(n)]
    np.testing.assert_allclose(found[:, 1:], 0.0, atol=1e-9 * own.max())
    rings, pairs = RingPairs.of(problem, state, view, fit.hyper), problem.pairs
    seen = np.zeros_like(own)
    np.add.at(seen, (pairs.source, rings.ring), np.where(used[pairs.pixel], rings.light, 0.0))
    np.testing.assert_allclose(found[:, 0], seen - own, atol=1e-9 * own.max())


def test_errors_of_rings_grow_over_the_field_as_those_of_pixels_do(fit):
    """One star at the edge, where a quadratic surface leaves ten times what errs in the middle, and five there."""
    hyper = replace(fit.hyper, eps=1e-3, eps_field=10e-3)
    np.testing.assert_array_equal(error_sizes(fit.problem, hyper), 1.0)  # a PRF that does not vary has no such error
    place = np.zeros((6, 6))
    place[0, 0] = 1.0
    varying = SimpleNamespace(place=place, base=None, n_field=6, colored=0)
    expected = np.sqrt([101.0, 1.0, 1.0, 1.0, 1.0, 1.0]) / np.sqrt(106.0 / 6.0)
    np.testing.assert_allclose(error_sizes(varying, hyper), expected, rtol=1e-12)


def test_errors_of_fluxes_by_rings_prefer_no_direction(fit):
    """The angle of all pixels about their stars is counted from another one."""
    problem, state, rng = fit.problem, fit.state, np.random.default_rng(3)
    view, answer = look(problem, state), _position_gain(fit, look(problem, state))[::2]
    factors, own = 0.01 * rng.standard_normal((3, 6, 6)), state.flux[:, None] * fit.sums.rings
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    variances = []
    for seen in (view, replace(view, offset=view.offset @ turn)):
        found = ring_response(answer, problem, state, seen, fit.hyper, used=problem.used, own=own, factors=factors)
        variances.append(np.asarray(found.multiply(found).sum(axis=1)).ravel())
    np.testing.assert_allclose(variances[1], variances[0], rtol=1e-9)


def test_light_in_pixels_that_are_left_out_errs_together(monkeypatch):
    """The sum of PRF and error of its logarithm, by draws of the weights, over the saturated pixels of one star."""
    field = make_field(
        rng=np.random.default_rng(5), n_source=3, n_time=4, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0,
        mag_range=(9.5, 11.0), min_separation=3.0, instrument=TESS,
    )  # fmt: skip
    # As where columns go on beyond the data: their sums would tell of the core.
    monkeypatch.setattr("bayesprf.prf.joint.start._Spilled.of", lambda *_: None)
    core = np.hypot(field.pixels.column - field.column[0], field.pixels.row - field.row[0]) < 1.0
    found = []
    for saturated in (np.zeros_like(core), core):
        machine = Machine.from_pixels(replace(field.pixels, saturated=saturated), field.sources, quiet=True)
        machine.build_shape_model(method="joint", prf="instrument")
        found.append(machine.fit.need("prf").joint)
    whole, masked = (masked_share_error(one, look(one.problem, one.state)) for one in found)
    assert not np.any(whole)
    fit, view = found[1], look(found[1].problem, found[1].state)
    out = ~fit.problem.used[fit.problem.pairs.pixel] & (fit.problem.pairs.source == 0)
    weights = fit.posterior.global_factor[: fit.problem.basis.n_basis]
    weights = weights @ np.random.default_rng(1).standard_normal((weights.shape[1], 4000))
    x, y = view.place[out].T
    log = fit.problem.basis.matrix(np.hypot(x, y), np.arctan2(y, x)) @ weights
    assert masked[0] == pytest.approx(np.log(10.0) * fit.values[out] @ log.std(axis=1), rel=0.05)
    assert masked[0] > 0.0
    # What the record leaves open of a PRF errs in these pixels together.
    assert "masked" not in (machine.fit_model() or machine.common_errors.parts)
