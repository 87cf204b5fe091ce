"""Stars that the time model spoils are found, named and keep their mean PRF; the others do not notice."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.errors import InputError, QualityWarning
from bayesprf.flags import QualityFlag
from bayesprf.machine import Machine
from bayesprf.photometry.time_guard import LeavingLight, compare_curves
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import PerturbationOptions
from bayesprf.simulation.fields import make_field

N_TIME, NOISE = 200, 1e-3
GUARD = {name: getattr(PerturbationOptions(), name) for name in ("max_worse", "max_level")}
PHASE = np.linspace(-1.0, 1.0, N_TIME)


def steady_prf(n_source):
    """Return the PRF of stars that light a pixel each, changing in time by a factor of one."""
    index = np.arange(n_source)
    pairs = PairTable(index, index, np.zeros(n_source), np.zeros(n_source), n_source, n_source)
    return PrfMatrix(pairs, np.ones((2, n_source)), np.ones((N_TIME, 2)) * [1.0, 0.0])


def judge(still, moving, **guard):
    """Return which stars are made worse, given relative curves without noise, shape (n_time, n_star)."""
    noise = NOISE * np.random.default_rng(1).standard_normal(still.shape)
    err = np.full(still.shape, 1e3 * NOISE)
    curves = (1e3 * (1.0 + still + noise), 1e3 * (1.0 + moving + noise), err)
    return compare_curves(*curves, steady_prf(still.shape[1]), **{**GUARD, **guard})


def test_motion_that_is_taken_off_and_variable_stars_that_stay_are_fine():
    motion, light = 0.03 * PHASE**2, 0.1 * np.sin(9.0 * PHASE)
    still = np.stack([motion, light, light + motion, 0.0 * PHASE], axis=1)
    moving = np.stack([0.0 * PHASE, light, light, 2e-4 * PHASE], axis=1)
    assert not judge(still, moving).worse.any()


def test_stars_that_are_made_worse_are_found_with_the_reason():
    light, jitter = 0.02 * np.sin(9.0 * PHASE), 9e-3 * np.random.default_rng(2).standard_normal(N_TIME)
    still = np.stack([0.0 * PHASE, 0.0 * PHASE, light, 0.0 * PHASE], axis=1)
    moving = np.stack([0.01 * PHASE, jitter, -light, np.full(N_TIME, -0.9)], axis=1)
    found = judge(still, moving).reason
    np.testing.assert_array_equal(found["larger slow trends"][[0, 2]], [True, False])
    np.testing.assert_array_equal(found["more scatter"][:3], [False, True, False])
    np.testing.assert_array_equal(found["level off by more than a factor of 5"], [False, False, False, True])


def test_limits_decide_what_is_worse():
    still = np.zeros((N_TIME, 2))
    moving = np.stack([0.01 * PHASE, np.full(N_TIME, -0.6)], axis=1)
    assert not judge(still, moving, max_worse=np.inf).worse.any()
    np.testing.assert_array_equal(judge(still, moving).worse, [True, False])
    np.testing.assert_array_equal(judge(still, moving, max_worse=np.inf, max_level=2.0).worse, [False, True])


@pytest.mark.parametrize("name", ["max_worse", "max_level"])
def test_limits_are_above_one(name):
    with pytest.raises(InputError, match=rf"^{name}: expected a number above 1, got 1\.0"):
        PerturbationOptions(**{name: 1.0})


def test_a_negative_prf_is_found():
    changing = replace(
        steady_prf(3), parts=np.stack([np.ones(3), [0.0, 0.5, 1.5]]), mix=np.stack([1 + 0 * PHASE, PHASE], 1)
    )
    curves = np.full((N_TIME, 3), 100.0)
    found = compare_curves(curves, curves, 0.1 * curves, changing, **GUARD)
    np.testing.assert_array_equal(found.reason["negative PRF"], [False, False, True])


def test_few_cadences_tell_nothing():
    curves = 100.0 + np.random.default_rng(3).standard_normal((6, 2))
    err = np.ones((6, 2))
    prf = replace(steady_prf(2), mix=np.ones((6, 2)) * [1.0, 0.0])
    assert not compare_curves(curves, 3.0 * (curves - 100.0) + 100.0, err, prf, **GUARD).worse.any()


def test_constant_prf_of_held_sources():
    pairs = PairTable(np.array([0, 1]), np.array([0, 1]), np.zeros(2), np.zeros(2), 2, 2)
    changing = PrfMatrix(pairs, np.array([[1.0, 2.0], [0.5, 0.5]]), np.array([[1.0, 0.0], [1.0, 1.0]]))
    held = changing.holding(np.array([True, False]), np.array([0.9, 1.9]))
    np.testing.assert_allclose([held.at(k).diagonal() for k in range(2)], [[0.9, 2.0], [0.9, 2.5]])


def round_star(dx, dy):
    return np.exp(-(dx**2 + dy**2) / 4.0) / (4.0 * np.pi)


@pytest.fixture
def shifted():
    """A round star off the middle of 7 x 7 pixels, its derivatives, and a time model that moves it east."""
    dx, dy = (one.ravel() - 1.5 for one in np.meshgrid(np.arange(-3.0, 4.0), np.arange(-3.0, 4.0)))
    prf = round_star(dx, dy)
    gradient = np.stack([0.5 * dx * prf, 0.5 * dy * prf])
    pairs = PairTable(np.zeros(49, np.int64), np.arange(49), dx, dy, 1, 49)
    mix = np.stack([np.ones(N_TIME), PHASE], axis=1)
    return PrfMatrix(pairs, np.stack([prf, 0.1 * gradient[0]]), mix), gradient


def test_light_that_a_shift_carries_off_the_pixels_is_explained(shifted):
    changing, gradient = shifted
    leaving = LeavingLight.of(changing, gradient)
    assert abs(leaving.found[0, 0]) > 1e-3
    np.testing.assert_allclose(leaving.found, leaving.expected, rtol=1e-9)
    assert not leaving.unexplained(np.array([1e-6])).any()


def test_light_that_nothing_carries_off_is_taken_back(shifted):
    moved, gradient = shifted
    changing = replace(moved, parts=np.stack([moved.parts[0], moved.parts[1] + 0.02 * moved.parts[0]]))
    leaving = LeavingLight.of(changing, gradient)
    np.testing.assert_allclose(leaving.found - leaving.expected, 0.02, rtol=1e-9)
    assert leaving.unexplained(np.array([1e-3])).all()
    assert not leaving.unexplained(np.array([0.1])).any()
    anchored = leaving.anchor(changing, np.array([True]))
    np.testing.assert_allclose(anchored.parts, moved.parts, atol=1e-12)


def test_a_constant_or_a_shifted_prf_has_no_such_parts(shifted):
    moved, gradient = shifted
    assert LeavingLight.of(PrfMatrix.constant(moved.pairs, moved.parts[0]), gradient) is None
    assert LeavingLight.of(replace(moved, mix=moved.mix[:, ::-1]), gradient) is None


@pytest.fixture(scope="module")
def spoiled():
    """A Machine whose time model makes the first star fade by a tenth."""
    field = make_field(rng=np.random.default_rng(5), n_source=6, n_stamp=6, n_time=60, mag_range=(11.0, 13.0))
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint")
    machine.build_time_model(poly_order=1)
    model = machine.fit.need("time_model")
    weights = model.source_weights.copy()
    weights[0, 0] += 0.1 / np.abs(model.vectors[:, 1]).max()
    machine.fit = machine.fit.with_stage("time_model", replace(model, source_weights=weights))
    return field, machine


def test_a_spoiled_star_keeps_its_mean_prf(spoiled):
    field, machine = spoiled
    with pytest.warns(QualityWarning, match=r"without motion: star-00000\).*TIME_MODEL_WORSE"):
        machine.fit_model(fit_va=True)
    flagged = machine.fit.flux_va.flags & QualityFlag.TIME_MODEL_WORSE
    np.testing.assert_array_equal(np.all(flagged, axis=0), np.arange(6) == 0)
    np.testing.assert_allclose(machine.ws_va[:, 0], machine.ws[:, 0], rtol=1e-3)
    assert np.std(machine.ws_va[:, 0] / field.flux[:, 0]) < 2.0 * field.cramer_rao()[0] / field.mean_flux[0]
