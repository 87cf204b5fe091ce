"""Time columns: mean zero, segments, focus, and times that say little."""

import numpy as np
import pytest

from bayesprf.design.trends import (
    TrendOptions,
    build_trends,
    find_breaks,
    focus_decay,
    label_segments,
    whiten_time,
)
from bayesprf.errors import InputError, ShapeError

DAYS = np.arange(100) * 0.02


def gappy():
    """Three segments of 40, 30 and 30 cadences; the pause of four steps at 70 is not a gap, that of six is."""
    time = DAYS.copy()
    time[40:] += 0.02 * 5
    time[70:] += 0.02 * 6
    time[90:] += 0.02 * 3
    return time


def test_breaks_are_gaps_of_more_than_five_median_steps():
    np.testing.assert_array_equal(find_breaks(gappy()), [40, 70])
    np.testing.assert_array_equal(np.bincount(label_segments(gappy())), [40, 30, 30])


@pytest.mark.parametrize("time", [[1.0], [1.0, 1.0], [1.0, 2.0]])
def test_no_breaks_in_short_or_equal_times(time):
    assert find_breaks(np.array(time)).size == 0


def test_polynomial_spans_powers_of_time_up_to_the_order():
    trends = build_trends(DAYS + 2000.0, TrendOptions(poly_order=3))
    powers = (DAYS[:, None] - 1.0) ** np.arange(4)
    residual = powers - trends.columns @ np.linalg.lstsq(trends.columns, powers, rcond=None)[0]
    np.testing.assert_allclose(residual, 0.0, atol=1e-12)
    assert trends.names == ("constant", "time 1", "time 2", "time 3")
    assert np.linalg.cond(trends.columns) < 10


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("focus", [False, True])
def test_columns_have_mean_zero_over_the_used_cadences(segments, focus):
    used = np.ones(100, bool)
    used[[3, 4, 5, 50, 99]] = False
    others = np.stack([np.sin(gappy()), np.full(100, 7.0)], axis=1)
    trends = build_trends(gappy(), TrendOptions(3, segments, focus, 0.1), others=others, used=used)
    np.testing.assert_array_equal(trends.columns[:, 0], 1.0)
    np.testing.assert_allclose(trends.columns[used, 1:].mean(axis=0), 0.0, atol=1e-14)
    np.testing.assert_allclose(np.abs(trends.columns).max(axis=0), 1.0, atol=1e-14)
    assert not any("other 1" in name for name in trends.names)  # a constant is no column of its own


def test_segments_have_their_own_columns():
    trends = build_trends(gappy(), TrendOptions(2, True))
    assert trends.columns.shape == (100, 1 + 3 * 2 + 2)
    first = trends.columns[:, [trends.names.index("time 1, segment 0"), trends.names.index("time 2, segment 0")]]
    np.testing.assert_array_equal(first[40:], 0.0)
    step = np.where(label_segments(gappy()) == 1, 3.0, 1.0)
    residual = step - trends.columns @ np.linalg.lstsq(trends.columns, step, rcond=None)[0]
    np.testing.assert_allclose(residual, 0.0, atol=1e-12)


def test_focus_decays_from_the_start_of_every_segment():
    decay = focus_decay(gappy(), 0.2)
    np.testing.assert_allclose(decay[[0, 40, 70]], 1.0)
    np.testing.assert_allclose(decay[[10, 50, 80]], np.exp(-1.0))


@pytest.mark.parametrize("n_time", [1, 2, 3])
def test_short_series_get_no_more_columns_than_they_can_hold(n_time):
    trends = build_trends(np.arange(n_time, dtype=float), TrendOptions(3, True, True))
    assert np.linalg.matrix_rank(trends.columns) == min(trends.columns.shape)
    assert trends.columns.shape[1] <= n_time + (n_time > 1)
    if n_time == 1:
        np.testing.assert_array_equal(trends.columns, [[1.0]])


def test_equal_times_leave_the_constant_alone():
    np.testing.assert_array_equal(whiten_time(np.full(4, 3.0)), 0.0)
    assert build_trends(np.full(4, 3.0), TrendOptions()).columns.shape == (4, 1)


def test_nan_in_given_columns_reads_as_zero():
    others = np.array([[1.0], [np.nan], [-1.0], [0.5]])
    trends = build_trends(np.arange(4.0), TrendOptions(0), others=others, names=("roll",))
    expected = np.array([1.0, 0.0, -1.0, 0.5]) - 0.125
    np.testing.assert_allclose(trends.columns[:, 1], expected / 1.125)
    assert trends.names == ("constant", "roll")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poly_order": -1}, "poly_order: expected a whole number from 0 up"),
        ({"focus_exptime": 0.0}, "focus_exptime: expected"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TrendOptions(**options)


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeError, match="used: expected shape"):
        build_trends(DAYS, TrendOptions(), used=np.ones(3, bool))
    with pytest.raises(ShapeError, match="other_vectors: expected shape"):
        build_trends(DAYS, TrendOptions(), others=np.ones((3, 2)))
