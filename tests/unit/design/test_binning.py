"""Time binning: sizes, breaks, means and errors beside loops."""

import numpy as np
import pytest

from bayesprf.design.binning import bin_error, bin_mean, build_binning, choose_resolution
from bayesprf.errors import InputError

NO_BREAKS = np.zeros(0, np.int64)


@pytest.mark.parametrize("method", ["bin", "downsample"])
@pytest.mark.parametrize("resolution", [1, 3, 7, 200])
@pytest.mark.parametrize("breaks", [[], [10], [1, 50, 99]])
def test_rows_sum_to_one_and_no_bin_crosses_a_break(method, resolution, breaks):
    operator = build_binning(100, resolution, breaks=np.array(breaks, np.int64), method=method)
    np.testing.assert_allclose(operator.sum(axis=1), 1.0)
    segment = np.searchsorted(breaks, np.arange(100), side="right")
    for row in operator.toarray():
        assert np.unique(segment[row > 0]).size == 1
        assert np.count_nonzero(row) <= resolution + 1
    assert np.all(operator.sum(axis=0) > 0) or method == "downsample"


def test_sizes_of_bins():
    sizes = np.diff(build_binning(23, 5, breaks=np.array([11])).indptr)
    np.testing.assert_array_equal(sizes, [5, 5, 1, 5, 5, 2])
    np.testing.assert_array_equal(np.diff(build_binning(21, 5, breaks=NO_BREAKS).indptr), [5, 5, 5, 6])
    picked = build_binning(21, 5, breaks=NO_BREAKS, method="downsample").indices
    np.testing.assert_array_equal(picked, [0, 5, 10, 15, 20])


def test_mean_and_error_beside_loops():
    rng = np.random.default_rng(1)
    values, errors = rng.normal(size=(23, 4)), rng.uniform(1, 2, size=(23, 4))
    values[3, 1] = errors[3, 1] = np.nan
    values[10:15, 2] = errors[10:15, 2] = np.nan
    operator = build_binning(23, 5, breaks=NO_BREAKS)
    mean, error = bin_mean(operator, values), bin_error(operator, errors)
    for b, (start, stop) in enumerate([(0, 5), (5, 10), (10, 15), (15, 20), (20, 23)]):
        for p in range(4):
            good = np.isfinite(values[start:stop, p])
            if not good.any():
                assert np.isnan(mean[b, p])
                assert np.isnan(error[b, p])
                continue
            np.testing.assert_allclose(mean[b, p], values[start:stop, p][good].mean())
            expected = np.sqrt(np.sum(errors[start:stop, p][good] ** 2)) / good.sum()
            np.testing.assert_allclose(error[b, p], expected)


def test_any_number_of_axes_is_binned():
    operator = build_binning(6, 2, breaks=NO_BREAKS)
    np.testing.assert_allclose(bin_mean(operator, np.arange(6.0)), [0.5, 2.5, 4.5])
    assert bin_mean(operator, np.zeros((6, 2, 3))).shape == (3, 2, 3)
    assert bin_mean(operator, np.zeros((6, 0))).shape == (3, 0)


@pytest.mark.parametrize(
    ("n_time", "resolution", "expected"), [(4000, 200, 125), (4000, 50, 50), (500, 200, 15), (20, 200, 1), (1, 200, 1)]
)
def test_resolution_is_an_upper_bound(n_time, resolution, expected):
    assert choose_resolution(n_time, resolution, 32) == expected


def test_bad_options_are_refused():
    with pytest.raises(InputError, match="time_resolution: expected at least 1 cadence"):
        choose_resolution(100, 0, 10)
    with pytest.raises(InputError, match="bin_method: expected one of 'bin', 'downsample', got 'median'"):
        build_binning(10, 2, breaks=NO_BREAKS, method="median")
