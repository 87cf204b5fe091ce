"""The whole fit of the PRF, on an image whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from known_stars import make_scene, truth

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.prf.rounds.fit import fit_shape
from bayesprf.settings import MaskOptions, ShapeOptions

N_STAR = 64


@pytest.fixture(scope="module")
def fitted():
    """Stars 30 arcsec apart; a catalogue a third as bright."""
    scene, flux = make_scene(truth(), n_star=N_STAR, spacing=30.0, scale=3.0)
    return fit_shape(scene, PolarBasis(), mask_options=MaskOptions(), options=ShapeOptions()), flux


def test_prf_and_fluxes_are_recovered(fitted):
    fit, flux = fitted
    prf, r = truth(), np.linspace(0.0, 12.0, 40)
    phi = np.linspace(0.0, 6.0, 40)
    values = [one.evaluate(r * np.cos(phi), r * np.sin(phi)) for one in (fit.prf, prf)]
    assert np.abs(values[0] - values[1]).max() < 0.01 * prf.peak
    assert fit.prf.area() == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(fit.flux, flux, rtol=0.01)
    assert fit.scale == pytest.approx(3.0, rel=0.01)


def test_nothing_has_moved(fitted):
    fit, _ = fitted
    np.testing.assert_allclose(fit.offset, 0.0, atol=0.02)
    np.testing.assert_array_equal(fit.positions.shift, 0.0)


def test_matrix_and_fixed_light_add_up_to_the_image(fitted):
    fit, _ = fitted
    left = fit.image.flux - fit.matrix.image(fit.flux) - fit.fixed_light
    assert np.abs(left).max() < 0.01 * fit.image.flux.max()
    np.testing.assert_array_equal(fit.values, fit.prf.evaluate(fit.pairs.dx, fit.pairs.dy))


def test_training_pixels_follow_the_prf(fitted):
    fit, _ = fitted
    pixels = fit.star_pixels
    assert pixels.source.size == np.count_nonzero(fit.training)
    model = pixels.flux * fit.prf.evaluate(pixels.dx, pixels.dy)
    assert np.abs(pixels.light - model).max() < 0.01 * (pixels.flux * fit.prf.peak).max()


def test_without_stars_of_known_flux_there_is_nothing_to_train_on():
    scene, flux = make_scene(truth(), n_star=4, spacing=40.0)
    unknown = replace(scene, sources=replace(scene.sources, flux=np.full(4, np.nan)))
    with pytest.raises(InputError, match=r"^sources: expected stars that light pixels alone, .* got none; .* 0 are of"):
        fit_shape(unknown, PolarBasis(), mask_options=MaskOptions(), options=ShapeOptions())
    assert flux.size == 4
