"""The prior of the fluxes, and which fluxes it decides."""

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.photometry.fluxes import default_prior, flag_degenerate, make_prior


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
