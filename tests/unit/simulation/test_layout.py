"""Where stars and pixels lie, and how bright the stars are."""

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.layout import place_stars
from bayesprf.simulation.settings import FieldSettings


def _rng(seed=7):
    return np.random.default_rng(seed)


def test_stamps_hold_their_targets_and_no_pixel_twice():
    field = make_field(n_source=60, n_time=1, n_stamp=40, stamp_fill=0.5, rng=_rng())
    places = set(zip(field.pixels.column, field.pixels.row, strict=True))
    assert len(places) == field.pixels.n_pixel
    for column, row in zip(np.rint(field.column[:40]), np.rint(field.row[:40]), strict=True):
        assert (column, row) in places
    assert field.is_target.sum() == 40
    sizes = np.bincount(field.pixels.stamp)
    by_flux = np.argsort(field.mean_flux[:40])
    assert sizes[by_flux[:13]].max() == 25
    assert sizes[by_flux[-13:]].max() == 49


def test_image_is_a_full_grid_with_all_stars_inside():
    field = make_field(n_source=50, n_time=1, layout="image", image_shape=(30, 40), rng=_rng())
    assert field.pixels.n_pixel == 1200
    assert np.ptp(field.pixels.row) == 29
    assert np.ptp(field.pixels.column) == 39
    assert field.column.min() > field.pixels.column.min() - 0.5
    assert field.row.max() < field.pixels.row.max() + 0.5
    assert not field.is_target.any()


def test_stars_keep_their_distance():
    settings = FieldSettings(n_source=300, layout="image", image_shape=(40, 40), min_separation=0.8)
    place, _ = place_stars(settings, np.zeros(300), _rng())
    from scipy.spatial.distance import pdist

    assert pdist(place).min() > 0.8
    with pytest.raises(InputError, match="min_separation: expected a distance at which 300 stars fit"):
        make_field(settings, rng=_rng(), min_separation=8.0)


def test_magnitudes_follow_the_asked_slope():
    field = make_field(n_source=4000, n_time=1, layout="image", image_shape=(300, 300), reach_level=100.0, rng=_rng())
    mag = 12.0 - 2.5 * np.log10(field.mean_flux / 1.74e5)
    assert mag.min() >= 12.0
    assert mag.max() <= 17.0
    counts, _ = np.histogram(mag, bins=[12, 13, 14, 15, 16, 17])
    slope = np.polyfit(np.arange(5), np.log10(counts), 1)[0]
    assert slope == pytest.approx(0.2, abs=0.03)
    flat = make_field(n_source=9, n_time=1, mag_range=(14.0, 14.0), rng=_rng())
    np.testing.assert_allclose(flat.mean_flux, 1.74e5 * 10**-0.8)
