"""The PRF as a function on the sky: area, wing, envelope, coordinates."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.scene.prf import STEPS, PrfModel, area_columns, log_motion_gradients, prf_gradients, round_coordinates

AREA = 15.8


@pytest.fixture
def prf():
    """A lopsided, sheared PRF that falls like a star's."""
    basis = PolarBasis()
    weights = -2.5 * np.log10(1.0 + (basis.centers / 4.0) ** 2)
    weights[basis.n_core :] += np.random.default_rng(1).normal(0.0, 0.1, basis.n_basis - basis.n_core)
    return PrfModel(basis, weights, AREA, shear=(0.06, -0.03), wing_slope=-3.2).normalized()


def test_area_is_one_pixel(prf):
    """Riemann sum over the sky, and the power law beyond the grid."""
    assert prf.area() == pytest.approx(1.0, rel=1e-12)
    step, edge = 0.25, 200.0
    grid = np.arange(-edge + step / 2, edge, step)
    x, y = (one.ravel() for one in np.meshgrid(grid, grid))
    inside = np.hypot(x, y) < edge
    total = prf.evaluate(x[inside], y[inside]).sum() * step**2 / AREA
    phi = np.linspace(0.0, 2.0 * np.pi, 720, endpoint=False)
    rim = prf.evaluate(edge * np.cos(phi), edge * np.sin(phi)).mean()
    outside = 2.0 * np.pi * edge**2 * rim / (3.2 - 2.0) / AREA
    assert total + outside == pytest.approx(1.0, abs=2e-4)


def test_normalisation_keeps_the_shape(prf):
    """PSFMachine, defect 1: the log-weights are multiplied, which raises the shape to a power."""
    brighter = PrfModel(prf.basis, prf.weights + 0.7, AREA, prf.shear, prf.wing_slope)
    np.testing.assert_allclose(np.ptp(brighter.weights - prf.weights), 0.0, atol=1e-12)
    assert brighter.area() == pytest.approx(10.0**0.7, rel=1e-12)
    np.testing.assert_allclose(brighter.normalized().weights, prf.weights, rtol=1e-12)


def test_wing_is_a_power_law(prf):
    phi = np.array([0.3, 2.0])
    near, far = (prf.evaluate(r * np.cos(phi), r * np.sin(phi)) for r in (30.0, 60.0))
    np.testing.assert_allclose(np.log2(far / near), -3.2, rtol=1e-9)


def test_slope_of_the_wing_is_kept_in_bounds(prf):
    assert prf.with_wing(-3.0).wing_slope == -3.0
    assert prf.with_wing(-1.0).wing_slope == -2.5
    assert np.isfinite(prf.with_wing(0.0).area())


def test_peak_is_the_value_at_the_centre(prf):
    assert prf.evaluate(np.zeros(1), np.zeros(1))[0] == pytest.approx(prf.peak, rel=1e-12)


def test_envelope_is_an_upper_bound(prf):
    rng = np.random.default_rng(2)
    dx, dy = rng.uniform(-40.0, 40.0, (2, 5000))
    r = np.hypot(dx, dy)
    assert np.all(prf.envelope(r) >= prf.evaluate(dx, dy) * (1.0 - 1e-12))
    assert np.all(np.diff(prf.envelope(np.linspace(0.0, 60.0, 300))) <= 1e-15)


def test_round_coordinates_keep_areas():
    step = 1e-6
    shear = (0.2, -0.1)
    ends = [
        round_coordinates(np.array([x]), np.array([y]), shear)
        for x, y in ((1.0, 2.0), (1 + step, 2.0), (1.0, 2 + step))
    ]
    flat = np.array([[r[0] * np.cos(phi[0]), r[0] * np.sin(phi[0])] for r, phi in ends])
    assert np.linalg.det((flat[1:] - flat[0]) / step) == pytest.approx(1.0, rel=1e-6)
    r, phi = round_coordinates(np.array([3.0]), np.array([4.0]), (0.0, 0.0))
    np.testing.assert_allclose([r[0], phi[0]], [5.0, np.arctan2(4.0, 3.0)])


OFFSETS = np.random.default_rng(4).uniform(-12.0, 12.0, (2, 50))


@pytest.mark.parametrize("name", STEPS)
def test_gradients_tell_what_a_small_change_does(prf, name):
    """To first order: the error falls with the square of the step."""
    gradient = prf_gradients(prf, *OFFSETS, names=(name,))[name]

    def moved(step):
        dx, dy = OFFSETS
        if name in ("east", "north"):
            return prf.evaluate(dx - step * (name == "east"), dy - step * (name == "north"))
        if name == "size":
            return prf.evaluate(dx / (1 + step), dy / (1 + step)) / (1 + step) ** 2
        return prf.sheared(step * (name == "e1"), step * (name == "e2")).evaluate(dx, dy)

    step = 0.2 * STEPS[name]
    np.testing.assert_allclose((moved(step) - moved(-step)) / (2 * step), gradient, atol=5e-3 * np.abs(gradient).max())


def test_gradients_of_the_logarithm_are_those_of_the_prf(prf):
    gradient = prf_gradients(prf, *OFFSETS, names=("east", "north"))
    expected = np.stack(list(gradient.values()), axis=1) / (np.log(10.0) * prf.evaluate(*OFFSETS)[:, None])
    found = log_motion_gradients(prf, *OFFSETS)
    np.testing.assert_allclose(found, expected, atol=2e-2 * np.abs(expected).max())


class Moffat:
    """The logarithm of a profile that is known beforehand."""

    def log10(self, x, y):
        return -2.5 * np.log10(1.0 + (np.hypot(x, y) / 4.0) ** 2)


@pytest.mark.parametrize("more", ["splines alone", "bends", "base"])
@pytest.mark.parametrize(("step", "slope"), [(0.0, 0.0), (0.02, 0.0), (0.0, 0.2), (0.02, -0.2)])
def test_area_follows_weights_and_slope(prf, step, slope, more):
    """Beside the closed form of `area`, after changes as large as the fit leaves open."""
    if more == "bends":
        prf = replace(prf, wing_bends=(0.3, -0.8)).normalized()
    if more == "base":
        base = Moffat()
        prf = replace(prf, base=base, weights=prf.weights - base.log10(prf.basis.centers, 0.0)).normalized()
    weights = prf.weights + step * np.random.default_rng(6).standard_normal(prf.weights.size)
    changed = replace(prf, weights=weights).with_wing(prf.wing_slope + slope)
    columns, weight = area_columns(prf)
    found = weight @ 10.0 ** (columns @ np.append(weights, changed.wing_slope))
    assert found == pytest.approx(changed.area(), rel=2e-3)
