"""What the joint fit leaves open, in the fluxes."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import diags

from bayesprf.instruments import TESS
from bayesprf.machine import Machine
from bayesprf.prf.joint.discrepancy import _ring_variances, half_rings, ring_response, wing_errors
from bayesprf.prf.joint.problem import WING_RINGS, look, peaks, star_columns
from bayesprf.prf.joint.step import solve_step
from bayesprf.simulation.fields import make_field
from bayesprf.uncertainty.joint_errors import _position_gain, masked_share_error


@pytest.fixture(scope="module")
def fit():
    """The joint fit of 16 stars, some of them blended."""
    field = make_field(rng=np.random.default_rng(4), n_source=16, n_stamp=6, n_time=4, mag_range=(11.0, 14.0))
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint", field_variation=0)
    return machine.fit.prf.joint


def test_positions_follow_the_errors_of_rings_as_in_a_step_of_the_fit(fit, monkeypatch):
    """Light added to half a ring of one star: the step of the stars' parameters at the same PRF."""
    monkeypatch.setattr("bayesprf.prf.joint.elimination._LEAST", 0.0)
    state, problem = fit.state, fit.problem
    view = look(problem, state)
    star = int(np.argmax(state.flux))
    part = half_rings(problem, state, view)[12 * star + 1]  # the northern half of its innermost ring
    light = 1e-3 * np.asarray(part.todense()).ravel()
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


def test_errors_of_fluxes_by_rings_are_those_of_sparse_products(fit):
    """The compiled sums equal `ring_response` and `wing_errors` to the fluxes' own answer."""
    problem, state, rng = fit.problem, fit.state, np.random.default_rng(2)
    view, weight, first = look(problem, state), fit.weight, fit.posterior.flux_rows
    answer = first @ star_columns(problem, state, view).T @ diags(weight)
    factors, hyper = 0.01 * rng.standard_normal((2, 6, 6)), replace(fit.hyper, wings=(0.01, 0.02, 1e5))
    own, light = state.flux[:, None] * fit.sums.rings, half_rings(problem, state, view)
    rings = ring_response(answer @ light.T, light, weight > 0, own, factors)
    others = wing_errors(answer.tocsr(), problem, state, view, hyper)
    expected = sum(np.asarray(one.multiply(one).sum(axis=1)).ravel() for one in (rings, others))
    found = _ring_variances(problem, state, view, first, weight=weight, own=own, factors=factors, hyper=hyper)
    # Pixels that hardly count for a star are left out.
    np.testing.assert_allclose(found, expected, rtol=1e-3)


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
