"""One fit of log10 PRF to pixels of known stars."""

from dataclasses import replace

import numpy as np
import pytest
from known_stars import PHASES, pixels_of, truth

from bayesprf.errors import InputError
from bayesprf.prf.rounds.splines import fit_profile
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.settings import ShapeOptions


def test_profile_is_recovered_without_noise():
    prf = truth()
    found = fit_profile(
        pixels_of(prf), replace(prf, weights=np.zeros_like(prf.weights)), PHASES, options=ShapeOptions(), fresh=True
    )
    r, phi = np.linspace(1.0, 14.0, 30), np.linspace(0.0, 6.0, 30)
    dx, dy = r * np.cos(phi), r * np.sin(phi)
    np.testing.assert_allclose(found.prf.evaluate(dx, dy), prf.evaluate(dx, dy), rtol=0.02)
    assert found.prf.area() == pytest.approx(1.0, rel=1e-12)
    assert found.area == pytest.approx(1.0, abs=0.01)
    assert found.keep.mean() > 0.98


def test_area_is_the_factor_of_the_training_fluxes():
    prf = truth()
    found = fit_profile(pixels_of(prf).scaled(0.5), prf, PHASES, options=ShapeOptions(), fresh=True)
    assert found.area == pytest.approx(2.0, rel=0.01)


def test_outliers_are_clipped():
    prf = truth()
    training = pixels_of(prf, noise=20.0)
    spoiled = training.light.copy()
    spoiled[::50] *= 3.0
    bright = training.flux * prf.evaluate(training.dx, training.dy) > 2000.0
    found = fit_profile(replace(training, light=spoiled), prf, PHASES, options=ShapeOptions())
    hit = np.zeros(spoiled.size, bool)
    hit[::50] = True
    assert not found.keep[hit & bright].any()
    assert found.keep[~hit].mean() > 0.95


def test_faint_wings_are_not_biased():
    """PSFMachine, defect 12: a fit to log10 flux drops negative pixels, so that wings come out too high."""
    prf = truth()
    training = pixels_of(prf, noise=600.0)
    far = np.hypot(training.dx, training.dy) > 10.0
    assert np.mean(training.light[far] < 0) > 0.1
    found = fit_profile(training, prf, PHASES, options=ShapeOptions())
    fitted, true = (one.evaluate(training.dx[far], training.dy[far]).mean() for one in (found.prf, prf))
    assert fitted == pytest.approx(true, rel=0.1)


def test_no_pixel_is_refused():
    empty = StarPixels(np.zeros(0, np.int64), *(np.zeros(0) for _ in range(5)))
    with pytest.raises(InputError, match=r"^training: expected pixels that one star lights, got none"):
        fit_profile(empty, truth(), PHASES, options=ShapeOptions())
