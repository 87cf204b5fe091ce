"""Smoothing: exact on cubics, deaf to noise, segment by segment."""

import numpy as np
import pytest

from bayesprf.design.smoothing import centre_segments, smooth_series
from bayesprf.errors import InputError


def test_cubics_pass_and_noise_is_averaged():
    time = np.arange(1000) * 0.02
    cubic = (time - 10) ** 3 / 1000 + time
    noise = np.random.default_rng(1).normal(size=(1000, 1))
    np.testing.assert_allclose(smooth_series(time, cubic[:, None], 1.0)[:, 0], cubic, atol=1e-7)
    # 50 cadences a knot: about one coefficient in 50 numbers, so the scatter falls by the root of that
    assert 0.1 < smooth_series(time, noise, 1.0).std() < 0.2


def test_segments_do_not_know_each_other():
    time = np.concatenate([np.arange(100) * 0.02, 10 + np.arange(100) * 0.02])
    step = np.repeat([[1.0], [5.0]], 100, axis=0)
    np.testing.assert_allclose(smooth_series(time, step, 0.5), step, atol=1e-6)


def test_gaps_in_a_series_are_filled():
    time = np.arange(200) * 0.02
    line = np.stack([time, 2 * time], axis=1)
    holes = line.copy()
    holes[20:24, 0] = np.nan
    np.testing.assert_allclose(smooth_series(time, holes, 0.5), line, atol=1e-6)


@pytest.mark.parametrize("n_time", [1, 2, 4])
def test_few_cadences_give_their_mean(n_time):
    values = np.arange(n_time, dtype=float)[:, None]
    np.testing.assert_allclose(smooth_series(np.arange(n_time) * 0.02, values, 1.0), values.mean())


def test_means_of_segments_are_taken_off():
    values = np.array([[1.0], [3.0], [np.nan], [10.0], [14.0]])
    np.testing.assert_allclose(centre_segments(values, np.array([0, 0, 0, 1, 1]))[:, 0], [-1, 1, 0, -2, 2])
    np.testing.assert_allclose(centre_segments(values)[:, 0], [-6, -4, 0, 3, 7])


def test_bad_scale_is_refused():
    with pytest.raises(InputError, match="smooth_time_scale: expected a finite number above 0"):
        smooth_series(np.arange(10.0), np.zeros((10, 1)), 0.0)
