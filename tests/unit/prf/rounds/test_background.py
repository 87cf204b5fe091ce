"""The sky of the image that the PRF is fitted to, with the PRF itself left free."""

import numpy as np
import pytest
from known_stars import make_scene, truth

from bayesprf.photometry.background import build_background, first_guess
from bayesprf.prf.rounds.background import fit_background
from bayesprf.prf.rounds.light import find_light
from bayesprf.prf.rounds.splines import Profile
from bayesprf.settings import Background

SKY = 40.0


@pytest.fixture(scope="module", params=["image", "stamp"])
def fitted(request):
    """Stars 30 arcsec apart on a sky of 40 electron / s in every pixel, and the guess that the fit starts from."""
    prf = truth()
    scene, flux = make_scene(prf, n_star=25, spacing=30.0, flux=10.0 ** np.linspace(3.5, 4.5, 25), sky=SKY)
    columns = build_background(scene.pixels, scene.image, Background(request.param))
    scene = scene.without(first_guess(columns, scene.image))
    profile = Profile(prf, np.zeros((prf.weights.size, prf.weights.size)), 1e-3, 1.0, np.ones(1, bool))
    light = find_light(scene, prf, np.zeros((25, 2)), scale=1.0, cut=1.0)
    return scene, flux, fit_background(scene, light, profile, scene.background)


def test_the_sky_is_found_beside_the_wings(fitted):
    """Errors of a tenth of a standard deviation's pixel noise: 0.2 electron / s, and what distant wings leave."""
    scene, _, found = fitted
    np.testing.assert_allclose(found.light, SKY, atol=1.0)
    assert abs(scene.background.light.mean() - SKY) > abs(found.light.mean() - SKY)
    assert 0 < found.weights_err.max() < 1.0


def test_taking_it_off_leaves_the_stars(fitted):
    scene, flux, found = fitted
    rest = scene.without(found)
    np.testing.assert_allclose(rest.image.flux + found.light, scene.image.flux + scene.background.light, rtol=1e-12)
    light = find_light(rest, truth(), np.zeros((25, 2)), scale=1.0, cut=1.0)
    np.testing.assert_allclose(light.flux, flux, atol=25.0 * np.pi * 16.0 * 0.1)
