"""Pixels of single stars, and their variance."""

import numpy as np
from known_stars import make_scene, pixels_of, truth

from bayesprf.prf.star_pixels import gather_star_pixels
from bayesprf.scene.prf_matrix import PrfMatrix


def test_variance_grows_with_the_scatter():
    training = pixels_of(truth())
    model = training.light
    assert np.array_equal(training.model_variance(model, 0.2, 0.0), training.variance)
    expected = training.variance + (np.log(10.0) * 0.01) ** 2 * model * training.flux * 0.2
    np.testing.assert_allclose(training.model_variance(model, 0.2, 0.01), expected, rtol=1e-12)


def test_neighbours_and_fixed_light_are_taken_off():
    """What is left of the image is the light of the pixel's own star."""
    scene, flux = make_scene(truth(), n_star=9, spacing=12.0, sky=5.0)
    pairs = scene.pairs.select(scene.pairs.r < 30.0)
    prf = PrfMatrix.constant(pairs, truth().evaluate(pairs.dx, pairs.dy))
    far = scene.image.flux - prf.image(flux)
    chosen = pairs.r < 8.0
    pixels = gather_star_pixels(prf, flux, scene.image, fixed=far, chosen=chosen)
    np.testing.assert_allclose(pixels.light, prf.light(flux)[chosen], rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(pixels.flux, flux[pixels.source])
    np.testing.assert_allclose(pixels.variance, 4.0)
    np.testing.assert_allclose(np.hypot(pixels.dx, pixels.dy), pairs.r[chosen])


def test_selected_pixels_keep_their_star():
    pixels = pixels_of(truth())
    bright = pixels.flux > np.median(pixels.flux)
    np.testing.assert_array_equal(pixels.select(bright).source, pixels.source[bright])
    np.testing.assert_array_equal(pixels.select(np.array([3, 1])).light, pixels.light[[3, 1]])
