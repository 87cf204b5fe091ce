"""The PRF as a function on the sky, the image it is learned from, and the prior of the fluxes."""

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.photometry.fluxes import default_prior, flag_degenerate, make_prior
from bayesprf.scene.image import reduce_image
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf import PrfModel, round_coordinates

AREA = 15.8


@pytest.fixture
def prf():
    """A lopsided, sheared PRF that falls like a star's."""
    basis = PolarBasis()
    weights = -2.5 * np.log10(1.0 + (basis.centers / 4.0) ** 2)
    weights[basis.n_core :] += np.random.default_rng(1).normal(0.0, 0.1, basis.n_basis - basis.n_core)
    return PrfModel(basis, weights, AREA, shear=(0.06, -0.03), tail_slope=-3.2).normalized()


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
    brighter = PrfModel(prf.basis, prf.weights + 0.7, AREA, prf.shear, prf.tail_slope)
    np.testing.assert_allclose(np.ptp(brighter.weights - prf.weights), 0.0, atol=1e-12)
    assert brighter.area() == pytest.approx(10.0**0.7, rel=1e-12)
    np.testing.assert_allclose(brighter.normalized().weights, prf.weights, rtol=1e-12)


def test_wing_is_a_power_law(prf):
    phi = np.array([0.3, 2.0])
    near, far = (prf.evaluate(r * np.cos(phi), r * np.sin(phi)) for r in (30.0, 60.0))
    np.testing.assert_allclose(np.log2(far / near), -3.2, rtol=1e-9)


def test_slope_of_the_wing_is_kept_in_bounds(prf):
    assert prf.with_tail(-3.0).tail_slope == -3.0
    assert prf.with_tail(-1.0).tail_slope == -2.5
    assert np.isfinite(prf.with_tail(0.0).area())


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


# The image


@pytest.fixture
def pixels():
    rng = np.random.default_rng(3)
    flux, error = rng.normal(100.0, 5.0, (7, 4)), rng.uniform(1.0, 3.0, (7, 4))
    flux[2, 1], error[4, 1], error[:, 3] = np.nan, 0.0, np.nan
    return PixelTable(np.arange(7.0), flux, error, np.zeros(4), np.zeros(4), np.arange(4), np.zeros(4))


@pytest.mark.parametrize("mask", [None, np.array([1, 1, 1, 0, 1, 0, 1], bool)])
def test_mean_image_has_the_variance_of_the_mean(pixels, mask):
    image = reduce_image(pixels, "mean", mask)
    for pixel in range(4):
        used = (pixels.ivar[:, pixel] > 0) & (True if mask is None else mask)
        if not used.any():
            assert (image.flux[pixel], image.ivar[pixel]) == (0.0, 0.0)
            continue
        assert image.flux[pixel] == pytest.approx(pixels.flux[used, pixel].mean(), rel=1e-14)
        variance = np.sum(pixels.flux_err[used, pixel] ** 2) / used.sum() ** 2
        assert image.ivar[pixel] == pytest.approx(1.0 / variance, rel=1e-12)


def test_one_frame(pixels):
    image = reduce_image(pixels, 2)
    np.testing.assert_array_equal(image.flux, np.where([1, 0, 1, 0], np.nan_to_num(pixels.flux[2]), 0.0))
    np.testing.assert_array_equal(image.ivar, pixels.ivar[2])
    assert image.cadence_error == pytest.approx(np.median(pixels.flux_err[2, [0, 2]]))


# The prior


def test_default_prior_is_ten_times_the_expected_flux():
    prior = default_prior(np.array([100.0, np.nan, 0.5, -3.0]), 2.0)
    np.testing.assert_allclose(prior.mean, [100.0, 0.0, 0.5, 0.0])
    np.testing.assert_allclose(prior.precision**-0.5, [1000.0, 1000.0, 20.0, 1000.0])


def test_given_prior_replaces_the_default_one_by_one():
    expected = np.array([10.0, 20.0])
    only_mean = make_prior(expected, 1.0, prior_mu=np.array([1.0, 2.0]), prior_sigma=None)
    np.testing.assert_allclose(only_mean.mean, [1.0, 2.0])
    np.testing.assert_allclose(only_mean.precision**-0.5, [100.0, 200.0])
    only_width = make_prior(expected, 1.0, prior_mu=None, prior_sigma=np.inf)
    np.testing.assert_allclose(only_width.mean, expected)
    np.testing.assert_allclose(only_width.precision, 0.0)
    with pytest.raises(InputError, match=r"^prior_sigma: expected widths above 0 .* got 0.0 for source 1"):
        make_prior(expected, 1.0, prior_mu=None, prior_sigma=np.array([1.0, 0.0]))


def test_degenerate_fluxes_are_those_the_prior_decides():
    prior = default_prior(np.array([10.0, 10.0, 10.0]), 1.0)
    found = flag_degenerate(np.array([[70.0, 49.0, np.nan]]), prior)
    np.testing.assert_array_equal(found, [[True, False, False]])
