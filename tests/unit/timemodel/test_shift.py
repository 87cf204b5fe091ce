"""The shifted PRF as parts and mix."""

import numpy as np
from moving_star import SCALE, gaussian, path, shifted, square, still

from bayesprf.scene.pairs import PairTable
from bayesprf.timemodel.shift import FieldMotion, MovedPrf, ShiftGrid, build_shift


def test_parts_and_mix_are_the_shifted_prf():
    motion, pairs = path(), square()
    shift = build_shift(motion, MovedPrf(gaussian, np.zeros((1, 2)), still()), pairs, mean=gaussian, scale=SCALE)
    found = shift.mix @ (shift.factors(pairs) * gaussian(pairs.source, pairs.dx, pairs.dy))
    assert np.abs(found - shifted(motion, pairs)).max() < 1e-3 * gaussian(0, 0.0, 0.0)
    assert found.min() > -2e-4 * gaussian(0, 0.0, 0.0)
    assert shift.mix.shape[1] < 20 < shift.grid.nodes.shape[0]
    assert np.all(np.diff(shift.size) < 0)


def test_no_motion_takes_one_part():
    pairs = square()
    motion = np.zeros((5, 2))
    shift = build_shift(motion, MovedPrf(gaussian, np.zeros((1, 2)), still()), pairs, mean=gaussian, scale=SCALE)
    assert shift.mix.shape == (5, 1)
    prf = gaussian(pairs.source, pairs.dx, pairs.dy)
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
    expected = np.stack([gaussian(0, *(-factor * grid.nodes.T)) for factor in (1.2, 0.8)], axis=1)
    np.testing.assert_allclose(values, expected)


def test_the_sum_over_the_pixels_is_the_same_at_all_shifts():
    """Of a PRF whose sum follows the pixel phase by 2 %: a light curve would follow the motion."""

    def uneven(source, dx, dy):
        return gaussian(source, dx, dy) * (1.0 + 0.02 * np.cos(2.0 * np.pi * dx / SCALE))

    motion, pairs = path(), square()
    prf, axes = MovedPrf(uneven, np.zeros((1, 2)), still()), SCALE * np.eye(2)

    def total(**options):
        shift = build_shift(motion, prf, pairs, mean=uneven, scale=SCALE, **options)
        parts = shift.factors(pairs) * uneven(pairs.source, pairs.dx, pairs.dy)
        return (shift.mix @ parts).sum(axis=1)

    even = total(sums=lambda grid: prf.plane_sums(grid, pairs, axes, 8 * SCALE))
    assert np.ptp(total()) > 0.03
    assert np.ptp(even) < 1e-3
