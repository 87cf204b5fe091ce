"""Charge that spilled along a column: its sums tell of the core of a star whose pixels are saturated."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.instruments import TESS
from bayesprf.machine import Machine
from bayesprf.photometry.background import lay_surfaces
from bayesprf.prf.joint.part import select_pixels
from bayesprf.prf.joint.problem import global_columns, look, star_columns
from bayesprf.prf.joint.stage import build_problem
from bayesprf.prf.stage import _scene, select_image
from bayesprf.prf.unlisted.search import _at_places, _places
from bayesprf.settings import PrfRecipe
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.foreign import bleed


def _pixels(full, n_time=2):
    """One star on a TESS stamp, whose pixels hold no more than `full` times saturation without spilling."""
    field = make_field(
        rng=np.random.default_rng(8), n_source=1, n_time=n_time, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0,
        magnitudes=np.array([TESS.zero_flux_mag - 2.5 * np.log10(14.0 * TESS.saturation / TESS.zero_flux)]),
        instrument=TESS,
    )  # fmt: skip
    pixels = field.pixels
    flux = np.array([bleed(one, pixels.column, pixels.row, full * TESS.saturation) for one in pixels.flux])
    return field, replace(pixels, flux=flux, saturated=flux[0] > 0.999 * full * TESS.saturation)


def _fitted(pixels, field):
    machine = Machine.from_pixels(pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint", prf="instrument")
    return machine


@pytest.fixture(scope="module")
def machine():
    """The fit of a star that bleeds along three columns, all of them shorter than the stamp."""
    field, pixels = _pixels(1.0)
    return field, _fitted(pixels, field)


def test_the_charge_of_a_column_tells_of_the_core(machine, monkeypatch):
    """With the sums the flux is known to a few per cent; without, to what the record says of the core."""
    field, found = machine
    truth, joint = field.mean_flux[0], found.fit.need("prf").joint
    assert not np.any(joint.problem.at_least)
    found.fit_model()
    bias, error = found.ws.mean() / truth - 1.0, found.common_errors.std[0] / truth
    assert abs(bias) < 2.0 * error < 0.12
    monkeypatch.setattr("bayesprf.prf.joint.start._Spilled.of", lambda *_: None)
    before = _fitted(found.pixels, field)
    before.fit_model()
    assert before.common_errors.std[0] / truth > 1.5 * error


def test_flux_counts_the_sum_of_each_column(machine):
    """All spilled pixels of this star count, under one number a column, and no sum shows in the model."""
    _, found = machine
    found.fit_model()
    prf, pixels = found.fit.need("prf"), found.pixels
    spilled, first = pixels.spilled, found.fit.latest_flux
    assert not prf.left_out(spilled).any()
    assert not first.model()[:, spilled].any()
    data = first.problem.data[:, np.unique(prf.home[spilled])]
    np.testing.assert_allclose(data.sum(axis=1), pixels.flux[:, spilled].sum(axis=1), rtol=1e-12)


def test_a_bound_that_holds_is_no_measurement():
    """Where charge left the data, the flux rests on the bound, and its error is that of the wings."""
    field, pixels = _pixels(0.4)
    found = _fitted(pixels, field)
    found.fit_model()
    joint, spilled = found.fit.need("prf").joint, pixels.spilled
    assert not joint.problem.ivar[joint.problem.at_least > 0].any()
    assert found.fit.need("prf").left_out(spilled).any()
    bias, error = found.ws.mean() / field.mean_flux[0] - 1.0, found.common_errors.std[0] / field.mean_flux[0]
    assert abs(bias) < 2.0 * error
    assert found.common_errors.parts["shape"][0] / field.mean_flux[0] > 0.02


def test_sums_need_all_their_values():
    """A sum counts where all its pixels have data; the background beneath them is theirs together."""
    _, pixels = _pixels(1.0)
    spilled = np.flatnonzero(pixels.spilled & (pixels.column == pixels.column[np.argmax(pixels.flux[0])]))
    home = np.arange(pixels.n_pixel)
    home[spilled] = spilled[0]
    flux = pixels.flux.copy()
    flux[1, spilled[2]] = np.nan
    counted = replace(pixels, flux=flux).counted(home)
    assert counted.flux[0, spilled[0]] == pytest.approx(pixels.flux[0, spilled].sum())
    assert counted.ivar[0, spilled[0]] == pytest.approx(1.0 / np.sum(1.0 / pixels.ivar[0, spilled]))
    assert not counted.ivar[:, spilled[1:]].any()
    assert counted.ivar[1, spilled[0]] == 0.0
    sky = lay_surfaces(pixels, np.zeros(pixels.n_pixel, np.int64), order=0, sigma=1.0)
    assert not sky.matrix.toarray()[spilled].any()
    assert sky.counted(home, pixels.spilled).matrix.toarray()[spilled[0], 0] == spilled.size


def test_image_and_columns_are_sums_of_those_of_the_pixels(machine):
    """Each run is counted under the number of one pixel; the pairs of the fit lie in their own."""
    _, found = machine
    fit = found.fit.need("prf")
    problem, state = fit.joint.problem, fit.joint.state
    assert np.count_nonzero(problem.home != np.arange(problem.home.size)) > 10
    own = replace(problem, layout=type(problem.layout).of(
        problem.layout.own_pairs, np.isin(np.arange(problem.pairs.n_pair), problem.layout.order.near),
        problem.layout.far, float(np.sqrt(problem.pixel_area)),
    ))  # fmt: skip
    merged, apart = look(problem, state), look(own, state)
    image = problem.summed(csr_matrix((apart.image - apart.far[:, 0])[:, None])).toarray()[:, 0]
    np.testing.assert_allclose(merged.image - merged.far[:, 0], image, rtol=1e-10, atol=1e-8)
    expected = problem.summed(star_columns(own, state, apart)).toarray()
    np.testing.assert_allclose(
        star_columns(problem, state, merged).toarray(), expected, atol=1e-9 * np.abs(expected).max()
    )
    expected = problem.summed(csr_matrix(global_columns(own, state, apart))).toarray()
    np.testing.assert_allclose(global_columns(problem, state, merged), expected, atol=1e-9 * np.abs(expected).max())
    tiles, parts = problem.layout.tiles, np.ones((problem.layout.order.near.size, 3))
    assert sum(tiles.matrix(tile, parts).sum() for tile in range(tiles.n_tile)) == parts.sum()
    pairs = fit.matrix.pairs
    assert np.unique(pairs.pixel).size == pairs.n_pair
    assert np.all(problem.single <= ~found.pixels.spilled)


def test_sums_that_lost_charge_are_bounds():
    """A column that is full to the edge of the data lost some: the model may be above its sum, not below."""
    field, pixels = _pixels(0.4)
    recipe = PrfRecipe().updated(method="joint", prf="instrument")
    fit = Machine.from_pixels(pixels, field.sources, quiet=True).fit
    problem = build_problem(_scene(fit, select_image(fit, recipe.frame_index), recipe), recipe.shape)[0]
    bound = np.flatnonzero(problem.at_least)
    assert bound.size > 0
    assert not problem.ivar[bound].any()
    above, below = problem.bounded(1.1 * problem.flux), problem.bounded(0.9 * problem.flux)
    np.testing.assert_array_equal(above.ivar, problem.ivar)
    np.testing.assert_array_equal(below.ivar[bound], problem.at_least[bound])
    rest = np.setdiff1d(np.arange(problem.ivar.size), bound)
    np.testing.assert_array_equal(below.ivar[rest], problem.ivar[rest])


def test_part_of_the_pixels_keeps_its_sums(machine):
    """Runs whose number is in the part; the same image there."""
    _, found = machine
    problem, state = found.fit.need("prf").joint.problem, found.fit.need("prf").joint.state
    keep = found.pixels.row > np.median(found.pixels.row) - 4
    part = select_pixels(problem, keep)
    image, whole = look(part, state).image, look(problem, state).image[keep]
    np.testing.assert_allclose(image[part.used], whole[part.used], rtol=1e-10)
    np.testing.assert_array_equal(part.bounded(0.0 * image).ivar, problem.bounded(np.zeros(keep.size)).ivar[keep])
    assert np.any(part.home != np.arange(part.home.size))


def test_no_star_is_looked_for_in_spilled_pixels(machine):
    """Where most of the light of a star would fall on them, the others tell it from no error of the PRF."""
    _, found = machine
    joint, pixels = found.fit.need("prf").joint, found.pixels
    place = _places(pixels)
    masked = _at_places(pixels, joint.problem, joint.state, place)[1]
    x = (place[:, 0] - pixels.ra_deg.mean()) * np.cos(np.radians(place[:, 1]))
    for k, spilled in ((np.argmax(pixels.flux[0]), True), (0, False)):
        away = np.hypot(x - (pixels.ra_deg[k] - pixels.ra_deg.mean()) * np.cos(np.radians(pixels.dec_deg[k])),
                        place[:, 1] - pixels.dec_deg[k])  # fmt: skip
        assert bool(pixels.spilled[k]) is spilled
        assert bool(masked[np.argmin(away)]) is spilled


def test_first_fluxes_of_few_stars_have_the_scale_of_all_light():
    """A faint star beside the core that no pixel shows would else be given its light."""
    field = make_field(
        rng=np.random.default_rng(8), n_source=3, n_time=2, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0,
        mag_range=(8.0, 13.0), min_separation=2.0, instrument=TESS, catalog_scatter=0.0, catalog_scale=1.3,
    )  # fmt: skip
    saturated = field.pixels.flux[0] > 0.3 * field.pixels.flux[0].max()
    pixels = replace(field.pixels, saturated=saturated)
    recipe = PrfRecipe().updated(method="joint", prf="instrument")
    fit = Machine.from_pixels(pixels, field.sources, quiet=True).fit
    problem, state, _ = build_problem(_scene(fit, select_image(fit, recipe.frame_index), recipe), recipe.shape)
    ratio = state.flux / field.sources.flux
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    np.testing.assert_allclose(problem.prior.flux, state.flux, rtol=1e-9)
    # The record's PRF is not the star's: their light in the pixels agrees to about a quarter.
    assert ratio[0] * 1.3 == pytest.approx(1.0, abs=0.25)
