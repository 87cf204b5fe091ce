"""Columns of a relative change of the PRF: motion, and the sum over the pixel plane."""

import numpy as np
import pytest
from drifting_field import Scene, rms, simulate

from bayesprf.design.cartesian import CartesianBasis
from bayesprf.timemodel.gain import build_change, build_plane


@pytest.fixture(scope="module")
def scene():
    return Scene(simulate(2, None))


@pytest.fixture(scope="module")
def change(scene):
    basis = CartesianBasis(radius=8.0)
    return build_change(scene.field.pixels, scene.matrix, scene.evaluate, basis=basis, field_order=1)


def test_motion_and_its_square_are_the_relative_change_of_a_moved_star(scene, change):
    """Beside the true PRF moved by a fifth of a pixel, in the pixels that hold most of the light."""
    pairs = scene.pairs
    core = (scene.prf > 0.05) & (pairs.r < 6.0)
    place = pairs.source[core], pairs.dx[core], pairs.dy[core]
    first, second = change.motion(*place), change.bending(*place)
    u, v = 0.16, -0.12
    scale = scene.field.pixels.instrument.pixel_scale
    still = scene.evaluate(*place)
    truth = scene.evaluate(place[0], place[1] - u * scale, place[2] - v * scale) / still - 1.0
    linear = first @ [u, v]
    assert rms(truth - linear) < 0.15 * rms(truth)
    assert rms(truth - linear - second @ [u * u, u * v, v * v]) < 0.2 * rms(truth - linear)


def pixel_gaussian(axes, x, y, side):
    """Return a Gaussian over pixels of a side, arcsec, that is stretched by a matrix, but whose pixels are not."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    inverse = np.linalg.inv(axes)
    total = np.zeros_like(x)
    for east, first in zip(0.5 * side * nodes, 0.5 * weights, strict=True):
        for north, second in zip(0.5 * side * nodes, 0.5 * weights, strict=True):
            place = inverse @ np.stack([x + east, y + north])
            total += first * second * np.exp(-0.5 * np.sum(place**2, axis=0))
    return side**2 * total / (2.0 * np.pi * np.linalg.det(axes))


def test_stretch_is_the_relative_change_of_a_star_out_of_focus(scene):
    """Optics stretch by one per cent along both axes, along one, and askew; the pixel does not."""
    side = scene.field.pixels.instrument.pixel_scale
    optics = 0.6 * side * np.eye(2)
    change = build_change(
        scene.field.pixels,
        scene.matrix,
        lambda source, x, y: pixel_gaussian(optics, x, y, side),
        basis=CartesianBasis(radius=8.0),
        field_order=1,
    )
    x, y = (side * one.ravel() for one in np.meshgrid(np.arange(-2.0, 2.5, 0.5), np.arange(-2.0, 2.5, 0.5)))
    source = np.zeros(x.size, np.int64)
    columns = change.stretch(change.motion(source, x, y), change.bending(source, x, y), x, y)
    still = pixel_gaussian(optics, x, y, side)
    for weights, axes in (
        ([0.01, 0.0, 0.0], [[1.01, 0.0], [0.0, 1.01]]),
        ([0.005, 0.005, 0.0], [[1.01, 0.0], [0.0, 1.0]]),
        ([0.0, 0.0, 0.01], [[1.0, 0.01], [0.01, 1.0]]),
    ):
        truth = pixel_gaussian(np.array(axes) @ optics, x, y, side) - still
        # What a first order in the stretch, and in the square of the pixel over that of the optics, leaves.
        assert rms(truth - still * (columns @ weights)) < 0.05 * rms(truth)


def test_columns_are_splines_then_motion_times_powers_of_the_position_then_its_square_and_stretch(scene, change):
    pairs = scene.pairs
    place = pairs.source, pairs.dx, pairs.dy
    columns = change.columns(*place).toarray()
    assert columns.shape == (pairs.n_pair, change.n_column)
    assert change.powers == [(0, 0), (1, 0), (0, 1)]
    motion, position = change.motion(*place), change.position[pairs.source]
    powers = np.stack([np.ones(pairs.n_pair), *position.T])
    expected = [power * one for power in powers for one in motion.T]
    n = change.basis.n_column
    np.testing.assert_allclose(columns[:, n : n + 6], np.stack(expected, axis=1), rtol=1e-12, atol=1e-12)
    bending = change.bending(*place)
    np.testing.assert_allclose(columns[:, n + 6 : n + 9], bending, rtol=1e-12, atol=1e-12)
    stretch = change.stretch(motion, bending, *place[1:])
    np.testing.assert_allclose(columns[:, n + 9 :], stretch, rtol=1e-12, atol=1e-12)
    assert change.kind.tolist() == n * [0] + [1, 1] + 4 * [2] + 3 * [3] + 3 * [4]
    assert len(change.names) == change.n_column


def test_positions_are_scaled_to_the_field(scene, change):
    field = scene.field
    assert np.abs(change.position).max() <= 1.0
    slope = np.polyfit(field.column, change.position[:, 0], 1)[0]
    half = 0.5 * np.ptp(field.pixels.column)
    assert slope == pytest.approx(1.0 / max(half, 50.0), rel=0.02)


def test_mean_over_the_plane_is_weighted_by_the_prf(scene, change):
    """The unseen pixels fill up what the cutouts miss."""
    pairs = scene.pairs
    alone = build_plane(change, scene.field.pixels, pairs)
    columns = change.columns(pairs.source, pairs.dx, pairs.dy).toarray()
    weighted = np.stack([np.bincount(pairs.source, scene.prf * one, minlength=30) for one in columns.T], axis=1)
    expected = weighted / np.bincount(pairs.source, scene.prf, minlength=30)[:, None]
    np.testing.assert_allclose(alone.mean(scene.prf), expected, rtol=1e-10, atol=1e-12)
    plane = build_plane(change, scene.field.pixels, pairs, evaluate=scene.evaluate)
    seen = np.bincount(pairs.source, scene.prf, minlength=30)
    unseen = np.bincount(plane.source[pairs.n_pair :], plane.unseen, minlength=30)
    np.testing.assert_allclose(seen + unseen, 1.0, atol=0.06)
    motion = plane.mean(scene.prf)[:, : change.basis.n_column]
    assert np.abs(motion.sum(axis=1)).max() <= 1.0 + 1e-9


def test_plane_lies_around_the_star_where_that_lies_beside_the_pixels(scene, change):
    """Of pixels three columns away or more, and what is unseen, the sum is that of the PRF."""
    away = scene.pairs.dx > 3.0 * scene.field.pixels.instrument.pixel_scale
    pairs, seen = scene.pairs.select(away), scene.prf[away]
    plane = build_plane(change, scene.field.pixels, pairs, evaluate=scene.evaluate)
    sources = np.unique(pairs.source)
    assert sources.size > 10
    total = np.bincount(plane.source, np.append(seen, plane.unseen), minlength=30)[sources]
    np.testing.assert_allclose(total, 1.0, atol=0.06)
