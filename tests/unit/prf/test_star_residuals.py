"""How far single stars deviate from the common PRF, on stars whose deviations are known."""

from dataclasses import replace

import numpy as np
import pytest
from known_stars import N_STAR, pixels_of, truth

from bayesprf.prf.star_residuals import StarResiduals, fit_trends, measure_stars
from bayesprf.scene.prf import STEPS

TRUE = {"east": 0.1, "north": -0.05, "size": 0.01, "e1": 0.008, "e2": -0.006}


def deviating(**deviation):
    """Pixels of stars that all deviate alike from `truth`: in position, size or shear."""
    prf, pixels = truth(), pixels_of(truth())
    dx, dy = pixels.dx - deviation.get("east", 0.0), pixels.dy - deviation.get("north", 0.0)
    size = 1.0 + deviation.get("size", 0.0)
    sheared = prf.sheared(deviation.get("e1", 0.0), deviation.get("e2", 0.0))
    return replace(pixels, light=pixels.flux * sheared.evaluate(dx / size, dy / size) / size**2)


@pytest.mark.parametrize(("name", "value"), TRUE.items())
def test_deviations_are_measured_star_by_star(name, value):
    found = measure_stars(truth(), deviating(**{name: value}), 1e-3)
    assert found.source.size > 0.8 * N_STAR
    expected = np.array([value if one == name else 0.0 for one in STEPS])
    weight = found.std**-2.0
    mean = (found.value * weight).sum(axis=0) / weight.sum(axis=0)
    np.testing.assert_allclose(mean, expected, atol=0.1 * abs(value) + 2e-4)


def test_a_star_of_another_flux_deviates_in_nothing_else():
    pixels = pixels_of(truth())
    found = measure_stars(truth(), replace(pixels, light=1.01 * pixels.light), 1e-3)
    np.testing.assert_allclose(found.value, 0.0, atol=1e-12)


def test_stars_with_few_pixels_are_not_measured():
    pixels = pixels_of(truth())
    few = pixels.select(np.flatnonzero(np.arange(pixels.source.size) % 40 < 5))
    found = measure_stars(truth(), few, 1e-3)
    assert (found.source.size, found.width("east", "north", unknown=0.3)) == (0, 0.3)


def test_errors_follow_what_is_left_over():
    """Twice the noise that the errors say: `excess` is two, and the standard deviations hold it."""
    prf, rng = truth(), np.random.default_rng(5)
    pixels = pixels_of(prf, noise=50.0)
    noise = 50.0 * rng.standard_normal(pixels.light.size)
    exact = pixels.flux * prf.evaluate(pixels.dx, pixels.dy)
    once, twice = (measure_stars(prf, replace(pixels, light=exact + k * noise), 1e-5) for k in (1.0, 2.0))
    np.testing.assert_allclose(once.excess, 1.0, atol=0.15)
    np.testing.assert_allclose(twice.excess, 2.0, atol=0.3)
    assert np.std(twice.value / twice.std) == pytest.approx(1.0, abs=0.15)


def test_width_is_zero_where_deviations_are_noise():
    rng = np.random.default_rng(0)
    std = np.full((300, len(STEPS)), 0.1)
    noise = StarResiduals(np.arange(300), std * rng.standard_normal(std.shape), std, np.ones(len(STEPS) + 1))
    assert noise.width("size", "e1", "e2", unknown=1.0) < 0.04
    wide = replace(noise, value=noise.value + 0.5 * rng.standard_normal(std.shape))
    assert wide.width("size", "e1", "e2", unknown=1.0) == pytest.approx(0.5, rel=0.1)
    assert replace(noise, value=noise.value[:0], std=std[:0]).width("size", unknown=0.3) == 0.3


def following(n_star, slope, rng):
    """Deviations of stars of known errors, whose sizes follow the first coordinate of their places."""
    place, std = rng.uniform(-1.0, 1.0, (n_star, 2)), np.full((n_star, len(STEPS)), 0.01)
    value = rng.normal(0.0, std)
    value[:, list(STEPS).index("size")] += slope * place[:, 0]
    return StarResiduals(np.arange(n_star), value, std, np.ones(len(STEPS) + 1)), place


def test_trend_has_its_slope_and_significance():
    residuals, place = following(200, 0.05, np.random.default_rng(1))
    trends = fit_trends(residuals, place)
    slope = np.polyfit(place[:, 0], trends["size"].change, 1)[0]
    expected = 0.01 / (np.std(place[:, 0]) * np.sqrt(200))
    assert abs(slope - 0.05) < 3.0 * expected
    assert trends["size"].significance == pytest.approx(0.05 / expected, rel=0.15)
    assert max(trends["e1"].significance, trends["e2"].significance) < 4.0


def test_few_stars_tell_no_trend():
    assert fit_trends(*following(7, 0.5, np.random.default_rng(1))) == {}
