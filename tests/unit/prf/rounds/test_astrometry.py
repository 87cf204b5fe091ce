"""The offset and shear that all stars share, and the position of each."""

from dataclasses import replace

import numpy as np
import pytest
from known_stars import PHASES, make_scene, pixels_of, truth

from bayesprf.prf.rounds.astrometry import centroid_offset, fit_geometry, fit_position_errors, fit_positions
from bayesprf.prf.rounds.splines import Profile, fit_profile
from bayesprf.scene.prf import prf_gradients
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import ShapeOptions


def test_common_shift_is_found():
    prf = truth()
    moved = pixels_of(prf).shifted(np.array([0.3, -0.2]))
    profile = fit_profile(moved, prf, PHASES, options=ShapeOptions())
    profile = replace(profile, prf=prf)
    step = fit_geometry(profile, moved, PHASES, smoothness=0.2)
    np.testing.assert_allclose(step[:2], [0.3, -0.2], atol=0.05)


def test_shear_is_found():
    sheared = pixels_of(truth(shear=(0.03, -0.02)))
    prf = truth()
    profile = replace(fit_profile(sheared, prf, PHASES, options=ShapeOptions()), prf=prf)
    step = fit_geometry(profile, sheared, PHASES, smoothness=0.2)
    np.testing.assert_allclose(step[2:], [0.03, -0.02], atol=0.01)


def test_centroid_is_a_first_guess():
    moved = pixels_of(truth()).shifted(np.array([1.0, -0.5]))
    np.testing.assert_allclose(centroid_offset(moved), [1.0, -0.5], atol=0.5)
    faint = replace(moved, variance=np.full(moved.light.size, 1e16))
    np.testing.assert_array_equal(centroid_offset(faint), [0.0, 0.0])


def test_positions_of_blended_stars_are_found():
    """One step of 70 % towards the truth, the steps long enough not to be cut."""
    prf, shift = truth(), np.random.default_rng(7).normal(0.0, 0.1, (16, 2))
    scene, flux = make_scene(prf, n_star=16, spacing=12.0, jitter=1.0)
    moved = scene.pairs.moved(shift)
    image = replace(scene.image, flux=PrfMatrix.constant(moved, prf.evaluate(moved.dx, moved.dy)).image(flux))
    matrix = PrfMatrix.constant(scene.pairs, prf.evaluate(scene.pairs.dx, scene.pairs.dy))
    profile = Profile(prf, np.zeros((prf.weights.size, prf.weights.size)), 1e-4, 1.0, np.ones(1, bool))
    found = fit_positions(matrix, profile, flux=flux, image=image, shift=np.zeros((16, 2)), width=1.0)
    np.testing.assert_allclose(found.shift, 0.7 * shift, atol=0.01)
    assert found.std.max() < 0.01
    assert found.moved == pytest.approx(0.7 * np.abs(shift).max(), rel=0.1)


def test_no_star_moves_beyond_five_widths():
    """Light of a star that the catalogue lacks draws a star on for ever: 3 arcsec away it may move by 0.5."""
    prf, shift = truth(), np.zeros((16, 2))
    shift[3] = 2.0, -2.0
    scene, flux = make_scene(prf, n_star=16, spacing=30.0)
    moved = scene.pairs.moved(shift)
    image = replace(scene.image, flux=PrfMatrix.constant(moved, prf.evaluate(moved.dx, moved.dy)).image(flux))
    profile = Profile(prf, np.zeros((prf.weights.size, prf.weights.size)), 1e-4, 1.0, np.ones(1, bool))
    found = np.zeros((16, 2))
    for _ in range(4):
        here = scene.pairs.moved(found)
        matrix = PrfMatrix.constant(here, prf.evaluate(here.dx, here.dy))
        last = fit_positions(matrix, profile, flux=flux, image=image, shift=found, width=0.1)
        found = last.shift
    assert np.hypot(*found[3]) == pytest.approx(0.5, rel=1e-9)
    assert np.hypot(*np.delete(found, 3, axis=0).T).max() < 0.05
    assert last.moved < 0.1


def test_errors_of_positions_are_the_posterior_of_one_star():
    prf = truth()
    scene, flux = make_scene(prf, n_star=2, spacing=120.0)
    matrix = PrfMatrix.constant(scene.pairs, prf.evaluate(scene.pairs.dx, scene.pairs.dy))
    image = replace(scene.image, flux=matrix.image(flux))
    shift = np.array([[0.3, -0.3], [0.3, -0.3]])
    factor = fit_position_errors(matrix, (prf, 1e-4), flux=flux, image=image, shift=shift).toarray()
    std = np.sqrt(np.diag(factor @ factor.T)).reshape(2, 2).T
    np.testing.assert_allclose(factor @ factor.T, np.diag(np.diag(factor @ factor.T)), atol=1e-12)
    gradient = prf_gradients(prf, scene.pairs.dx, scene.pairs.dy, names=("east",))["east"]
    for star in range(2):
        own = scene.pairs.source == star
        light, slope = matrix.light(flux)[own], flux[star] * gradient[own]
        variance = 4.0 + (np.log(10.0) * 1e-4) ** 2 * prf.peak * light * flux[star]
        lone = 1.0 / np.sqrt(np.sum(slope**2 / variance))
        assert std[star, 0] == pytest.approx(lone, rel=0.05)
