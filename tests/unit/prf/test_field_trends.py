"""Trends of single stars' own PRFs over the field."""

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.prf.field_trends import fit_trends, flux_answers
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.prf.star_residuals import StarResiduals
from bayesprf.scene.prf import STEPS, PrfModel


def stars(n_star, slope, rng):
    """Deviations of stars of known errors, whose sizes follow the first coordinate of their places."""
    place, std = rng.uniform(-1.0, 1.0, (n_star, 2)), np.full((n_star, len(STEPS)), 0.01)
    value = rng.normal(0.0, std)
    value[:, list(STEPS).index("size")] += slope * place[:, 0]
    return StarResiduals(np.arange(n_star), value, std, np.ones(len(STEPS) + 1)), place


def test_trend_has_its_slope_and_significance():
    residuals, place = stars(200, 0.05, np.random.default_rng(1))
    trends = fit_trends(residuals, place)
    slope = np.polyfit(place[:, 0], trends["size"].change, 1)[0]
    expected = 0.01 / (np.std(place[:, 0]) * np.sqrt(200))
    assert abs(slope - 0.05) < 3.0 * expected
    assert trends["size"].significance == pytest.approx(0.05 / expected, rel=0.15)
    assert max(trends["e1"].significance, trends["e2"].significance) < 4.0


def test_flux_answers_to_the_size_and_not_to_the_shape_of_a_round_star():
    """A star wider by a share fits its flux to F (1 + answer share), on all pixels of a stamp."""
    basis = PolarBasis(1.0, 24.0, 1.5, 10, 12)
    prf = PrfModel(basis, -2.0 * np.log10(1.0 + (basis.centers / 6.0) ** 2), 16.0).normalized()
    y, x = 4.0 * np.mgrid[-4:5, -4:5].reshape(2, -1)
    values, share = prf.evaluate(x, y), 1e-3
    wider = prf.evaluate(x / (1.0 + share), y / (1.0 + share)) / (1.0 + share) ** 2
    training = StarPixels(np.full(x.size, 2), x, y, 1e4 * wider, np.full(x.size, 9.0), np.full(x.size, 1e4))
    answers = flux_answers(prf, training, values, 0.0)
    fitted = np.sum(values * wider) / np.sum(values**2)
    assert answers["size"][0] == pytest.approx((fitted - 1.0) / share, rel=0.01)
    assert abs(answers["e1"][0]) < 1e-3 * abs(answers["size"][0])


def test_few_stars_tell_no_trend():
    assert fit_trends(*stars(7, 0.5, np.random.default_rng(1))) == {}
