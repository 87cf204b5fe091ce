"""The shifted PRF as parts and mix, the pointing it needs, and the light of unknown stars."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.instruments import K2
from bayesprf.linalg.stack import DesignStack
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import PerturbationOptions
from bayesprf.timemodel.pointing import measure_pointing, measure_smear
from bayesprf.timemodel.shift import FieldMotion, MovedPrf, build_shift
from bayesprf.timemodel.shift_grid import ShiftGrid
from bayesprf.timemodel.uncatalogued import find_moving_light

SCALE, WIDTH = 4.0, 2.6  # arcsec: a pixel, and a PRF as sharp as Kepler's


def gaussian(dx, dy):
    return SCALE**2 / (2 * np.pi * WIDTH**2) * np.exp(-0.5 * (dx**2 + dy**2) / WIDTH**2)


def path(n=300):
    """Go to and fro by a pixel, along a bent line with some width."""
    rng = np.random.default_rng(3)
    along = rng.uniform(-1.0, 1.0, n)
    return SCALE * np.stack([along, -0.5 * along + 0.1 * along**2 + 0.05 * rng.normal(size=n)], axis=1)


def still(n_source=1):
    return FieldMotion(np.zeros((n_source, 2)), (), np.zeros((0, 2, 2)))


def square(side=11):
    """Return the pairs of one star in the middle of a square of pixels."""
    x, y = np.meshgrid(*(2 * [SCALE * (np.arange(side) - side // 2)]))
    n = x.size
    return PairTable(np.zeros(n, np.int64), np.arange(n), x.ravel().astype(float), y.ravel().astype(float), 1, n)


def shifted(motion, pairs):
    return np.stack([gaussian(pairs.dx - east, pairs.dy - north) for east, north in motion])


def test_parts_and_mix_are_the_shifted_prf():
    motion, pairs = path(), square()
    shift = build_shift(motion, MovedPrf(gaussian, np.zeros((1, 2)), still()), pairs, mean=gaussian, scale=SCALE)
    found = shift.mix @ (shift.factors(pairs) * gaussian(pairs.dx, pairs.dy))
    assert np.abs(found - shifted(motion, pairs)).max() < 1e-3 * gaussian(0.0, 0.0)
    assert found.min() > -2e-4 * gaussian(0.0, 0.0)
    assert shift.mix.shape[1] < 20 < shift.grid.nodes.shape[0]
    assert np.all(np.diff(shift.size) < 0)


def test_no_motion_takes_one_part():
    pairs = square()
    motion = np.zeros((5, 2))
    shift = build_shift(motion, MovedPrf(gaussian, np.zeros((1, 2)), still()), pairs, mean=gaussian, scale=SCALE)
    assert shift.mix.shape == (5, 1)
    prf = gaussian(pairs.dx, pairs.dy)
    np.testing.assert_allclose(shift.mix @ (shift.factors(pairs) * prf), np.tile(prf, (5, 1)), atol=1e-3 * prf.max())


def test_weights_sum_to_one_and_slopes_are_their_derivatives():
    motion, step = 0.9 * path(), 1e-5
    grid = ShiftGrid.around(path(), SCALE)
    np.testing.assert_allclose(grid.weights(motion).sum(axis=1), 1.0, atol=1e-12)
    for axis, slope in enumerate(grid.slopes(motion)):
        move = step * np.eye(2)[axis]
        numeric = (grid.weights(motion + move) - grid.weights(motion - move)) / (2 * step)
        np.testing.assert_allclose(slope, numeric, atol=1e-8)
    np.testing.assert_allclose(grid.weights(grid.nodes), np.eye(grid.nodes.shape[0]), atol=1e-12)


def test_motion_may_differ_over_the_field():
    field = FieldMotion(np.array([[1.0, 0.0], [-1.0, 0.0]]), ((1, 0),), 0.2 * np.eye(2)[None])
    np.testing.assert_allclose(field.matrices, [1.2 * np.eye(2), 0.8 * np.eye(2)])
    pairs = PairTable(np.array([0, 1]), np.array([0, 1]), np.zeros(2), np.zeros(2), 2, 2)
    grid = ShiftGrid.around(path(), SCALE)
    values = MovedPrf(gaussian, np.zeros((2, 2)), field).at_nodes(grid, pairs.source, pairs.dx, pairs.dy)
    expected = np.stack([gaussian(*(-factor * grid.nodes.T)) for factor in (1.2, 0.8)], axis=1)
    np.testing.assert_allclose(values, expected)


def observe(motion, flux, sky):
    """Return pixels with one star that moves, on a sky that changes."""
    pairs, rng = square(), np.random.default_rng(5)
    data = flux[:, None] * shifted(motion, pairs) + sky[:, None]
    error = np.full(data.shape, 2.0)
    column, row = np.divmod(np.arange(pairs.n_pixel), 11)
    pixels = PixelTable(
        0.02 * np.arange(flux.size), data + 2.0 * rng.standard_normal(data.shape), error,
        10.0 + pairs.dx / 3600, pairs.dy / 3600, column, row, instrument=replace(K2, pixel_scale=SCALE),
    )  # fmt: skip
    return pixels, pairs


def mean_of(pairs):
    return PrfMatrix.constant(pairs, gaussian(pairs.dx, pairs.dy))


def test_pointing_is_measured_beside_flux_and_sky():
    motion = path(120)
    rng = np.random.default_rng(6)
    pixels, pairs = observe(motion, rng.uniform(4000.0, 6000.0, 120), rng.uniform(0.0, 100.0, 120))
    prf = MovedPrf(gaussian, np.zeros((1, 2)), still())
    found, _ = measure_pointing(pixels, prf, mean_of(pairs), np.array([5000.0]))
    assert np.abs(found - motion).max() < 0.01 * SCALE


def test_a_cadence_without_data_has_no_pointing():
    motion = path(40)
    pixels, pairs = observe(motion, np.full(40, 5000.0), np.zeros(40))
    flux = pixels.flux.copy()
    flux[7] = np.nan
    prf = MovedPrf(gaussian, np.zeros((1, 2)), still())
    found, _ = measure_pointing(replace(pixels, flux=flux), prf, mean_of(pairs), np.array([5000.0]))
    assert np.flatnonzero(~np.isfinite(found).all(axis=1)).tolist() == [7]


def test_an_exposure_may_hold_two_pointings():
    """A twelfth of one exposure was spent at the place of the cadence before."""
    motion = np.where(np.arange(60)[:, None] < 30, [[2.0, 0.5]], [[-2.5, -0.5]])
    motion = motion + 0.02 * np.random.default_rng(8).standard_normal((60, 2))
    flux = np.full(60, 8000.0)
    pixels, pairs = observe(motion, flux, np.zeros(60))
    seen = pixels.flux.copy()
    both = shifted(motion[29:31], pairs)
    seen[30] += flux[30] / 12 * (both[0] - both[1])
    prf = MovedPrf(gaussian, np.zeros((1, 2)), still())
    values = gaussian(pairs.dx, pairs.dy)
    smear = measure_smear(replace(pixels, flux=seen), prf, mean_of(pairs), np.array([8000.0]), motion=motion)
    assert smear[30, 0] == pytest.approx(1 / 12, abs=0.01)
    others = np.delete(np.arange(60), 30)
    assert smear[others].max() < 0.005
    shift = build_shift(motion, prf, pairs, mean=gaussian, scale=SCALE, smear=smear)
    expected = (1 - smear[30, 0]) * both[1] + smear[30, 0] * both[0]
    np.testing.assert_allclose(shift.mix[30] @ (shift.factors(pairs) * values), expected, atol=1e-3 * values.max())


def test_unknown_light_is_found_and_an_eclipse_left_alone():
    """Beside a star with eclipses lies another, in no catalogue: its light is learned, the eclipses are not."""
    motion = path(600)
    flux = np.where(np.arange(600) % 60 < 6, 4500.0, 5000.0)
    pixels, pairs = observe(motion, flux, np.zeros(600))
    unknown = 300.0 * np.stack([gaussian(pairs.dx - 9.0 - x, pairs.dy + 6.0 - y) for x, y in motion])
    shift = build_shift(motion, MovedPrf(gaussian, np.zeros((1, 2)), still()), pairs, mean=gaussian, scale=SCALE)
    parts = shift.factors(pairs) * gaussian(pairs.dx, pairs.dy)
    design = DesignStack(np.arange(pairs.n_pixel + 1), np.zeros(pairs.n_pixel, np.int64), parts, 1, shift.mix)
    seen = replace(pixels, flux=pixels.flux + unknown)
    light = find_moving_light(
        seen, design, flux[:, None], known=np.zeros(pairs.n_pixel), mix=shift.mix[:, :8], roll_hours=0.5
    )
    left = light.image() - unknown
    assert left.std() < 0.1 * unknown.std()
    inside = flux < 5000.0
    change = (left[inside].mean(axis=0) - left[~inside].mean(axis=0)) @ gaussian(pairs.dx, pairs.dy)
    assert abs(change) < 0.01 * 500.0 * np.sum(gaussian(pairs.dx, pairs.dy) ** 2)


@pytest.mark.parametrize("options", [{"shift_limit": -1.0}, {"shift_limit": np.nan}, {"shift_order": -1}])
def test_limits_are_checked(options):
    with pytest.raises(InputError, match="shift_limit, shift_order: expected 0 or more"):
        PerturbationOptions(**options)
