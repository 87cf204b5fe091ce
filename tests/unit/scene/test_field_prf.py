"""The PRF over the field, and its wing."""

import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.integrate import quad

from bayesprf.design.polar import PolarBasis
from bayesprf.scene.field_prf import NODES, FieldFrame, FieldPrf, field_columns, fit_surface, node_weights
from bayesprf.scene.prf import PrfModel, wing_area, wing_columns

BASIS = PolarBasis(1.0, 16.0, 3.0, 7, 8)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_wing_area_is_its_integral():
    wing = (-2.4, -0.5, 0.3)

    def integrand(x):
        return x * 10.0 ** (wing_columns(np.array([x]), 2) @ np.array(wing))[0]

    expected = sum(quad(integrand, *bounds)[0] for bounds in ((1.0, np.sqrt(2.0)), (np.sqrt(2.0), 2.0), (2.0, np.inf)))
    np.testing.assert_allclose(wing_area(wing), expected, rtol=1e-7)


def test_wing_without_bends_is_a_power_law():
    np.testing.assert_allclose(wing_area((-3.5,)), 1.0 / 1.5, rtol=1e-12)


def test_area_of_a_bent_wing_is_one_once_normalized():
    weights = -0.2 * BASIS.centers
    model = PrfModel(BASIS, weights, 16.0, wing_slope=-3.0, wing_bends=(-0.6,)).normalized()
    r = np.concatenate([np.linspace(1e-6, 64.0, 200_001), np.geomspace(64.0, 1e5, 200_001)[1:]])
    values = model.evaluate(r, np.zeros(r.size))
    np.testing.assert_allclose(np.trapezoid(2.0 * np.pi * r * values, r) / 16.0, 1.0, rtol=2e-5)


def test_nodes_interpolate_any_biquadratic_surface(rng):
    place = rng.uniform(-1.0, 1.0, (20, 2))

    def surface(p):
        return 1.0 + p[:, 0] - 2.0 * p[:, 1] ** 2 + 3.0 * p[:, 0] ** 2 * p[:, 1]

    np.testing.assert_allclose(node_weights(place) @ surface(NODES), surface(place), atol=1e-12)


def test_surface_through_nodes_gives_its_coefficients(rng):
    coefficients = rng.normal(size=6)
    np.testing.assert_allclose(fit_surface(field_columns(NODES, 2) @ coefficients, 2), coefficients, atol=1e-12)


def test_plane_prf_is_normalized_at_the_nodes_to_second_order(rng):
    weights = np.stack([-0.2 * BASIS.centers, 0.01 * rng.normal(size=BASIS.n_basis), np.zeros(BASIS.n_basis)])
    prf = FieldPrf(BASIS, weights, np.zeros((1, 2)), -3.5, 16.0, FieldFrame(0.0, 0.0, 100.0)).normalized()
    np.testing.assert_allclose(prf.areas(), 1.0, atol=1e-3)
    np.testing.assert_allclose(prf.normalized_at(NODES[0]).area(), 1.0, rtol=1e-12)


class _Sky:
    ra_deg = np.array([359.99, 0.01, 0.0])
    dec_deg = np.array([10.0, 10.02, 10.0])
    n_pixel = 3


def test_frame_holds_all_pixels_across_the_wrap_of_right_ascension():
    place = FieldFrame.around(_Sky()).places(_Sky.ra_deg, _Sky.dec_deg)
    assert np.abs(place).max() <= 1.0
    np.testing.assert_allclose(np.ptp(place, axis=0).max(), 2.0, rtol=1e-3)


def test_turn_is_that_of_north_on_the_plane_about_the_centre():
    """Against a tangential projection by astropy: a step to the north of each place, and the way it goes there."""
    frame = FieldFrame(291.0, 44.5, 3600.0)
    ra, dec = np.array([290.2, 291.0, 291.9]), np.array([44.1, 45.0, 44.9])
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [291.0, 44.5], [1.0, 1.0]
    here, there = (np.stack(wcs.wcs_world2pix(ra, one, 0)) for one in (dec, dec + 1e-4))
    x, y = there - here
    np.testing.assert_allclose(frame.turn(frame.places(ra, dec)), np.arctan2(-x, y), rtol=0.01, atol=1e-6)
