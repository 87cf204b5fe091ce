"""Which pixels the PRF is trained on, and the radius of a star before its PRF is known."""

from dataclasses import replace

import numpy as np
import pytest
from known_stars import make_scene, truth

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.prf.training import first_training, fit_radius, training_pixels
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.settings import MaskOptions, ShapeOptions


@pytest.fixture
def isolated_stars():
    """Stars far apart, whose light falls by a factor of ten every 5 arcsec."""
    x, y = (one.ravel() for one in np.meshgrid(np.arange(-28.0, 29.0, 4.0), np.arange(-28.0, 29.0, 4.0)))
    flux = 10.0 ** np.linspace(3.0, 6.0, 12)
    n = x.size
    pairs = PairTable(np.repeat(np.arange(12), n), np.arange(12 * n), np.tile(x, 12), np.tile(y, 12), 12, 12 * n)
    light = np.repeat(flux, n) * 0.1 * 10.0 ** (-pairs.r / 5.0)
    return pairs, Image(light, np.ones(12 * n), 1.0), flux


def test_radius_is_where_the_light_falls_to_the_limit(isolated_stars):
    pairs, image, flux = isolated_stars
    options = MaskOptions(lower_flux_limit=50.0, upper_radius_limit=100.0, lower_radius_limit=1e-3)
    radius = fit_radius(pairs, image, flux, pixel_scale=4.0, options=options)
    np.testing.assert_allclose(radius, np.maximum(5.0 * np.log10(flux * 0.1 / 50.0), 1e-3), rtol=1e-6)


def test_radius_does_not_depend_on_the_scale_of_the_catalogue(isolated_stars):
    pairs, image, flux = isolated_stars
    one, other = (fit_radius(pairs, image, flux * k, pixel_scale=4.0, options=MaskOptions()) for k in (1.0, 1e4))
    np.testing.assert_allclose(one, other, rtol=1e-8)


def test_radius_is_kept_in_its_limits(isolated_stars):
    pairs, image, flux = isolated_stars
    options = MaskOptions(upper_radius_limit=11.0, lower_radius_limit=9.0)
    radius = fit_radius(pairs, image, flux, pixel_scale=4.0, options=options)
    assert (radius.min(), radius.max()) == (9.0, 11.0)


def test_radius_without_light_is_the_smallest(isolated_stars):
    pairs, image, flux = isolated_stars
    dark = replace(image, ivar=np.zeros_like(image.ivar))
    radius = fit_radius(pairs, dark, flux, pixel_scale=4.0, options=MaskOptions(lower_radius_limit=5.0))
    np.testing.assert_array_equal(radius, 5.0)


def test_unknown_flux_gets_the_radius_of_a_typical_star(isolated_stars):
    pairs, image, flux = isolated_stars
    flux = np.where(np.arange(12) == 5, np.nan, flux)
    radius = fit_radius(pairs, image, flux, pixel_scale=4.0, options=MaskOptions(upper_radius_limit=100.0))
    assert radius[4] < radius[5] < radius[8]


def test_training_pixels_are_bright_near_and_uncontaminated():
    scene, flux = make_scene(truth(), n_star=25, spacing=18.0)
    options, mask = ShapeOptions(max_neighbor_share=0.2, min_snr=1e4), MaskOptions(limit_radius=9.0)
    chosen, pairs = training_pixels(scene, PolarBasis(), mask, options), scene.pairs
    nearest = np.full(pairs.n_pixel, np.inf)
    np.minimum.at(nearest, pairs.pixel, pairs.r)
    assert 0 < chosen.sum() < np.count_nonzero(nearest < 9.0)
    assert nearest[chosen].max() < 9.0
    assert chosen.sum() < training_pixels(scene, PolarBasis(), mask, replace(options, max_neighbor_share=1.0)).sum()
    few = training_pixels(scene, PolarBasis(), mask, replace(options, max_pairs=100))
    assert 0 < few.sum() <= 100
    assert not np.any(few & ~chosen)
    own = pairs.source[few[pairs.pixel] & (pairs.r < 9.0)]
    assert np.median(flux[own]) > np.median(flux)


def test_first_training_needs_isolated_stars():
    """Where radii overlap everywhere, pixels that one star dominates stand in, with the others' light taken off."""
    scene, _ = make_scene(truth(), n_star=25, spacing=30.0)
    basis, options = PolarBasis(3.0, 16.0, 6.0, 5, 4), MaskOptions()
    alone = first_training(scene, basis, np.full(25, 12.0), options)
    assert alone.source.size >= 2 * basis.n_basis
    assert np.hypot(alone.dx, alone.dy).max() < 12.0
    crowd = first_training(scene, basis, np.full(25, 60.0), options)
    assert np.hypot(crowd.dx, crowd.dy).max() > 12.0


def test_nothing_to_train_on_is_explained():
    scene, _ = make_scene(truth(), n_star=4)
    dark = replace(scene, image=replace(scene.image, ivar=np.zeros_like(scene.image.ivar)))
    with pytest.raises(InputError, match=r"^sources: expected stars that light pixels alone, .* 0 of these have data"):
        first_training(dark, PolarBasis(), np.full(4, 12.0), MaskOptions())
    negative = replace(scene, image=replace(scene.image, flux=-scene.image.flux))
    with pytest.raises(InputError, match=r"^pixels: expected light, got a mean image whose pixels add up to -"):
        first_training(negative, PolarBasis(), np.full(4, 12.0), MaskOptions())
