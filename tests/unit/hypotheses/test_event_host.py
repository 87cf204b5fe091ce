"""Which source dims: the evidence against a dense Gaussian over all fluxes, and the parts."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from bayesprf.design.splines import open_knots, open_splines
from bayesprf.errors import InputError
from bayesprf.hypotheses.event_host import FluxSeries, event_evidence, event_length, flux_series, host_probabilities

N_TIME, SPACING, DEPTH_SIGMA = 12, 0.5, 0.2


def make_series(rng):
    time = np.linspace(0.0, 1.0, N_TIME)
    half = rng.normal(size=(N_TIME, 2, 2))
    information = (half @ half.transpose(0, 2, 1) + np.eye(2)) * 0.05
    flux = np.array([100.0, 20.0])
    observed = flux + rng.multivariate_normal(np.zeros(2), np.eye(2) * 9.0, N_TIME)
    rhs = np.einsum("tij,tj->ti", information, observed)
    return FluxSeries(time, information, rhs, flux, np.array([100.0, 25.0]), np.array([1.5, 0.0])), observed


def dense_log_density(series, observed, template, dimming):
    """Return log p(fluxes) with star `dimming` = (star, depth) eclipsed, baselines and scatter integrated out."""
    breaks = np.linspace(0.0, 1.0, 3)
    splines = open_splines(series.time, open_knots(breaks, 3), 3).toarray()
    baseline = splines @ splines.T
    width = series.scale * np.maximum(1.0, np.abs(series.flux) / series.scale)
    covariance = np.kron(baseline, np.diag(width**2)) + np.kron(np.eye(N_TIME), np.diag(series.scatter**2))
    for t in range(N_TIME):
        rows = slice(2 * t, 2 * t + 2)
        covariance[rows, rows] += np.linalg.inv(series.information[t])
    mean = np.tile(series.flux, (N_TIME, 1))
    mean[:, dimming[0]] -= dimming[1] * series.scale[dimming[0]] * template
    return multivariate_normal.logpdf(observed.ravel(), mean.ravel(), covariance)


def test_evidence_equals_the_dense_integral():
    series, observed = make_series(np.random.default_rng(2))
    template = np.where(np.arange(N_TIME) % 5 == 2, 1.0, 0.0)
    gains, dip, _ = event_evidence(series, template, spacing=SPACING, depth_sigma=DEPTH_SIGMA)
    mass = norm.cdf(1.0 / DEPTH_SIGMA) - 0.5
    for star in range(2):
        none = dense_log_density(series, observed, template, (star, 0.0))

        def density(depth, star=star, none=none):
            ratio = np.exp(dense_log_density(series, observed, template, (star, depth)) - none)
            return ratio * norm.pdf(depth, scale=DEPTH_SIGMA) / mass

        expected = np.log(quad(density, 0.0, 1.0, limit=200, points=[0.02, 0.1])[0])
        assert gains[star] == pytest.approx(expected, abs=1e-5)
        depths = np.array([-0.01, 0.0, 0.01])
        curve = [dense_log_density(series, observed, template, (star, depth)) for depth in depths]
        top = -np.polyfit(depths, curve, 2)[1] / (2 * np.polyfit(depths, curve, 2)[0])
        assert dip[star] == pytest.approx(top * series.scale[star], rel=1e-6)


def test_too_many_baselines_are_refused():
    series, _ = make_series(np.random.default_rng(2))
    with pytest.raises(InputError, match="expected at most 6000 baseline coefficients"):
        event_evidence(series, np.ones(N_TIME), spacing=1e-4, depth_sigma=0.1)


def test_series_takes_the_prior_out_again():
    rng = np.random.default_rng(4)
    information = np.array([[2.0, 0.5], [0.5, 1.0]])
    precision, prior_mean = np.array([0.1, 0.3]), np.array([5.0, -1.0])
    best = rng.normal(10.0, 1.0, (30, 2))
    covariance = np.linalg.inv(information + np.diag(precision))
    mean = (best @ information + precision * prior_mean) @ covariance
    series = flux_series(
        np.arange(30.0), mean, np.tile(covariance, (30, 1, 1)), prior_mean=prior_mean, prior_precision=precision,
        common_error=np.array([3.0, 0.0]), outside=np.ones(30, bool),
    )  # fmt: skip
    np.testing.assert_allclose(series.information, np.tile(information, (30, 1, 1)), rtol=1e-12)
    np.testing.assert_allclose(series.rhs, best @ information, rtol=1e-12)
    np.testing.assert_allclose(series.scale, series.flux + np.hypot(np.sqrt(np.diag(covariance)), [3.0, 0.0]))


def test_extra_scatter_is_what_the_errors_leave():
    rng = np.random.default_rng(0)
    error, scatter = 1.0, 3.0
    mean = 50.0 + rng.normal(0.0, np.hypot(error, scatter), (20000, 1))
    series = flux_series(
        np.arange(20000.0), mean, np.full((20000, 1, 1), error**2), prior_mean=np.zeros(1), prior_precision=np.zeros(1),
        common_error=np.zeros(1), outside=np.ones(20000, bool),
    )  # fmt: skip
    assert series.scatter[0] == pytest.approx(scatter, rel=0.05)


def test_event_length_spans_the_longest_run():
    assert event_length(np.arange(10) * 0.5, np.array([0, 1, 1, 0, 0, 1, 1, 1, 0, 0.0])) == pytest.approx(1.5)
    assert event_length(np.array([3.0]), np.array([1.0])) == 0.0


def test_probabilities_survive_huge_bayes_factors():
    np.testing.assert_allclose(host_probabilities(np.array([1e6, 1e6, -1e6])), [0.5, 0.5, 0.0])
