"""A sky that bends beyond what was asked for: its order is found, or named, and bayesprf.fit mends it."""

import warnings

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.errors import ConvergenceWarning, QualityWarning
from bayesprf.flags import QualityFlag
from bayesprf.machine import Machine
from bayesprf.photometry.background import ImageBackground, build_background
from bayesprf.prf.joint.objective import JointOptions, fit_joint
from bayesprf.prf.joint.stage import build_problem
from bayesprf.prf.sky_order import order_of, sky_beyond
from bayesprf.prf.stage import _scene, select_image
from bayesprf.scene.image import reduce_image
from bayesprf.settings import Background, PrfRecipe, ShapeOptions
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.settings import CASES, replace


@pytest.fixture(scope="module")
def field():
    settings = replace(CASES["ffi"], n_source=50, image_shape=(44, 44), background=40.0, reach_level=1e-5)
    return make_field(settings, rng=np.random.default_rng(5))


@pytest.fixture(scope="module")
def sky(field):
    """A level, a slope and a saddle, electron / s."""
    u, v = (2.0 * (one - one.min()) / np.ptp(one) - 1.0 for one in (field.pixels.column, field.pixels.row))
    return 40.0 + 10.0 * u + 15.0 * u * v


def fit(field, sky, background):
    pixels = replace(field.pixels, flux=field.pixels.flux + sky)
    machine = Machine.from_pixels(pixels, field.sources, quiet=True, background=background)
    machine.build_shape_model(method="joint", field_variation=0)
    machine.fit_model()
    return machine


def bias(field, machine):
    bright = np.argsort(-field.mean_flux)[:15]
    return np.median(np.mean(machine.ws, axis=0)[bright] / field.mean_flux[bright] - 1.0)


@pytest.mark.slow
def test_the_pixels_tell_of_what_order_a_sky_is(field, sky):
    machine = fit(field, sky, "image")
    found = machine.fit.need("prf").background
    assert order_of(found.columns).max() >= 2
    assert np.abs(found.light - sky).max() < 1.0
    assert abs(bias(field, machine)) < 0.01
    assert machine.verdict.find(QualityFlag.SKY_LEFT) is None


@pytest.mark.slow
def test_a_sky_that_bends_beyond_its_order_is_named_and_mended(field, sky):
    pixels = replace(field.pixels, flux=field.pixels.flux + sky)
    held = fit(field, sky, Background("image", 1))
    order, height, error = held.fit.need("prf").sky_beyond
    assert order == 2
    assert height == pytest.approx(15.0, abs=1.0)
    assert height > 5.0 * error
    finding = held.verdict.find(QualityFlag.SKY_LEFT)
    assert finding.sentence.startswith("the sky is not as flat as its order in background has it: it bends by 15")
    assert "background='image'" in finding.cure
    options = {"background": Background("image", 1), "shape": {"method": "joint", "field_variation": 0}}
    with pytest.warns(QualityWarning, match="a sky of order 2, background='image', took the misplaced"):
        mended = bp.fit(pixels, field.sources, quiet=True, cures=("sky",), **options)
    cure = next(one for one in mended.verdict.cures if one.name == "sky")
    assert cure.kept
    assert mended.background == Background("image")
    assert abs(bias(field, mended)) < 0.01 < abs(bias(field, held))


def test_only_what_is_significant_lies_beyond(field):
    columns = build_background(field.pixels, reduce_image(field.pixels), Background("image", 3))
    height, error = np.zeros(10), np.ones(10)
    assert sky_beyond(ImageBackground(columns, height, error), 1) is None
    height[[1, 4, 8]] = 100.0, -6.0, 5.5
    assert sky_beyond(ImageBackground(columns, height, error), 1) == (2, 6.0, 1.0)
    assert sky_beyond(ImageBackground(columns, height, error), 2) == (3, 5.5, 1.0)


def test_pixels_beside_a_star_whose_middle_is_left_out_keep_a_share_of_their_weight(field):
    """The share is that of the noise in noise and misfit of these stars alone."""
    brightest = int(np.argmax(field.mean_flux))
    core = np.hypot(field.pixels.column - field.column[brightest], field.pixels.row - field.row[brightest]) < 1.0
    pixels = replace(field.pixels, saturated=core)
    machine = Machine.from_pixels(pixels, field.sources, quiet=True, background=Background("image", 0))
    scene = _scene(machine.fit, select_image(machine.fit, "mean"), PrfRecipe())
    start = build_problem(scene, ShapeOptions())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = fit_joint(*start, JointOptions(max_iter=5))
    away = np.hypot(field.pixels.column - field.column[brightest], field.pixels.row - field.row[brightest])
    used = found.problem.used
    assert np.all((found.trust > 0.0) & (found.trust <= 1.0))
    near, far = found.trust[used & (away < 4.0)], found.trust[used & (away > 25.0)]
    assert near.max() < far.min()
    assert near.min() < 0.5 < far.min()
