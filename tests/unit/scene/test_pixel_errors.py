"""Errors that do not follow the noise: what photons, read noise and sky make is found again from given errors."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.linalg.stack import DesignStack
from bayesprf.scene.pixel_errors import ModelLight, UsualVariance, fit_variance
from bayesprf.scene.pixels import PixelTable

EXPOSURE, N_TIME, N_PIXEL = 100.0, 400, 60


def make_pixels(flux, variance):
    pixel = np.arange(flux.shape[1], dtype=float)
    return PixelTable(
        np.arange(flux.shape[0], dtype=float), flux, np.sqrt(variance), pixel * 1e-3, 0.0 * pixel, pixel, 0.0 * pixel
    )


@pytest.fixture
def light():
    """Images of one star that varies by 20 % and of darkness around it, electron / s."""
    shape = 2000.0 * np.exp(-0.1 * np.arange(N_PIXEL))
    return shape * (1.0 + 0.2 * np.sin(np.arange(N_TIME) / 7.0))[:, None]


def known_light(light):
    """Return images as a model: that of the first cadence, once for each pixel, and how bright each pixel is then."""
    design = DesignStack.from_sparse(csr_matrix(np.diag(light[0])))
    return ModelLight(design, light / light[0])


@pytest.fixture
def read_noise():
    return np.random.default_rng(3).uniform(0.5, 2.0, N_PIXEL)


def observe(light, read_noise, rng, sky=0.0):
    """Return counts, their true variance, and the variance that a mission would make from them."""
    true = light / EXPOSURE + read_noise**2 + sky
    flux = light + np.sqrt(true) * rng.standard_normal(light.shape)
    return flux, true, np.maximum(flux, 0.0) / EXPOSURE + read_noise**2 + sky


def test_variance_made_from_counts_is_found_again_without_their_noise(light, read_noise):
    flux, true, given = observe(light, read_noise, np.random.default_rng(1))
    pixels = make_pixels(flux, given)
    usual = UsualVariance.of(pixels)
    found = fit_variance(usual, known_light(light))
    assert found.gain == pytest.approx(1.0 / EXPOSURE, rel=0.01)
    ivar, bright = found.ivar(), light[0] > 200.0
    means = [np.sum(one * (flux - light), axis=0) / np.sum(one, axis=0) for one in (1.0 / true, 1.0 / given, ivar)]
    # Weights 1 / var with var = counts / exposure lower a mean by 1 / exposure times the share of photons in var.
    assert np.mean((means[1] - means[0])[bright]) == pytest.approx(-1.0 / EXPOSURE, rel=0.3)
    np.testing.assert_allclose(np.mean((means[2] - means[0])[bright]), 0.0, atol=0.1 / EXPOSURE)
    ratio = ivar * true
    assert np.std(ratio) < 0.5 * np.std(true / given)
    np.testing.assert_allclose(np.median(ratio, axis=0), 1.0, atol=0.01)


def test_true_errors_are_found_again(light, read_noise):
    flux, true, _ = observe(light, read_noise, np.random.default_rng(2))
    found = fit_variance(UsualVariance.of(make_pixels(flux, true)), known_light(light))
    assert found.gain == pytest.approx(1.0 / EXPOSURE, rel=1e-9)
    np.testing.assert_allclose(found.ivar() * true, 1.0, rtol=1e-9)


def test_a_brighter_sky_counts_at_its_cadences(light, read_noise):
    sky = np.where(np.arange(N_TIME) % 50 < 5, 3.0, 0.0)[:, None]
    flux, true, given = observe(light, read_noise, np.random.default_rng(4), sky)
    found = fit_variance(UsualVariance.of(make_pixels(flux, given)), known_light(light))
    more = found.offset - np.median(found.offset)
    np.testing.assert_allclose(more[sky[:, 0] > 0], 3.0, atol=0.1)
    np.testing.assert_allclose(more[sky[:, 0] == 0], 0.0, atol=0.1)
    assert np.std(found.ivar() * true) < 0.05


def test_constant_errors_stay_as_they_are(light, read_noise):
    variance = np.repeat((read_noise**2)[None], N_TIME, axis=0)
    pixels = make_pixels(light, variance)
    usual = UsualVariance.of(pixels)
    assert usual.is_given
    np.testing.assert_array_equal(usual.ivar(), pixels.ivar)


def test_dropped_values_and_exceptional_errors_stay_as_they_were_given(light, read_noise):
    flux, _, given = observe(light, read_noise, np.random.default_rng(5))
    given[7, 3], flux[9, 4], given[11, 5] = 400.0 * given[7, 3], np.nan, 0.0
    pixels = make_pixels(flux, given)
    plain = replace(pixels, flux_err=np.where(np.arange(N_PIXEL) == 3, np.median(pixels.flux_err), pixels.flux_err))
    usual = UsualVariance.of(pixels)
    for ivar in (usual.ivar(), fit_variance(usual, known_light(light)).ivar()):
        assert ivar[7, 3] == pixels.ivar[7, 3]
        assert ivar[9, 4] == 0.0
        assert ivar[11, 5] == 0.0
        assert np.count_nonzero(ivar == 0.0) == 2
    np.testing.assert_array_equal(UsualVariance.of(plain).mean[6:], usual.mean[6:])
    assert usual.mean[3] == pytest.approx(np.delete(given[:, 3], 7).mean(), rel=1e-12)
