"""The training pixels of the time model."""

from dataclasses import replace

import numpy as np
import pytest
from drifting_field import OPTIONS, Scene, changed, simulate

from bayesprf.design.binning import build_binning
from bayesprf.design.trends import find_breaks
from bayesprf.errors import ShapeError
from bayesprf.timemodel.training import bin_training, choose_training, used_cadences


@pytest.fixture(scope="module")
def scene():
    return Scene(simulate())


@pytest.fixture(scope="module")
def fit(scene):
    return scene.fit()


def test_the_model_is_not_trained_on_saturated_stars(scene, fit):
    brightest = int(np.argmax(scene.field.mean_flux))
    peak = scene.pairs.pixel[scene.pairs.source == brightest][np.argmax(scene.prf[scene.pairs.source == brightest])]
    saturated = np.zeros(scene.field.pixels.n_pixel, bool)
    saturated[peak] = True
    other = scene.fit(pixels=changed(scene.field.pixels, saturated=saturated))
    assert brightest in fit.training.source
    assert brightest not in other.training.source


def test_training_pixels_belong_to_one_bright_star(scene):
    options = replace(OPTIONS, min_share=0.9, min_snr=50.0)
    pairs, field = (
        choose_training(scene.field.pixels, scene.matrix, scene.field.mean_flux, scene.evaluate, options=options),
        scene.field,
    )
    assert np.unique(pairs.pixel).size == pairs.pixel.size > 100
    light = scene.matrix.light(field.mean_flux)
    np.testing.assert_array_equal(pairs.light, light)
    whole = scene.matrix.image(field.mean_flux)
    assert np.all(light[pairs.chosen] >= 0.9 * whole[pairs.pixel])
    noise = field.pixels.flux_err.mean(axis=0)[pairs.pixel] / np.sqrt(120)
    assert np.all(light[pairs.chosen] > 0.9 * 50.0 * noise)
    few = pairs.select(np.arange(10))
    np.testing.assert_array_equal(few.pixel, pairs.pixel[:10])
    assert few.group.max() == np.unique(few.source).size - 1


def test_binned_pixels_are_weighted_means(scene):
    field, pixels = scene.field, scene.field.pixels
    pairs = choose_training(pixels, scene.matrix, field.mean_flux, scene.evaluate, options=OPTIONS)
    operator = build_binning(120, 30, breaks=find_breaks(pixels.time))
    training = bin_training(pixels, pairs, operator, radius=8.0)
    weight, flux = pixels.ivar[30:60, pairs.pixel], pixels.flux[30:60, pairs.pixel]
    np.testing.assert_allclose(training.flux[1], (weight * flux).sum(axis=0) / weight.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(training.ivar[1], weight.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(training.time, pixels.time.reshape(4, 30).mean(axis=1))
    np.testing.assert_array_equal(training.count, 30.0)
    far = np.maximum(np.abs(training.dx), np.abs(training.dy))
    np.testing.assert_array_equal(training.inside, far <= 8.0)


def test_a_cadence_without_data_is_not_used(scene):
    flux = scene.field.pixels.flux.copy()
    flux[5], flux[7, 3:] = np.nan, np.nan
    used = used_cadences(changed(scene.field.pixels, flux=flux))
    assert np.flatnonzero(~used).tolist() == [5]
    assert used_cadences(scene.field.pixels).all()


def test_one_flux_per_source_is_needed(scene):
    with pytest.raises(ShapeError, match=r"flux: expected shape \(30,\)"):
        choose_training(scene.field.pixels, scene.matrix, scene.field.mean_flux[1:], scene.evaluate, options=OPTIONS)
