"""Trends of single stars' own PRFs over the field."""

import numpy as np
import pytest

from bayesprf.prf.field_trends import fit_trends
from bayesprf.prf.star_residuals import StarResiduals
from bayesprf.scene.prf import STEPS


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


def test_few_stars_tell_no_trend():
    assert fit_trends(*stars(7, 0.5, np.random.default_rng(1))) == {}
