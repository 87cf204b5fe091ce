"""The compiled expectation of random effects, beside dense algebra."""

import numpy as np
import pytest

from bayesprf.linalg.compiled.effects import expect_effects


@pytest.mark.parametrize("n_same", [1, 2])
def test_expected_squares_are_those_of_dense_algebra(n_same):
    rng, n, n_group = np.random.default_rng(5), 3, 40
    factor = rng.standard_normal((n, n))
    rows = rng.standard_normal((n_group, 9, n * n_same))
    left, score = rows.transpose(0, 2, 1) @ rows, 5.0 * rng.standard_normal((n_group, n * n_same))
    chi2, usual = rng.uniform(20.0, 60.0, n_group), np.full(n_group, 10.0)
    wide = np.kron(factor, np.eye(n_same))
    covariance = np.linalg.inv(np.eye(n * n_same) + wide.T @ left @ wide)
    seen = score @ wide
    mean = (covariance @ seen[:, :, None])[:, :, 0]
    kept = np.minimum(1.0, usual / np.maximum(chi2 - np.sum(mean * seen, axis=1), 1e-300))
    square = (mean * kept[:, None]).T @ mean + covariance.sum(axis=0)
    expected = np.einsum("iaja->ij", square.reshape(n, n_same, n, n_same))
    total, share = np.empty((n, n)), np.empty(n_group)
    expect_effects(factor, left, score, chi2, usual, total, share)
    # Beside one another: shares below one and equal to it.
    assert 0.0 < np.mean(kept < 1.0) < 1.0
    np.testing.assert_allclose(share, kept, rtol=1e-9)
    np.testing.assert_allclose(np.tril(total), np.tril(expected), rtol=1e-9)
