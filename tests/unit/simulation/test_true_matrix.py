"""The true PRF of all stars in all pixels, still and moving."""

import numpy as np
import pytest

from bayesprf.simulation.fields import make_field


def _rng(seed=7):
    return np.random.default_rng(seed)


def test_design_holds_the_prf_at_the_true_positions():
    field = make_field(n_source=25, n_time=2, rng=_rng(), centroid_offset=(0.1, -0.2))
    design = field.true_design().tocoo()
    column = field.pixels.column[design.row] - field.column[design.col]
    row = field.pixels.row[design.row] - field.row[design.col]
    np.testing.assert_allclose(design.data, field.settings.prf.evaluate(column, row), rtol=1e-10)


def test_what_the_design_leaves_out_is_below_the_noise():
    field = make_field(n_source=25, n_time=1, rng=_rng())
    column = field.pixels.column[:, None] - field.column
    row = field.pixels.row[:, None] - field.row
    full = field.settings.prf.evaluate(column.ravel(), row.ravel()).reshape(column.shape) @ field.flux[0]
    missing = full - field.expected()[0]
    assert np.abs(missing).max() < 25 * field.settings.reach_level * field.settings.noise_floor


@pytest.mark.parametrize("size", [0.03, 0.22])
def test_drift_moves_the_prf(size):
    def drift(time):
        return size * np.stack([np.sin(3 * time), np.cos(2 * time)], axis=1)

    field = make_field(n_source=25, n_time=30, rng=_rng(), drift=drift, drift_differential=0.15)
    assert np.abs(field.shift.mean(axis=0)).max() < 1e-12
    for time in (0, 13, 29):
        design = field.true_design(time).tocoo()
        column = field.pixels.column[design.row] - field.column[design.col] - field.shift[time, design.col, 0]
        row = field.pixels.row[design.row] - field.row[design.col] - field.shift[time, design.col, 1]
        np.testing.assert_allclose(design.data, field.settings.prf.evaluate(column, row), rtol=1e-5)
        image = field.true_design(time) @ field.flux[time]
        np.testing.assert_allclose(field.expected(time, time + 1)[0], image, rtol=1e-9)
