"""Light of stars that no catalogue holds, as it moves along."""

from dataclasses import replace

import numpy as np
from drifting_field import OPTIONS, Scene, simulate
from moving_star import SCALE, gaussian, observe, path, still

from bayesprf.design.trends import TrendOptions
from bayesprf.instruments import K2
from bayesprf.linalg.stack import DesignStack
from bayesprf.timemodel.shift import MovedPrf, build_shift
from bayesprf.timemodel.uncatalogued import add_roll_gain, find_uncatalogued_light


def test_unknown_light_is_found_and_an_eclipse_left_alone():
    """Beside a star with eclipses lies another, in no catalogue: its light is learned, the eclipses are not."""
    motion = path(600)
    flux = np.where(np.arange(600) % 60 < 6, 4500.0, 5000.0)
    pixels, pairs = observe(motion, flux, np.zeros(600))
    unknown = 300.0 * np.stack([gaussian(pairs.source, pairs.dx - 9.0 - x, pairs.dy + 6.0 - y) for x, y in motion])
    shift = build_shift(motion, MovedPrf(gaussian, np.zeros((1, 2)), still()), pairs, mean=gaussian, scale=SCALE)
    parts = shift.factors(pairs) * gaussian(pairs.source, pairs.dx, pairs.dy)
    design = DesignStack(np.arange(pairs.n_pixel + 1), np.zeros(pairs.n_pixel, np.int64), parts, 1, shift.mix)
    seen = replace(pixels, flux=pixels.flux + unknown)
    light = find_uncatalogued_light(
        seen, design, flux[:, None], fixed_light=np.zeros(pairs.n_pixel), mix=shift.mix[:, :8], roll_hours=0.5
    )
    left = light.image() - unknown
    assert left.std() < 0.1 * unknown.std()
    inside = flux < 5000.0
    change = (left[inside].mean(axis=0) - left[~inside].mean(axis=0)) @ gaussian(pairs.source, pairs.dx, pairs.dy)
    assert abs(change) < 0.01 * 500.0 * np.sum(gaussian(pairs.source, pairs.dx, pairs.dy) ** 2)


def test_roll_gain_takes_what_fluxes_share_with_the_roll_and_leaves_slow_change():
    rolling = Scene(simulate(400, roll, instrument=K2))
    trends = TrendOptions(poly_order=1)
    fit, time = rolling.fit(replace(OPTIONS, positions="centroid", trends=trends)), rolling.field.pixels.time
    column = fit.names.index("centroid x")
    slow = 1.0 + 0.05 * np.sin(2 * np.pi * time / 6.0)
    flux = 1000.0 * (slow + 0.03 * fit.vectors[:, column])[:, None] * np.ones((1, 30))
    gain = add_roll_gain(fit, time, flux, 6.0).source_weights - fit.source_weights
    explained = fit.vectors[:, 1:] @ gain[:, 0]
    np.testing.assert_allclose(explained, 0.03 * fit.vectors[:, column], atol=2e-3)
    assert not gain[np.array([not name.startswith("centroid") for name in fit.names[1:]])].any()


def roll(time):
    """Roll by 0.3 pixel within 6 hours."""
    return 0.15 * np.stack([np.sin(2 * np.pi * time / 0.25), 0.5 * np.sin(2 * np.pi * time / 0.25)], axis=1)
