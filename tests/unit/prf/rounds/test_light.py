"""What each star gives to each pixel, on an image whose truth is known."""

import numpy as np
import pytest
from known_stars import make_scene, truth

from bayesprf.prf.rounds.light import find_light, solve_again
from bayesprf.scene.image import Image

FLUX = 10.0 ** np.linspace(3.0, 4.3, 16)
LOST = 16 * 0.1  # electron / s: a tenth of the cut is not followed, in each pixel of each star


@pytest.fixture(scope="module")
def prf():
    return truth()


@pytest.fixture(scope="module")
def bright(prf):
    return make_scene(prf, n_star=16, spacing=14.0, flux=FLUX)


@pytest.fixture(scope="module")
def light(bright, prf):
    scene, _ = bright
    return find_light(scene, prf, np.zeros((16, 2)), scale=1.0, cut=1.0)


def test_fluxes_of_blended_stars_are_found(bright, light):
    np.testing.assert_allclose(light.flux, bright[1], atol=8 * LOST)


def test_the_scale_of_the_catalogue_does_not_matter(prf):
    scene, flux = make_scene(prf, n_star=16, spacing=14.0, flux=FLUX, scale=3.0)
    found = find_light(scene, prf, np.zeros((16, 2)), scale=2.0, cut=1.0)
    np.testing.assert_allclose(found.flux, flux, atol=8 * LOST)


def test_pairs_above_the_cut_are_fitted_and_the_rest_is_fixed(bright, light):
    scene, _ = bright
    assert light.model[light.above].min() > 1.0 * (1.0 - 1e-9)
    assert light.model[~light.above].max() < 1.0 * (1.0 + 1e-9)
    below = light.prf.select(~light.above)
    np.testing.assert_allclose(light.fixed, light.distant + below.image(light.flux), rtol=1e-12)
    whole = light.prf.select(light.above).image(light.flux) + light.fixed
    np.testing.assert_allclose(whole, scene.image.flux, atol=2 * LOST)


def test_saturated_pixels_are_not_fitted(light):
    saturated = np.arange(light.pairs.n_pixel) % 2 == 0
    fitted = light.fitted(saturated)
    assert not saturated[fitted.pairs.pixel].any()
    assert fitted.pairs.n_pair == np.count_nonzero(light.above & ~saturated[light.pairs.pixel])


def test_star_pixels_hold_the_light_of_one_star(bright, light):
    chosen = light.prf.light(light.flux) > 30.0
    pixels = light.star_pixels(bright[0].image, chosen)
    np.testing.assert_allclose(pixels.light, light.model[chosen], atol=2 * LOST)


def test_fluxes_follow_another_image(bright, light):
    scene, flux = bright
    image = Image(2.0 * scene.image.flux - light.fixed, scene.image.ivar, scene.image.cadence_error)
    again = solve_again(type(scene)(scene.pixels, scene.sources, scene.pairs, scene.limit, image), light)
    np.testing.assert_allclose(again.flux, 2.0 * flux, atol=16 * LOST)
    np.testing.assert_array_equal(again.above, light.above)
