"""A PRF that follows the colours of the stars, and one that does not."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.machine import Machine
from bayesprf.pipeline import _sources, _with_colors
from bayesprf.prf.joint.choice import color_score, variation_score
from bayesprf.prf.stage import _colored, _scene, select_image
from bayesprf.results.recipes import read_recipes
from bayesprf.scene.colors import read_colors, scaled_colors
from bayesprf.scene.field_prf import field_columns
from bayesprf.simulation.foreign import make_foreign, scaled_mixture
from bayesprf.simulation.settings import CASES
from bayesprf.simulation.true_prf import asymmetric_prf

SETTINGS = replace(
    CASES["medium"], n_source=60, n_stamp=45, n_time=4, mag_range=(11.0, 15.5), exposure=24000.0, reach_level=1e-3
)


FEW = replace(SETTINGS, n_source=40, n_stamp=30)


def simulate(amount, settings=SETTINGS):
    """Stars whose PRF is wider by `amount` for two standard deviations of colour; one colour is missing."""
    prf = asymmetric_prf()
    found = make_foreign(
        settings,
        lambda u, v, color: scaled_mixture(prf, 1.0 + amount * (color - 1.0) / 0.8),
        rng=np.random.default_rng(11),
        colors=lambda mag, rng: rng.normal(1.0, 0.4, mag.size),
    )
    found.field.sources.columns["color"][-1] = np.nan
    return found


def fit(field, **options):
    machine = Machine.from_pixels(field.field.pixels, field.field.sources, quiet=True)
    machine.build_shape_model(**options)
    return machine


def scatter(field, machine):
    """Robust scatter of fitted over true flux of the brighter half, relative."""
    bright = field.flux > np.median(field.flux)
    ratio = (machine.fit.prf.flux / field.flux)[bright]
    return float(1.4826 * np.median(np.abs(ratio - np.median(ratio))))


@pytest.fixture(scope="module")
def field():
    return simulate(0.03)


@pytest.fixture(scope="module")
def plain(field):
    return fit(field, method="joint", field_variation=0)


@pytest.fixture(scope="module")
def colored(field):
    return fit(field, method="joint", field_variation=0, color_column="color")


def test_stars_agree_where_the_prf_follows_their_colours(plain, colored):
    color = colored.fit.prf.color
    assert color_score(plain.fit.prf.joint, color) > 10.0
    assert abs(variation_score(plain.fit.prf.joint, 1)) < 5.0
    dealt = [color_score(plain.fit.prf.joint, np.random.default_rng(i).permutation(color)) for i in range(40)]
    # Standard error of the mean of 40 standard normal numbers: 0.16; three of them.
    assert abs(np.mean(dealt)) < 0.48
    assert abs(color_score(colored.fit.prf.joint, color)) < 5.0


def test_fluxes_are_right_with_the_colours(field, plain, colored):
    assert scatter(field, plain) > 0.004
    assert scatter(field, colored) < 0.1 * scatter(field, plain)


def test_each_star_has_the_prf_of_its_colour(field, colored):
    """Wider for the red, and the weights at a star's colour give its own column of the design."""
    prf, sources = colored.fit.prf, colored.sources
    red, blue = int(np.argmax(prf.color)), int(np.argmin(prf.color))
    assert prf.color[-1] == 0.0
    peaks = {}
    for star in (red, blue):
        here = prf.at(sources.ra_deg[star], sources.dec_deg[star], prf.color[star])
        pairs = prf.pairs.select(prf.pairs.source == star)
        own = prf.values[prf.pairs.source == star]
        near = own > 0.01
        assert np.abs(here.prf.evaluate(pairs.dx, pairs.dy) / own - 1.0)[near].max() < 2e-3
        peaks[star] = here.prf.peak
        np.testing.assert_allclose(prf.star_prf.prfs[star].weights, here.prf.weights, atol=1e-12)
    assert peaks[red] < 0.95 * peaks[blue]
    assert prf.at(sources.ra_deg[red], sources.dec_deg[red]).prf.peak == pytest.approx(prf.prf.peak, rel=1e-9)


def test_the_average_prf_stays_what_it_is(plain, colored):
    np.testing.assert_allclose(colored.fit.prf.prf.peak, plain.fit.prf.prf.peak, rtol=0.02)
    places = np.column_stack([np.zeros((3, 2)), [-1.0, 0.0, 1.0]])
    areas = [colored.fit.prf.joint.prf.at(one).area() for one in places]
    np.testing.assert_allclose(areas, 1.0, atol=2e-3)


def test_the_width_of_the_colours_is_learned_beside_that_of_the_field(colored, plain):
    assert plain.fit.prf.joint.hyper.color_widths == (0.02, 0.02, 0.06)
    assert colored.fit.prf.joint.hyper.color_widths != (0.02, 0.02, 0.06)
    assert colored.fit.prf.joint.hyper.field_widths == (0.02, 0.02, 0.06)


def decide(machine, column):
    """What becomes of a fit without colours once the stars are asked."""
    fit = machine.fit
    scene = _scene(fit, select_image(fit, "mean"), fit.prf_recipe)
    return _colored(fit, column, scene, fit.prf, fit.prf_recipe)[1:]


def test_the_stars_decide(plain, caplog):
    """Taken where they agree, with what opens the saved fit again."""
    with caplog.at_level(logging.INFO, logger="bayesprf"):
        found, recipe = decide(plain, "color")
    assert found.joint.prf.colored
    assert (recipe.shape.method, recipe.shape.color_column, recipe.shape.field_variation) == ("joint", "color", 0)
    assert any("1 of 60 stars have no colour" in one for one in caplog.messages)


def test_colours_that_say_nothing_change_no_bit(plain):
    sources = plain.fit.sources
    dealt = np.random.default_rng(3).permutation(sources.columns["color"])
    machine = Machine.from_fit(replace(plain.fit, sources=replace(sources, columns={"color": dealt})), quiet=True)
    found, recipe = decide(machine, "color")
    assert found is plain.fit.prf
    assert recipe is plain.fit.prf_recipe


@pytest.mark.slow
def test_a_machine_asks_the_stars():
    for amount, column in ((0.05, "color"), (0.0, None)):
        field = simulate(amount, FEW)
        asked = fit(field, color_column="color", field_variation=0, position_error=0.05)
        assert asked.fit.prf_recipe.shape.color_column == column
        without = fit(field, field_variation=0, position_error=0.05)
        assert np.array_equal(asked.fit.prf.flux, without.fit.prf.flux) == (column is None)


def test_results_hold_the_colours(plain, colored):
    np.testing.assert_array_equal(colored.to_datatree()["shape/prf_color"], colored.fit.prf.color)
    assert "prf_color" not in plain.to_datatree()["shape"]
    assert not plain.fit.prf.color.any()
    tree = colored.to_datatree()
    opened = _with_colors(_sources(tree), tree, read_recipes(tree))
    np.testing.assert_array_equal(scaled_colors(opened, "color"), colored.fit.prf.color)
    tree["catalog/color"] = tree["catalog/color"].fillna(-99).astype(int).assign_attrs(masked_value=-99)
    whole = read_colors(_with_colors(_sources(tree), tree, read_recipes(tree)), "color")
    np.testing.assert_array_equal(np.isnan(whole), np.arange(60) == 59)


def test_what_is_no_colour_is_refused_before_anything_is_fitted(field):
    with pytest.raises(InputError, match="color_column: expected a column of the catalogue"):
        fit(field, color_column="colour")


def test_the_colour_comes_after_the_columns_of_the_place():
    place = np.array([[0.5, -0.5, 2.0], [0.1, 0.2, -1.0]])
    np.testing.assert_array_equal(field_columns(place, 1, colored=True), [[1, 0.5, -0.5, 2.0], [1, 0.1, 0.2, -1.0]])
    np.testing.assert_array_equal(field_columns(place[:, :2], 0, colored=True), [[1, 0], [1, 0]])
