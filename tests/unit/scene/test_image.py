"""One image out of the stack."""

import numpy as np
import pytest

from bayesprf.scene.image import reduce_image
from bayesprf.scene.pixels import PixelTable


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
