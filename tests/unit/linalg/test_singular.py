"""Factors of covariances of any rank."""

import numpy as np

from bayesprf.linalg.singular import semidefinite_factor


def test_factor_of_any_rank_gives_the_covariance_back():
    rows = np.random.default_rng(2).standard_normal((3, 5, 2))
    covariance = rows @ rows.transpose(0, 2, 1)
    factor = semidefinite_factor(covariance)
    np.testing.assert_allclose(factor @ factor.transpose(0, 2, 1), covariance, atol=1e-13)


def test_what_is_negative_is_left_out():
    factor = semidefinite_factor(np.diag([4.0, -1e-9, 1.0]))
    np.testing.assert_allclose(factor @ factor.T, np.diag([4.0, 0.0, 1.0]), atol=1e-15)
