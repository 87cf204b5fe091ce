"""Stars without a catalogue: from headers, and from the mean image."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.instruments import KEPLER
from bayesprf.io.catalogs.detect import add_missing, detect_sources, sources_from_targets
from bayesprf.scene.sky import nearest
from bayesprf.simulation.fields import make_case, make_field


@pytest.fixture(scope="module")
def field():
    return make_case("medium", np.random.default_rng(7), n_time=10)


def test_stars_are_found_and_nothing_else(field):
    """Of ten targets brighter than magnitude 14 nine, the rest being blends; false ones are one in a hundred at most.

    In three fields: what is counted as false is mostly the light of catalogue stars just off the pixels.
    """
    away, missed = [], []
    for one in (field, *(make_case("medium", np.random.default_rng(seed), n_time=10) for seed in (8, 9))):
        found = detect_sources(one.pixels)
        away.append(nearest(found.ra_deg, found.dec_deg, one.sources.ra_deg, one.sources.dec_deg)[1])
        bright = one.is_target & (one.sources.mag < 14.0)
        place = one.sources.ra_deg[bright], one.sources.dec_deg[bright]
        missed.append(nearest(*place, found.ra_deg, found.dec_deg)[1])
    assert np.mean(np.concatenate(away) > 1.5 * KEPLER.pixel_scale) <= 0.01
    assert np.median(np.concatenate(away)) < 0.3 * KEPLER.pixel_scale
    assert np.mean(np.concatenate(missed) < 1.5 * KEPLER.pixel_scale) > 0.97


def test_names_are_in_the_order_of_the_light(field):
    found = detect_sources(field.pixels)
    assert found.source_id[0] == "detected-1"
    assert np.all(np.diff(found.flux) <= 0)
    assert found.epoch[0] == pytest.approx(2009.33, abs=0.1)


def stamp_of(make_pixels, *stars):
    """Return a stamp of 11 x 11 pixels with Gaussian stars (column, row, flux), sigma 0.8 pixel."""
    row, column = (part.ravel() for part in np.mgrid[0:11, 0:11])
    light = sum(f / (2 * np.pi * 0.64) * np.exp(-((column - x) ** 2 + (row - y) ** 2) / 1.28) for x, y, f in stars)
    full = make_pixels(shape=(11, 11)).instrument.saturation
    return make_pixels(shape=(11, 11), flux=np.tile(np.minimum(light, 1.05 * full), (4, 1)), saturated=None)


def test_both_stars_of_a_blend_are_found(make_pixels):
    """Two stars three pixels apart, as those of TIC 273589987: the finder's own least distance is 2.5 widths, 3.75."""
    assert detect_sources(stamp_of(make_pixels, (5.0, 5.0, 9000.0), (6.4, 2.4, 6000.0))).n_source == 2


def test_a_star_that_bleeds_is_one(make_pixels):
    trail = [(5.0, row, 2e6) for row in (1.0, 4.0, 7.0)]
    bleeding = stamp_of(make_pixels, *trail)
    assert bleeding.saturated.sum() > 9
    found = detect_sources(bleeding)
    assert found.n_source == 1
    pixel = np.flatnonzero((bleeding.column == 13) & (bleeding.row == 19))[0]  # the first of its column
    known = replace(found, ra_deg=bleeding.ra_deg[[pixel]], dec_deg=bleeding.dec_deg[[pixel]])
    assert add_missing(bleeding, known) is known


def test_no_star_is_added_in_the_wing_of_a_brighter_one(make_pixels):
    """A star off the pixels lights their edge: a peak, but no other star."""
    beside = stamp_of(make_pixels, (-1.8, 5.0, 9000.0), (5.0, 5.0, 3000.0))
    found = detect_sources(beside)
    assert found.n_source == 2
    east, north = (np.diff(one.reshape(11, 11)[5, :2])[0] for one in (beside.ra_deg, beside.dec_deg))
    corner = np.flatnonzero((beside.column == 8) & (beside.row == 23))[0]
    star = replace(
        found.select(np.array([True, False])), ra_deg=beside.ra_deg[[corner]] - 1.8 * east,
        dec_deg=beside.dec_deg[[corner]] - 1.8 * north, flux=np.array([9000.0]),
    )  # fmt: skip
    grown = add_missing(beside, star)
    assert grown.n_source == 2


def test_fluxes_are_the_light_of_nine_pixels(field):
    found = detect_sources(field.pixels)
    match, away = nearest(found.ra_deg, found.dec_deg, field.sources.ra_deg, field.sources.dec_deg)
    near = away < KEPLER.pixel_scale
    ratio = found.flux[near] / field.mean_flux[match[near]]
    assert 0.5 < np.median(ratio) < 0.9
    np.testing.assert_allclose(found.flux, 1.74e5 * 10 ** (-0.4 * (found.mag - 12.0)), rtol=1e-12)


def test_sky_in_the_pixels_makes_no_stars(field):
    lifted = replace(field.pixels, flux=field.pixels.flux + 500.0)
    assert detect_sources(lifted).n_source == detect_sources(field.pixels).n_source


def test_missing_stars_are_added_on_the_catalogue_s_scale(field):
    order = np.argsort(field.sources.mag)
    alone = field.is_target[order] & (field.sources.mag[order] < 14.0)
    left_out = order[alone][:5]
    keep = np.ones(field.sources.n_source, bool)
    keep[left_out] = False
    sources = replace(field.sources.scaled(7.0), columns={"note": np.arange(keep.size)}).select(keep)
    grown = add_missing(field.pixels, sources)
    added = grown.select(np.arange(grown.n_source) >= sources.n_source)
    match, away = nearest(field.sources.ra_deg[left_out], field.sources.dec_deg[left_out], added.ra_deg, added.dec_deg)
    assert np.all(away < KEPLER.pixel_scale)
    ratio = added.flux[match] / (7.0 * field.sources.flux[left_out])
    np.testing.assert_allclose(np.log(ratio), 0.0, atol=0.35)
    assert grown.source_id[sources.n_source] == "detected-1"
    assert np.ma.getmaskarray(grown.columns["note"])[sources.n_source :].all()


def test_nothing_to_add_leaves_the_catalogue_alone(field):
    found = detect_sources(field.pixels)
    assert add_missing(field.pixels, found) is found


def test_an_empty_image_is_refused():
    field = make_field(rng=np.random.default_rng(1), n_source=1, n_time=3, mag_range=(25.0, 25.0), stamp_sides=(9,))
    with pytest.raises(
        InputError, match=r"^catalog: 'detect' expects a star above 8 standard deviations .* found none"
    ):
        detect_sources(field.pixels, threshold=8.0)
    with pytest.raises(InputError, match=r"^threshold: expected a finite number above 0"):
        detect_sources(field.pixels, threshold=0.0)


def target(name, ra, dec, mag=12.0, **others):
    return {"id": name, "ra_deg": ra, "dec_deg": dec, "mag": mag, "file": "a.fits"} | others


def test_targets_of_the_headers(make_pixels):
    light = np.zeros(30)
    pixels = make_pixels()
    away = nearest(pixels.ra_deg, pixels.dec_deg, np.array([290.001]), np.array([45.0]))[1]
    light[np.argmin(away)] = 900.0
    pixels = replace(pixels, flux=np.tile(100.0 + light, (4, 1)))
    targets = [
        target("KIC 1", 290.0, 45.0, pmra=1000.0, pmdec=0.0),
        target("KIC 1", 290.0, 45.0),  # the same star in another file
        target("EPIC 2", 290.001, 45.0, mag=np.nan),
        target("EPIC 2", 290.002, 45.0),  # another cutout of one name
        target("EPIC 3", np.nan, np.nan),
        target("a.fits", 290.003, 45.0),  # a cutout without a star's name
    ]
    sources = sources_from_targets(replace(pixels, meta={"targets": targets}))
    assert sources.source_id == ("KIC 1", "EPIC 2", "EPIC 2 (2)")
    assert sources.flux[0] == pytest.approx(KEPLER.zero_flux)
    assert sources.flux[1] == pytest.approx(900.0)  # no magnitude: its light above the background
    np.testing.assert_array_equal(sources.epoch, 2000.0)
    assert (sources.at_epoch(2010.0).ra_deg[0] - 290.0) * 3600 == pytest.approx(10.0 / np.cos(np.pi / 4), rel=1e-4)
    with pytest.raises(InputError, match=r"^catalog: 'targets' expects target pixel files whose headers name a star"):
        sources_from_targets(replace(pixels, meta={"targets": targets[-1:]}))
    with pytest.raises(InputError, match=r"got none; give a catalogue, or catalog='detect'"):
        sources_from_targets(pixels)
