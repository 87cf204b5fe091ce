"""The Bayes factor of a positive amplitude, against numerical integration."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from bayesprf.hypotheses.second_star import amplitude_log_bayes


@pytest.mark.parametrize("limit", [np.inf, 1.0])
@pytest.mark.parametrize(("precision", "rhs"), [(4.0, 6.0), (4.0, -9.0), (400.0, 200.0), (0.01, 0.2), (50.0, 70.0)])
def test_it_equals_the_integral_over_the_prior(precision, rhs, limit):
    scale = 0.8
    mass = norm.cdf(limit / scale) - 0.5
    peak = rhs * rhs / (2 * precision)

    def integrand(a):
        return np.exp(rhs * a - 0.5 * precision * a * a - peak) * norm.pdf(a, scale=scale) / mass

    best = float(np.clip(rhs / precision, 0.0, min(limit, 8.0)))
    value, _ = quad(integrand, 0.0, min(limit, 8.0), points=[best] if 0 < best < min(limit, 8.0) else None, limit=200)
    expected = np.log(value) + peak
    assert amplitude_log_bayes(precision, rhs, scale, limit=limit) == pytest.approx(expected, abs=1e-6)


def test_far_tails_do_not_overflow():
    assert np.isfinite(amplitude_log_bayes(1e6, -1e6, 1.0))
    assert amplitude_log_bayes(1e6, 1e8, 1.0, limit=1.0) < amplitude_log_bayes(1e6, 1e8, 1.0)


@pytest.mark.parametrize("limit", [1.0, np.array([0.1, 3.0])])
def test_a_prior_much_wider_than_the_limit_is_flat(limit):
    """At 1e17 the two ends of the prior differ by less than rounding."""
    flat, wide = amplitude_log_bayes(4.0, 6.0, 1e5, limit=limit), amplitude_log_bayes(4.0, 6.0, 1e17, limit=limit)
    np.testing.assert_allclose(wide, flat, atol=1e-9)
