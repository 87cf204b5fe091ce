"""Which motion becomes a shift of the PRF, and the data as they would be without it."""

from dataclasses import replace

import numpy as np
import pytest
from drifting_field import OPTIONS
from rolling_stars import rolling_machine

from bayesprf.scene.axes import pixel_axes
from bayesprf.timemodel.shift_fit import fit_shift, settle_light
from bayesprf.timemodel.training import choose_training

CENTROID = replace(OPTIONS, positions="centroid")


@pytest.fixture(scope="module")
def rolling():
    machine, field = rolling_machine()
    prf = machine.fit.prf
    return field, prf, choose_training(field.pixels, prf.matrix, prf.flux, prf.star_prf, options=CENTROID)


@pytest.fixture(scope="module")
def shift(rolling):
    field, prf, pairs = rolling
    return fit_shift(field.pixels, prf, pairs, options=CENTROID, relearn=lambda cadences: prf)


@pytest.mark.parametrize("options", [OPTIONS, replace(CENTROID, shift_limit=2.0)], ids=["not asked for", "small"])
def test_no_shift_where_none_is_asked_for_or_the_motion_is_small(rolling, options):
    field, prf, pairs = rolling
    assert fit_shift(field.pixels, prf, pairs, options=options, relearn=None) is None


def test_no_shift_where_no_star_has_enough_pixels_to_measure_one(rolling):
    field, prf, pairs = rolling
    spilled = replace(field.pixels, saturated=np.ones(field.pixels.n_pixel, bool))
    assert fit_shift(spilled, prf, pairs, options=CENTROID, relearn=None) is None


def test_the_motion_is_that_of_the_stars(rolling, shift):
    field, _, _ = rolling
    found = np.linalg.solve(pixel_axes(field.pixels), shift.motion.T).T
    true = field.pixels.pos_corr
    difference = found - found.mean(axis=0) - true + true.mean(axis=0)
    assert difference.std() < 0.06 * true.std()


def test_the_prf_is_learned_again_near_the_middle_pointing(rolling):
    field, prf, pairs = rolling
    asked = []
    fit_shift(field.pixels, prf, pairs, options=CENTROID, relearn=lambda cadences: asked.append(cadences) or prf)
    (near,) = asked
    distance = np.hypot(*(field.pixels.pos_corr - np.median(field.pixels.pos_corr, axis=0)).T)
    assert 10 < near.sum() < 60
    assert distance[near].mean() < 0.5 * distance[~near].mean()


def test_data_without_motion_vary_less(rolling, shift):
    field, prf, pairs = rolling
    steady, light = settle_light(field.pixels, prf, shift)
    bright = pairs.pixel[pairs.light[pairs.chosen] > 300.0]
    assert steady[:, bright].std(axis=0).mean() < 0.35 * field.pixels.flux[:, bright].std(axis=0).mean()
    assert light is not None
    assert light.image().shape == field.pixels.flux.shape
