"""What the joint fit leaves open, in the fluxes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import diags

from bayesprf.instruments import TESS
from bayesprf.machine import Machine
from bayesprf.prf.joint.discrepancy import _ring_variances, half_rings, ring_response, wing_errors
from bayesprf.prf.joint.problem import look, star_columns, wing_light
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


def test_wings_of_others_err_as_one_under_a_star(fit):
    """The answer to each ring of each other star's wing; never to the star's own, nor to more than any light."""
    view = look(fit.problem, fit.state)
    gain = _position_gain(fit, view)[::2]
    errors = (0.01, 0.02, 1e5)
    found = wing_errors(gain, fit.problem, fit.state, view, errors).toarray()
    n, rings = fit.problem.n_source, wing_light(fit.problem, fit.state, view)
    for k, error in enumerate((0.01, 0.02, 3**-0.5)):
        expected = -error * (gain @ rings[k]).toarray()
        np.fill_diagonal(expected, 0.0)
        np.testing.assert_allclose(found[:, k * n : (k + 1) * n], expected, rtol=1e-12, atol=1e-12)


def test_errors_of_fluxes_by_rings_are_those_of_sparse_products(fit):
    """The compiled sums equal `ring_response` and `wing_errors` to the fluxes' own answer."""
    problem, state, rng = fit.problem, fit.state, np.random.default_rng(2)
    view, weight, first = look(problem, state), fit.weight, fit.posterior.flux_rows
    answer = first @ star_columns(problem, state, view).T @ diags(weight)
    factors, wings = 0.01 * rng.standard_normal((2, 6, 6)), (0.01, 0.02, 1e5)
    own, light = state.flux[:, None] * fit.sums.rings, half_rings(problem, state, view)
    rings = ring_response(answer @ light.T, light, weight > 0, own, factors)
    others = wing_errors(answer.tocsr(), problem, state, view, wings)
    expected = sum(np.asarray(one.multiply(one).sum(axis=1)).ravel() for one in (rings, others))
    found = _ring_variances(problem, state, view, first, weight=weight, own=own, factors=factors, wings=wings)
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
    # Half a per cent: the columns beside, which were left out before, tell of the core (more than 1 % without them).
    assert masked[0] > 0.005
