"""Pairs of source and pixel, beside brute force over all of them."""

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.scene.pairs import build_pairs, offsets
from bayesprf.scene.sources import SourceTable


def test_pairs_are_those_of_brute_force(pixels, sources, pairs):
    dx, dy = offsets(pixels.ra_deg[None, :], pixels.dec_deg[None, :], sources.ra_deg[:, None], sources.dec_deg[:, None])
    near = np.hypot(dx, dy) < 12.0
    source, pixel = near.nonzero()
    np.testing.assert_array_equal(pairs.source, source)
    np.testing.assert_array_equal(pairs.pixel, pixel)
    np.testing.assert_allclose(pairs.dx, dx[near], atol=1e-9)
    np.testing.assert_allclose(pairs.r, np.hypot(dx, dy)[near], atol=1e-9)
    np.testing.assert_allclose(pairs.phi, np.arctan2(dy, dx)[near], atol=1e-6)
    np.testing.assert_array_equal(pairs.count_per_source(), near.sum(axis=1))


def test_distance_of_zero_is_a_pair(pairs):
    """PSFMachine, defect 25: explicit zeros are dropped from the sparse geometry."""
    own = pairs.r[pairs.source == 0]
    assert own.min() < 1e-6
    assert pairs.to_sparse(np.zeros(pairs.n_pair)).nnz == pairs.n_pair


def test_offsets_are_true_angles_and_wrap():
    dx, dy = offsets(np.array([0.001]), np.array([60.0]), np.array([359.999]), np.array([60.0]))
    np.testing.assert_allclose([dx[0], dy[0]], [0.002 * 3600 * 0.5, 0.0], atol=1e-6)
    dx, _ = offsets(np.array([359.999]), np.array([60.0]), np.array([0.001]), np.array([60.0]))
    assert dx[0] == pytest.approx(-3.6, abs=1e-6)


def test_moved_pairs(pairs):
    shift = np.arange(14.0).reshape(7, 2)
    moved = pairs.moved(shift)
    np.testing.assert_allclose(moved.dx, pairs.dx - shift[pairs.source, 0])
    np.testing.assert_allclose(moved.dy, pairs.dy - shift[pairs.source, 1])
    np.testing.assert_allclose(pairs.shifted(1.0, -2.0).r, np.hypot(pairs.dx + 1.0, pairs.dy - 2.0))


def test_selected_pairs(pairs):
    chosen = pairs.select(pairs.source == 3)
    assert set(chosen.source) == {3}
    assert (chosen.n_source, chosen.n_pixel) == (pairs.n_source, pairs.n_pixel)
    assert chosen.to_sparse(chosen.r).shape == (7, 169)


def test_limit_must_be_positive(pixels, sources):
    with pytest.raises(InputError, match=r"^sparse_dist_lim: expected a finite number above 0, got 0"):
        build_pairs(pixels, sources, 0)


def test_no_pair_is_no_error(pixels):
    far = SourceTable(["far"], [100.0], [0.0], [1.0])
    empty = build_pairs(pixels, far, 12.0)
    assert empty.n_pair == 0
    assert empty.to_sparse(empty.r).shape == (1, 169)
