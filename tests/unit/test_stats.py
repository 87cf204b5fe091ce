"""Robust statistics, on numbers whose answer is known."""

import numpy as np
import pytest
from scipy.stats import norm

from bayesprf.stats import (
    NORMAL_MEDIAN,
    SIGMA_PER_MAD,
    excess_scatter,
    falling_root,
    fit_clipped,
    inliers,
    likely_width,
    mad_sigma,
    median_scatter,
    weighted_median,
)


def test_constants_are_those_of_a_normal_distribution():
    assert pytest.approx(norm.ppf(0.75), rel=1e-15) == NORMAL_MEDIAN
    assert pytest.approx(1.0 / NORMAL_MEDIAN, rel=2e-6) == SIGMA_PER_MAD


def test_spread_ignores_outliers_and_nan():
    values = np.append(3.0 * norm.ppf((np.arange(2000) + 0.5) / 2000), 40 * [1e9])
    assert mad_sigma(values) == pytest.approx(3.0, rel=0.03)
    assert mad_sigma(np.append(values, np.nan)) == mad_sigma(values)
    np.testing.assert_allclose(mad_sigma(np.stack([values, 2 * values]), axis=1), mad_sigma(values) * np.array([1, 2]))


def test_weighted_median_is_the_median_of_repeated_values():
    rng = np.random.default_rng(0)
    values, count = rng.normal(size=(4, 21)), rng.integers(1, 6, (4, 21))
    count[:, 0] += count.sum(axis=1) % 2 == 0  # odd totals have a middle
    expected = [np.median(np.repeat(value, number)) for value, number in zip(values, count, strict=True)]
    np.testing.assert_array_equal(weighted_median(values, count.astype(float)), expected)
    assert weighted_median(values[0], count[0].astype(float)) == expected[0]


def test_inliers_are_counted_in_standard_deviations():
    np.testing.assert_array_equal(
        inliers(np.array([-5.9, 6.1, 0.0]), np.array([4.0, 4.0, 4.0]), 3.0), [True, False, True]
    )


@pytest.mark.parametrize(("low", "high", "expected"), [(0.0, 2.0, 0.5), (0.0, 0.2, 0.2), (0.7, 2.0, 0.7)])
def test_root_stays_within_its_bounds(low, high, expected):
    assert falling_root(lambda x: 0.25 - x * x, low, high) == pytest.approx(expected, rel=1e-10)


def test_excess_scatter_explains_the_squares():
    variance, template = np.array([1.0, 2.0, 3.0]), np.array([5.0, 1.0, 2.0])
    assert excess_scatter(variance + 0.3**2 * template, variance, template) == pytest.approx(0.3, rel=1e-10)
    assert excess_scatter(0.9 * variance, variance, template) == 0.0
    assert excess_scatter(50.0 * variance, variance, template) == 1.0


def test_likely_width_is_the_maximum_of_the_likelihood():
    rng = np.random.default_rng(1)
    variance = rng.uniform(0.5, 2.0, 500)
    values = rng.normal(size=500) * np.sqrt(1.5**2 + variance)
    width = likely_width(values, variance)

    def log_likelihood(one):
        return norm.logpdf(values, scale=np.sqrt(one**2 + variance)).sum()

    assert log_likelihood(width) > max(log_likelihood(0.999 * width), log_likelihood(1.001 * width))
    assert likely_width(0.1 * values, variance) == 0.0
    equal = np.full(4, 2.0)
    assert likely_width(equal, np.ones(4)) == pytest.approx(np.sqrt(3.0), rel=1e-9)


def test_median_scatter_tolerates_outliers():
    quantiles = norm.ppf((np.arange(4000) + 0.5) / 4000)
    residual = np.hypot(0.3, 0.4) * np.random.default_rng(2).permutation(quantiles)
    residual[::10] = 100.0
    median = 0.5 * norm.ppf(0.5 + 0.25 / 0.9)  # of |residual| among all, of which 90 % are good
    expected = np.sqrt((median / NORMAL_MEDIAN) ** 2 - 0.3**2)
    assert median_scatter(residual, np.full(4000, 0.3**2)) == pytest.approx(expected, rel=0.03)
    assert median_scatter(0.5 * quantiles, np.full(4000, 0.25)) == pytest.approx(0.0, abs=0.03)
    assert median_scatter(np.zeros(0), np.zeros(0)) == 0.0


def test_clipped_fit_is_that_of_the_good_data():
    x = np.linspace(0.0, 1.0, 50)
    columns, data = np.stack([np.ones(50), x], axis=1), 2.0 - 3.0 * x + 0.01 * np.cos(40.0 * x)
    good = np.ones(50, bool)
    good[[3, 30]] = False
    expected = np.linalg.lstsq(columns[good], data[good], rcond=None)[0]
    data[3], data[30] = 50.0, -20.0
    known = np.arange(50) != 30

    def spread(residual, keep):
        return float(mad_sigma(residual[keep]))

    solution, keep = fit_clipped(columns, data, spread, limit=8.0, n_pass=4, known=known)
    np.testing.assert_allclose(solution, expected, rtol=1e-12)
    np.testing.assert_array_equal(keep, good)
    once, _ = fit_clipped(columns, data, spread, limit=8.0, n_pass=4, least=51)
    np.testing.assert_allclose(once, np.linalg.lstsq(columns, data, rcond=None)[0])
