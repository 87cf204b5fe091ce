"""Fluxes of one image, their prior, and the flags that hold at all cadences."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.flags import QualityFlag
from bayesprf.photometry.fluxes import default_prior, fit_image_flux, flag_degenerate, flag_sources, make_prior
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix


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


@pytest.fixture
def prf():
    """Three sources: the first two share pixels 1 and 2, the third lights pixel 4 alone; the fourth lights none."""
    source, pixel = np.array([0, 0, 0, 1, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 3, 4])
    distance = np.array([4.0, 1.0, 5.0, 5.0, 1.0, 4.0, 9.0])
    pairs = PairTable(source, pixel, distance, np.zeros(7), 4, 5)
    return PrfMatrix.constant(pairs, np.array([0.2, 0.5, 0.2, 0.1, 0.6, 0.2, 0.3]))


def test_image_fluxes_of_blended_sources(prf):
    flux = np.array([1000.0, 300.0, 50.0, 7.0])
    image = Image(prf.image(flux), np.full(5, 4.0), 0.5)
    found = fit_image_flux(prf, image, expected=np.array([500.0, np.nan, 60.0, 1.0]))
    np.testing.assert_allclose(found[:3], flux[:3], rtol=1e-3)
    assert np.isnan(found[3])
    dark = replace(image, ivar=np.where(np.arange(5) == 4, 0.0, 4.0))
    assert np.isnan(fit_image_flux(prf, dark, expected=flux)[2])


def test_flags_say_what_holds_at_all_cadences(prf):
    saturated = np.arange(5) == 1
    has_flux = np.array([True, False, True, True])
    flags = flag_sources(prf, saturated=saturated, left_out=saturated, has_flux=has_flux, core=2.0)
    expected = [
        QualityFlag.LOW_PSF_FRACTION | QualityFlag.SATURATED,
        QualityFlag.SATURATED_NEIGHBOR | QualityFlag.NO_CATALOG_FLUX,
        QualityFlag.LOW_PSF_FRACTION,
        QualityFlag.LOW_PSF_FRACTION | QualityFlag.NO_PIXELS,
    ]
    np.testing.assert_array_equal(flags, [int(one) for one in expected])
